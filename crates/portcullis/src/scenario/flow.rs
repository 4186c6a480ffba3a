//! Flows as people and programs write them: one JSON object a line.

mod error;
mod json;
mod list;
mod port;
#[cfg(test)]
mod tests;

use serde_json::value::RawValue;

use portcullis_core::net::IpVersion;
use portcullis_core::packet::{HttpRequest, Icmp, Protocol};
use portcullis_core::verdict::Verdict;

use super::peer::Peer;

pub use error::FlowError;
pub use json::parse_protocol;
pub use list::{FlowFormat, FlowListError, ListedFlow};
pub use port::Port;

/// A question: may `from` open this connection to `to`?
///
/// # JSON
///
/// | field | type | default |
/// |---|---|---|
/// | `id` | any JSON value | `null`; echoed in the answer byte for byte |
/// | `from`, `to` | text, see [`Peer`] | required |
/// | `protocol` | `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, `UDPLite` in any case, or 0 to 255 | `TCP` |
/// | `port` | destination port, 0 to 65535, or its name; for a service the port of the service, else the port after DNAT | every port, 1 to 65535 |
/// | `sourcePort` | 0 to 65535 | an ephemeral port, 32768 to 60999 |
/// | `icmpType`, `icmpCode` | 0 to 255 | echo request: 8 and 0 for ICMP, 128 and 0 for ICMPv6 |
/// | `family` | 4 or 6 | see [`Evaluator::plan`](super::Evaluator::plan) |
/// | `principal` | text: the authenticated identity of the source, a SPIFFE id | none |
/// | `http` | `{"method": text, "path": text}` | none |
/// | `expect` | `allow`, `deny` or `inspect`: the verdict that the author of the flow expects | none |
///
/// Ports are ignored for protocols without ports, and ICMP fields for protocols other than the two ICMPs. A type
/// without a code has code 0. `null` is the same as leaving an optional field out. Unknown and repeated fields are
/// refused.
///
/// ```
/// use portcullis::scenario::Flow;
///
/// let flow = Flow::from_json(r#"{"from": "a/client", "to": "a/server", "port": 80}"#)?;
/// assert_eq!(flow.to().to_string(), "a/server");
/// let error = Flow::from_json(r#"{"from": "a/client", "to": "a/server", "port": 70000}"#).unwrap_err();
/// assert_eq!(error.to_string(), "port: `70000` is not a whole number from 0 to 65535");
/// # Ok::<(), portcullis::scenario::FlowError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Flow {
    id: Option<Box<RawValue>>,
    from: Peer,
    to: Peer,
    protocol: Protocol,
    port: Option<Port>,
    source_port: Option<u16>,
    icmp: Option<Icmp>,
    family: Option<IpVersion>,
    principal: Option<Box<str>>,
    http: Option<HttpRequest>,
    expect: Option<Verdict>,
}

impl Flow {
    /// A flow to every TCP port.
    #[must_use]
    pub fn new(from: Peer, to: Peer) -> Self {
        Self {
            id: None,
            from,
            to,
            protocol: Protocol::TCP,
            port: None,
            source_port: None,
            icmp: None,
            family: None,
            principal: None,
            http: None,
            expect: None,
        }
    }

    /// Reads one JSON object; the table above says what it may hold.
    ///
    /// # Errors
    /// The text is not such an object. The error names the field and the reason.
    pub fn from_json(text: &str) -> Result<Self, FlowError> {
        json::flow(text)
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the destination port: for a service the port of the service, else the port after destination NAT.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(Port::Number(port));
        self
    }

    /// Sets the destination port by the name that the service or the destination's containers give it.
    #[must_use]
    pub fn with_port_name(mut self, name: &str) -> Self {
        self.port = Some(Port::Name(name.into()));
        self
    }

    /// Sets the source port.
    #[must_use]
    pub fn with_source_port(mut self, port: u16) -> Self {
        self.source_port = Some(port);
        self
    }

    /// Sets the ICMP type and code.
    #[must_use]
    pub fn with_icmp(mut self, kind: u8, code: u8) -> Self {
        self.icmp = Some(Icmp { kind, code });
        self
    }

    /// Sets the address family.
    #[must_use]
    pub fn with_family(mut self, family: IpVersion) -> Self {
        self.family = Some(family);
        self
    }

    /// Sets the authenticated identity of the source.
    #[must_use]
    pub fn with_principal(mut self, principal: &str) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// Sets the HTTP request.
    #[must_use]
    pub fn with_http(mut self, request: HttpRequest) -> Self {
        self.http = Some(request);
        self
    }

    /// Sets the verdict that the author of the flow expects.
    #[must_use]
    pub const fn with_expect(mut self, verdict: Verdict) -> Self {
        self.expect = Some(verdict);
        self
    }

    /// The JSON text of the id, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.raw_id().map(RawValue::get)
    }

    pub(super) fn raw_id(&self) -> Option<&RawValue> {
        self.id.as_deref()
    }

    /// Where the flow starts.
    #[must_use]
    pub const fn from(&self) -> &Peer {
        &self.from
    }

    /// Where the flow ends.
    #[must_use]
    pub const fn to(&self) -> &Peer {
        &self.to
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The destination port; `None` asks about every port.
    #[must_use]
    pub const fn port(&self) -> Option<&Port> {
        self.port.as_ref()
    }

    /// The source port; `None` is an ephemeral port.
    #[must_use]
    pub const fn source_port(&self) -> Option<u16> {
        self.source_port
    }

    /// The ICMP type and code; for the two ICMPs, echo request when not given.
    #[must_use]
    pub const fn icmp(&self) -> Option<Icmp> {
        match self.protocol {
            Protocol::ICMP | Protocol::ICMPV6 if self.icmp.is_some() => self.icmp,
            Protocol::ICMP => Some(Icmp { kind: 8, code: 0 }),
            Protocol::ICMPV6 => Some(Icmp { kind: 128, code: 0 }),
            _ => None,
        }
    }

    /// The family the flow asks for.
    #[must_use]
    pub const fn family(&self) -> Option<IpVersion> {
        self.family
    }

    /// The authenticated identity of the source; empty text when the proxy saw plain text.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// The HTTP request.
    #[must_use]
    pub const fn http(&self) -> Option<&HttpRequest> {
        self.http.as_ref()
    }

    /// The verdict that the author of the flow expects; see [`Answer::meets`](super::Answer::meets).
    #[must_use]
    pub const fn expect(&self) -> Option<Verdict> {
        self.expect
    }
}
