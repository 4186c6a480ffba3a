//! Flows as JSON objects.

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use portcullis_core::net::IpVersion;
use portcullis_core::packet::{HttpRequest, Icmp, Protocol};
use portcullis_core::quote::quoted;
use portcullis_core::verdict::Verdict;

use super::port::PortError;
use super::{Flow, FlowError, Port};
use crate::scenario::peer::{Peer, PeerError};

/// Reads one flow.
pub(super) fn flow(text: &str) -> Result<Flow, FlowError> {
    let fields: Fields<'_> = object(text, "a JSON object with `from` and `to`")?;
    let mut flow = Flow::new(peer("from", fields.from)?, peer("to", fields.to)?);
    flow.id = fields.id.map(ToOwned::to_owned);
    if let Some(raw) = fields.protocol {
        flow.protocol = protocol(raw)?;
    }
    flow.port = fields.port.map(port).transpose()?;
    flow.source_port = number("sourcePort", fields.source_port)?;
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
    flow.expect = fields.expect.map(expect).transpose()?;
    Ok(flow)
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
    #[serde(borrow, default)]
    expect: Option<&'a RawValue>,
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
        return Err(FlowError::whole(format!("a list where {expected} is expected")));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data if !text.trim_start().starts_with('{') => {
            FlowError::whole(format!("{} is not {expected}", quoted(text)))
        }
        _ => FlowError::json(&error),
    })
}

fn peer(field: &'static str, raw: Option<&RawValue>) -> Result<Peer, FlowError> {
    let raw = raw.ok_or_else(|| FlowError::new(field, "required, and missing"))?;
    let text = text_of(field, raw)?;
    text.parse().map_err(|error: PeerError| FlowError::new(field, error.to_string()))
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
    let fields: HttpFields<'_> =
        object(raw.get(), "an object with `method` and `path`").map_err(|error| error.at("http"))?;
    let required = |field, raw: Option<&RawValue>| {
        let raw = raw.ok_or_else(|| FlowError::new(field, "required with `http`, and missing"))?;
        text_of(field, raw)
    };
    let method = required("http.method", fields.method)?.into();
    let path = required("http.path", fields.path)?.into();
    Ok(HttpRequest { method, path })
}

/// A number, or a text that is a name.
fn port(raw: &RawValue) -> Result<Port, FlowError> {
    if !raw.get().starts_with('"') {
        let number = number("port", Some(raw))?;
        return Ok(Port::Number(number.unwrap_or_default()));
    }
    let text = text_of("port", raw)?;
    match text.parse() {
        Ok(name @ Port::Name(_)) => Ok(name),
        Ok(Port::Number(number)) => {
            Err(FlowError::new("port", format!("{} is a text; write {number}", quoted(raw.get()))))
        }
        Err(error) => Err(FlowError::new("port", PortError::to_string(&error))),
    }
}

fn expect(raw: &RawValue) -> Result<Verdict, FlowError> {
    parse_verdict(&text_of("expect", raw)?)
}

/// The verdict that a flow expects.
fn parse_verdict(text: &str) -> Result<Verdict, FlowError> {
    match text {
        "allow" => Ok(Verdict::Allow),
        "deny" => Ok(Verdict::Deny),
        "inspect" => Ok(Verdict::Inspect),
        other => Err(FlowError::new(
            "expect",
            format!("{} is not one of `allow`, `deny`, `inspect`", quoted(other)),
        )),
    }
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
