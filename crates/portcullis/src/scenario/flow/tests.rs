//! What flows may hold, and how each fault is named.

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
    assert_eq!(
        (flow.protocol(), flow.port(), flow.source_port()),
        (Protocol::UDP, Some(&Port::Number(53)), Some(1024))
    );
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
    assert_eq!((flow.protocol(), flow.port(), flow.id()), (Protocol::TCP, None, None));
    let nulls = r#"{"from": "a/b", "to": "a/c", "id": null, "protocol": null, "port": null, "http": null}"#;
    assert!(same(&Flow::from_json(nulls).unwrap(), &flow));
}

#[test]
fn protocols_are_names_or_numbers() {
    let of = |protocol: &str| {
        let line = format!(r#"{{"from": "a/b", "to": "a/c", "protocol": {protocol}}}"#);
        Flow::from_json(&line).map(|flow| (flow.protocol().0, flow.icmp().map(|icmp| (icmp.kind, icmp.code))))
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
    let flow = Flow::from_json(r#"{"from": "a/b", "to": "a/c", "protocol": "ICMP", "icmpType": 3}"#).unwrap();
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
            "from: `a` is not a peer; expected namespace/pod, an IP address, node/NAME, hep/NAME, \
             set/[NAMESPACE/]NAME or svc/NAMESPACE/NAME",
        ),
        (with(r#""port": 65536"#), "port: `65536` is not a whole number from 0 to 65535"),
        (with(r#""port": -1"#), "port: `-1` is not a whole number from 0 to 65535"),
        (with(r#""port": 80.0"#), "port: `80.0` is not a whole number from 0 to 65535"),
        (with(r#""port": 8e1"#), "port: `8e1` is not a whole number from 0 to 65535"),
        (
            with(r#""port": "HTTP""#),
            "port: `HTTP` is neither a whole number from 0 to 65535 nor the name of a port",
        ),
        (with(r#""port": "80""#), "port: `\"80\"` is a text; write 80"),
        (
            with(r#""port": "70000""#),
            "port: `70000` is neither a whole number from 0 to 65535 nor the name of a port",
        ),
        (with(r#""expect": "open""#), "expect: `open` is not one of `allow`, `deny`, `inspect`"),
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
        (with(r#""http": {"method": 1, "path": "/"}"#), "http.method: `1` is not a text in double quotes"),
        (
            with(r#""http": {"method": "GET", "path": "/", "host": "x"}"#),
            "http: unknown field `host`, expected `method` or `path`",
        ),
        (with(r#""http": "GET /""#), "http: `\"GET /\"` is not an object with `method` and `path`"),
        (with(r#""port": 1, "port": 2"#), "duplicate field `port`"),
        (
            with(r#""dport": 80"#),
            "unknown field `dport`, expected one of `id`, `from`, `to`, `protocol`, `port`, `sourcePort`, \
             `icmpType`, `icmpCode`, `family`, `principal`, `http`, `expect`",
        ),
        ("[]".into(), "a list where a JSON object with `from` and `to` is expected"),
        ("3".into(), "`3` is not a JSON object with `from` and `to`"),
        (r#"{"from": "a/b","#.into(), "not a JSON object: the line ends too early"),
        (String::new(), "not a JSON object: the line ends too early"),
        ("hello".into(), "not a JSON object: expected value at column 1"),
        (r#"{"from": "a/b", "to": "a/c"} x"#.into(), "not a JSON object: trailing characters at column 30"),
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

#[test]
fn ports_are_numbers_or_names() {
    for (port, want) in [
        ("80", Port::Number(80)),
        (r#""http""#, Port::Name("http".into())),
        (r#""p-80""#, Port::Name("p-80".into())),
    ] {
        let line = format!(r#"{{"from": "a/b", "to": "a/c", "port": {port}}}"#);
        assert_eq!(Flow::from_json(&line).unwrap().port(), Some(&want), "{port}");
    }
}

#[test]
fn an_expectation_is_a_verdict() {
    for (text, want) in [("allow", Verdict::Allow), ("deny", Verdict::Deny), ("inspect", Verdict::Inspect)] {
        let line = format!(r#"{{"from": "a/b", "to": "a/c", "expect": "{text}"}}"#);
        assert_eq!(Flow::from_json(&line).unwrap().expect(), Some(want));
    }
    assert_eq!(Flow::from_json(r#"{"from": "a/b", "to": "a/c", "expect": null}"#).unwrap().expect(), None);
}

#[test]
fn messages_show_user_text_on_one_line() {
    let long = "long".repeat(1000);
    // As JSON writes them.
    for text in ["a\\nerror: b", "\\u001b[2J", "a\\u202enimda", "x\\u200b\\u2028y", &long] {
        for flow in [
            format!(r#"{{"from": "{text}", "to": "a/b"}}"#),
            format!(r#"{{"from": "a/b", "to": "a/b", "protocol": "{text}"}}"#),
            format!(r#"{{"from": "a/b", "to": "a/b", "port": "{text}"}}"#),
            format!(r#"{{"from": "a/b", "to": "a/b", "{text}": 1}}"#),
            format!(r#"{{"from": "a/b", "to": "a/b", "family": {text}}}"#),
            format!(r#"{{"from": "a/b", "to": "a/b", "expect": "{text}"}}"#),
        ] {
            let shown = Flow::from_json(&flow).unwrap_err().to_string();
            assert_eq!(portcullis_core::quote::escaped(&shown).to_string(), shown);
        }
    }
}
