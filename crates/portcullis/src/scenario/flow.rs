//! Flows as people and programs write them: one JSON object a line.

use core::error::Error;
use core::fmt;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use portcullis_core::net::IpVersion;
use portcullis_core::packet::{HttpRequest, Icmp, Protocol};

use super::peer::Peer;
use super::text::quoted;

/// A question: may `from` open this connection to `to`?
///
/// # JSON
///
/// | field | type | default |
/// |---|---|---|
/// | `id` | any JSON value | `null`; echoed in the answer byte for byte |
/// | `from`, `to` | text, see [`Peer`] | required |
/// | `protocol` | `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, `UDPLite` in any case, or 0 to 255 | `TCP` |
/// | `port` | destination port after DNAT, 0 to 65535 | 0, which no rule can name |
/// | `sourcePort` | 0 to 65535 | 0, which no rule can name |
/// | `icmpType`, `icmpCode` | 0 to 255 | echo request: 8 and 0 for ICMP, 128 and 0 for ICMPv6 |
/// | `family` | 4 or 6 | see [`Evaluator::resolve`](super::Evaluator::resolve) |
/// | `principal` | text: the authenticated identity of the source, a SPIFFE id | none |
/// | `http` | `{"method": text, "path": text}` | none |
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
    port: u16,
    source_port: u16,
    icmp: Option<Icmp>,
    family: Option<IpVersion>,
    principal: Option<Box<str>>,
    http: Option<HttpRequest>,
}

impl Flow {
    /// A TCP flow without ports.
    #[must_use]
    pub fn new(from: Peer, to: Peer) -> Self {
        Self {
            id: None,
            from,
            to,
            protocol: Protocol::TCP,
            port: 0,
            source_port: 0,
            icmp: None,
            family: None,
            principal: None,
            http: None,
        }
    }

    /// Reads one JSON object; the table above says what it may hold.
    ///
    /// # Errors
    /// The text is not such an object. The error names the field and the reason.
    pub fn from_json(text: &str) -> Result<Self, FlowError> {
        let fields: Fields<'_> = object(text, "a JSON object with `from` and `to`")?;
        let mut flow = Self::new(peer("from", fields.from)?, peer("to", fields.to)?);
        flow.id = fields.id.map(ToOwned::to_owned);
        if let Some(raw) = fields.protocol {
            flow.protocol = protocol(raw)?;
        }
        flow.port = number("port", fields.port)?.unwrap_or_default();
        flow.source_port = number("sourcePort", fields.source_port)?.unwrap_or_default();
        let kind = number("icmpType", fields.icmp_type)?;
        let code = number("icmpCode", fields.icmp_code)?;
        flow.icmp = match (kind, code) {
            (Some(kind), code) => Some(Icmp { kind, code: code.unwrap_or_default() }),
            (None, Some(_)) => return Err(FlowError::new("icmpCode", "needs `icmpType` beside it")),
            (None, None) => None,
        };
        flow.family = match fields.family.map(RawValue::get) {
            None => None,
            Some("4") => Some(IpVersion::V4),
            Some("6") => Some(IpVersion::V6),
            Some(other) => {
                return Err(FlowError::new("family", format!("{} is neither 4 nor 6", quoted(other))));
            }
        };
        flow.principal = fields.principal.map(|raw| text_of("principal", raw)).transpose()?.map(Into::into);
        flow.http = fields.http.map(http).transpose()?;
        Ok(flow)
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the destination port, as it is after destination NAT.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the source port.
    #[must_use]
    pub fn with_source_port(mut self, port: u16) -> Self {
        self.source_port = port;
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

    /// The destination port; 0 when not given.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The source port; 0 when not given.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
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
}

/// Reads a protocol as flows write it: a name of [`Protocol::from_name`] in any case, or a number.
///
/// # Errors
/// `text` is neither.
pub fn parse_protocol(text: &str) -> Result<Protocol, FlowError> {
    let known = ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite"];
    let named = known.into_iter().find(|name| name.eq_ignore_ascii_case(text)).and_then(Protocol::from_name);
    let numbered = || text.parse().ok().filter(|_| is_digits(text)).map(Protocol);
    named.or_else(numbered).ok_or_else(|| {
        let reason = format!(
            "{} is not a protocol; expected TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number from 0 to 255",
            quoted(text)
        );
        FlowError::new("protocol", reason)
    })
}

/// Why a flow cannot be evaluated.
///
/// Prints as `field: reason`, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError {
    field: Option<&'static str>,
    reason: String,
}

impl FlowError {
    pub(super) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field: Some(field), reason: reason.into() }
    }

    fn json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = text.strip_suffix(&place).unwrap_or(&text);
        let reason = match error.classify() {
            Category::Eof => String::from("not a JSON object: the line ends too early"),
            Category::Syntax => format!("not a JSON object: {message} at column {}", error.column()),
            Category::Data | Category::Io => message.to_owned(),
        };
        Self { field: None, reason: reason.chars().flat_map(escape_control).collect() }
    }

    /// The field, when one is to blame.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        self.field
    }

    /// The reason alone.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl Error for FlowError {}

/// The fields as they stand in the text. Their values are read later, so that errors can name the field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    from: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to: Option<&'a RawValue>,
    #[serde(borrow, default)]
    protocol: Option<&'a RawValue>,
    #[serde(borrow, default)]
    port: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source_port: Option<&'a RawValue>,
    #[serde(borrow, default)]
    icmp_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    icmp_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    family: Option<&'a RawValue>,
    #[serde(borrow, default)]
    principal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    http: Option<&'a RawValue>,
}

/// The fields of `http`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpFields<'a> {
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    path: Option<&'a RawValue>,
}

/// The fields of a JSON object. A list is not one, though serde would take its items for the fields in order.
fn object<'a, T: Deserialize<'a>>(text: &'a str, expected: &str) -> Result<T, FlowError> {
    if text.trim_start().starts_with('[') {
        return Err(FlowError { field: None, reason: format!("a list where {expected} is expected") });
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data if !text.trim_start().starts_with('{') => {
            FlowError { field: None, reason: format!("{} is not {expected}", quoted(text)) }
        }
        _ => FlowError::json(&error),
    })
}

fn peer(field: &'static str, raw: Option<&RawValue>) -> Result<Peer, FlowError> {
    let raw = raw.ok_or_else(|| FlowError::new(field, "required, and missing"))?;
    let text = text_of(field, raw)?;
    text.parse().map_err(|error: super::PeerError| FlowError::new(field, error.to_string()))
}

fn protocol(raw: &RawValue) -> Result<Protocol, FlowError> {
    if raw.get().starts_with('"') {
        parse_protocol(&text_of("protocol", raw)?)
    } else if is_digits(raw.get()) {
        parse_protocol(raw.get())
    } else {
        let reason = format!("{} is neither a name nor a number from 0 to 255", quoted(raw.get()));
        Err(FlowError::new("protocol", reason))
    }
}

fn http(raw: &RawValue) -> Result<HttpRequest, FlowError> {
    let fields: HttpFields<'_> = object(raw.get(), "an object with `method` and `path`")
        .map_err(|error| FlowError { field: Some("http"), ..error })?;
    let required = |field, raw: Option<&RawValue>| {
        let raw = raw.ok_or_else(|| FlowError::new(field, "required with `http`, and missing"))?;
        text_of(field, raw)
    };
    let method = required("http.method", fields.method)?.into();
    let path = required("http.path", fields.path)?.into();
    Ok(HttpRequest { method, path })
}

fn text_of(field: &'static str, raw: &RawValue) -> Result<String, FlowError> {
    serde_json::from_str(raw.get())
        .map_err(|_| FlowError::new(field, format!("{} is not a text in double quotes", quoted(raw.get()))))
}

/// A whole number that fits in `N`, which is `u8` or `u16`.
fn number<N: TryFrom<u64> + Bounded>(
    field: &'static str,
    raw: Option<&RawValue>,
) -> Result<Option<N>, FlowError> {
    let Some(raw) = raw.map(RawValue::get) else { return Ok(None) };
    let value: Option<u64> = raw.parse().ok().filter(|_| is_digits(raw));
    match value.and_then(|value| N::try_from(value).ok()) {
        Some(value) => Ok(Some(value)),
        None => {
            let reason = format!("{} is not a whole number from 0 to {}", quoted(raw), N::MAX);
            Err(FlowError::new(field, reason))
        }
    }
}

/// The largest value of a type, for messages.
trait Bounded {
    const MAX: u64;
}

impl Bounded for u8 {
    const MAX: u64 = 255;
}

impl Bounded for u16 {
    const MAX: u64 = 65_535;
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn escape_control(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_read() {
        let flow = Flow::from_json(
            r#"{"id": {"n": 1.50}, "from": "a/b", "to": "10.0.0.1", "protocol": "UDP", "port": 53,
                "sourcePort": 1024, "icmpType": 3, "icmpCode": 4, "family": 4,
                "principal": "spiffe://x/ns/a/sa/b", "http": {"method": "GET", "path": "/x"}}"#,
        )
        .unwrap();
        assert_eq!(flow.id(), Some(r#"{"n": 1.50}"#));
        assert_eq!(flow.from().to_string(), "a/b");
        assert_eq!(flow.to().to_string(), "10.0.0.1");
        assert_eq!((flow.protocol(), flow.port(), flow.source_port()), (Protocol::UDP, 53, 1024));
        assert_eq!(flow.icmp(), None, "UDP has no ICMP fields");
        assert_eq!(flow.family(), Some(IpVersion::V4));
        assert_eq!(flow.principal(), Some("spiffe://x/ns/a/sa/b"));
        assert_eq!(flow.http().map(|http| (&*http.method, &*http.path)), Some(("GET", "/x")));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let flow = Flow::from_json(r#"{"from": "a/b", "to": "a/c"}"#).unwrap();
        let same = |a: &Flow, b: &Flow| format!("{a:?}") == format!("{b:?}");
        assert!(same(&flow, &Flow::new("a/b".parse().unwrap(), "a/c".parse().unwrap())));
        assert_eq!((flow.protocol(), flow.port(), flow.id()), (Protocol::TCP, 0, None));
        let nulls =
            r#"{"from": "a/b", "to": "a/c", "id": null, "protocol": null, "port": null, "http": null}"#;
        assert!(same(&Flow::from_json(nulls).unwrap(), &flow));
    }

    #[test]
    fn protocols_are_names_or_numbers() {
        let of = |protocol: &str| {
            let line = format!(r#"{{"from": "a/b", "to": "a/c", "protocol": {protocol}}}"#);
            Flow::from_json(&line)
                .map(|flow| (flow.protocol().0, flow.icmp().map(|icmp| (icmp.kind, icmp.code))))
        };
        for (text, number) in [
            (r#""TCP""#, 6),
            (r#""UDP""#, 17),
            (r#""SCTP""#, 132),
            (r#""UDPLite""#, 136),
            (r#""tcp""#, 6),
            ("0", 0),
            ("47", 47),
            ("255", 255),
            (r#""47""#, 47),
        ] {
            assert_eq!(of(text), Ok((number, None)), "{text}");
        }
        assert_eq!(of(r#""ICMP""#), Ok((1, Some((8, 0)))));
        assert_eq!(of("58"), Ok((58, Some((128, 0)))));
    }

    #[test]
    fn an_icmp_type_alone_has_code_0() {
        let flow =
            Flow::from_json(r#"{"from": "a/b", "to": "a/c", "protocol": "ICMP", "icmpType": 3}"#).unwrap();
        assert_eq!(flow.icmp(), Some(Icmp { kind: 3, code: 0 }));
    }

    #[test]
    fn each_kind_of_bad_flow_is_named() {
        let with = |rest: &str| format!(r#"{{"from": "a/b", "to": "a/c", {rest}}}"#);
        for (line, want) in [
            (String::from("{}"), "from: required, and missing"),
            (r#"{"from": "a/b"}"#.into(), "to: required, and missing"),
            (r#"{"from": null, "to": "a/b"}"#.into(), "from: required, and missing"),
            (r#"{"from": 1, "to": "a/b"}"#.into(), "from: `1` is not a text in double quotes"),
            (
                r#"{"from": "a", "to": "a/b"}"#.into(),
                "from: `a` is not a peer; expected namespace/pod, an IP address, node/NAME, hep/NAME or \
                 set/[NAMESPACE/]NAME",
            ),
            (with(r#""port": 65536"#), "port: `65536` is not a whole number from 0 to 65535"),
            (with(r#""port": -1"#), "port: `-1` is not a whole number from 0 to 65535"),
            (with(r#""port": 80.0"#), "port: `80.0` is not a whole number from 0 to 65535"),
            (with(r#""port": 8e1"#), "port: `8e1` is not a whole number from 0 to 65535"),
            (with(r#""port": "80""#), "port: `\"80\"` is not a whole number from 0 to 65535"),
            (
                with(r#""port": 99999999999999999999"#),
                "port: `99999999999999999999` is not a whole number from 0 to 65535",
            ),
            (with(r#""sourcePort": true"#), "sourcePort: `true` is not a whole number from 0 to 65535"),
            (with(r#""icmpType": 256"#), "icmpType: `256` is not a whole number from 0 to 255"),
            (with(r#""icmpCode": 0"#), "icmpCode: needs `icmpType` beside it"),
            (
                with(r#""protocol": "HTTP""#),
                "protocol: `HTTP` is not a protocol; expected TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number \
                 from 0 to 255",
            ),
            (
                with(r#""protocol": 256"#),
                "protocol: `256` is not a protocol; expected TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number \
                 from 0 to 255",
            ),
            (with(r#""protocol": 6.0"#), "protocol: `6.0` is neither a name nor a number from 0 to 255"),
            (with(r#""protocol": []"#), "protocol: `[]` is neither a name nor a number from 0 to 255"),
            (with(r#""family": 5"#), "family: `5` is neither 4 nor 6"),
            (with(r#""family": "4""#), "family: `\"4\"` is neither 4 nor 6"),
            (with(r#""principal": 1"#), "principal: `1` is not a text in double quotes"),
            (with(r#""http": {"method": "GET"}"#), "http.path: required with `http`, and missing"),
            (with(r#""http": {"path": "/"}"#), "http.method: required with `http`, and missing"),
            (
                with(r#""http": {"method": 1, "path": "/"}"#),
                "http.method: `1` is not a text in double quotes",
            ),
            (
                with(r#""http": {"method": "GET", "path": "/", "host": "x"}"#),
                "http: unknown field `host`, expected `method` or `path`",
            ),
            (with(r#""http": "GET /""#), "http: `\"GET /\"` is not an object with `method` and `path`"),
            (with(r#""port": 1, "port": 2"#), "duplicate field `port`"),
            (
                with(r#""dport": 80"#),
                "unknown field `dport`, expected one of `id`, `from`, `to`, `protocol`, `port`, `sourcePort`, \
                 `icmpType`, `icmpCode`, `family`, `principal`, `http`",
            ),
            ("[]".into(), "a list where a JSON object with `from` and `to` is expected"),
            ("3".into(), "`3` is not a JSON object with `from` and `to`"),
            (r#"{"from": "a/b","#.into(), "not a JSON object: the line ends too early"),
            (String::new(), "not a JSON object: the line ends too early"),
            ("hello".into(), "not a JSON object: expected value at column 1"),
            (
                r#"{"from": "a/b", "to": "a/c"} x"#.into(),
                "not a JSON object: trailing characters at column 30",
            ),
        ] {
            assert_eq!(Flow::from_json(&line).unwrap_err().to_string(), want, "{line}");
        }
    }

    #[test]
    fn an_id_keeps_its_spelling() {
        for id in [r#""a\u0041""#, "1e400", "12345678901234567890123", "[1, {\"a\":null}]", "-0"] {
            let line = format!(r#"{{"id": {id}, "from": "a/b", "to": "a/c"}}"#);
            assert_eq!(Flow::from_json(&line).unwrap().id(), Some(id));
        }
    }
}
