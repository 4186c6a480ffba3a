//! The text and the binary form.

use portcullis_core::ir::form::{FORM_VERSION, MAX_VACANT};
use portcullis_core::ir::{ClassId, Id, Projection, ProjectionId, Snapshot};

use crate::CASES;
use crate::generate::{Rng, evolve, snapshot};

#[test]
fn text_and_bytes_give_the_snapshot_back() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let mut old = snapshot(&mut rng);
        for _ in 0..3 {
            let text = old.text().to_string();
            let read = Snapshot::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
            assert_eq!(read, old, "seed {seed}");
            assert_eq!(read.text().to_string(), text, "seed {seed}");
            let bytes = old.to_bytes();
            assert_eq!(bytes, old.to_bytes(), "seed {seed}: the bytes are not a function of the snapshot");
            let read = Snapshot::from_bytes(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(read, old, "seed {seed}");
            old = evolve(&old, &mut rng);
        }
    }
}

/// The smallest snapshot that has something of everything.
const SMALL: &str = r#"portcullis-ir 1
generation 3
addresses [
  10.0.0.0/24 c1
  fd00::7/128 c2
]
projections [
  j0 rows 1 []
  j2 rows 2 [c2 1]
]
programs [
  p0 v4 source j0 destination j0 columns 1 [t0] v6 source j2 destination j0 columns 1 [t0 t1]
]
tables [
  t0 other d0 []
  t1 other d1 [6 [to 1023 [to 65535 d1] to 65535 [to 79 d0 to 80 d2 to 65535 d0]]]
]
decisions [
  d0 deny tier-default "default" "NetworkPolicy" "shop" "db" logs [] l7 -
  d1 allow profile "kns.shop" 0 logs ["GlobalNetworkPolicy" - "log \"it\"" tier "default" egress 4] l7 -
  d2 inspect rule "NetworkPolicy" "shop" "db" tier "default" ingress 0 logs [] l7 l0
  d3 allow rule "NetworkPolicy" "shop" "db" tier "default" ingress 0 logs [] l7 -
]
l7 [
  l0 [identities [and [eq service-account "app" "web" not has namespace "env"]] http methods ["GET"] paths [exact "/a" prefix "/b"] decide d3 identities [] http - decide d0]
]
endpoints [
  workload "shop" "db-0" enforced [workload-ingress p0 workload-egress p0] staged -
  host - "node\u{a}one" enforced [host-ingress p0 host-egress p0 forward-ingress p0 forward-egress p0 pre-dnat p0 untracked-ingress p0 untracked-egress p0] staged -
]
identities [
  "shop" ["env" "prod"] accounts ["web" ["app" "web"]]
]
"#;

#[test]
fn the_text_form_is_pinned() {
    let snapshot = Snapshot::parse(SMALL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(snapshot.text().to_string(), SMALL);
    assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()).as_ref(), Ok(&snapshot));
    let empty = Snapshot::new();
    assert_eq!(Snapshot::parse(&empty.text().to_string()), Ok(empty.clone()));
    assert_eq!(Snapshot::from_bytes(&empty.to_bytes()), Ok(empty));
}

#[test]
fn bytes_that_were_cut_or_changed_are_refused() {
    let bytes = Snapshot::parse(SMALL).unwrap().to_bytes();
    for end in 0..bytes.len() {
        assert!(Snapshot::from_bytes(&bytes[..end]).is_err(), "cut to {end} bytes");
    }
    for at in 0..bytes.len() {
        for flip in [1u8, 0x40, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(Snapshot::from_bytes(&damaged).is_err(), "byte {at} xor {flip}");
        }
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Snapshot::from_bytes(&longer).is_err());
}

/// Damage that the hash does not find, because it is made before it: each prefix and each changed byte is read or
/// refused, never a panic, and what is read passes the verifier and comes back the same.
#[test]
fn forged_bytes_do_no_harm() {
    let bytes = Snapshot::parse(SMALL).unwrap().to_bytes();
    let content = &bytes[..bytes.len() - 8];
    let mut read = 0;
    for at in 6..content.len() {
        for value in [0, 1, 2, 3, 4, 6, 10, 0x7f, 0x80, 0xff] {
            let mut forged = content.to_vec();
            forged[at] = value;
            if let Ok(snapshot) = Snapshot::from_bytes(&seal(forged)) {
                read += 1;
                assert_eq!(snapshot.verify(), Ok(()));
                assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()), Ok(snapshot));
            }
        }
        assert!(Snapshot::from_bytes(&seal(content[..at].to_vec())).is_err(), "cut to {at} bytes");
    }
    assert!(read > 100, "only {read} of the changes were read");
}

fn seal(mut content: Vec<u8>) -> Vec<u8> {
    let hash = content.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    content.extend(hash.to_le_bytes());
    content
}

#[test]
fn errors_say_where_and_why() {
    let broken = |from: &str, to: &str| {
        let text = SMALL.replacen(from, to, 1);
        assert_ne!(text, SMALL, "{from}");
        Snapshot::parse(&text).unwrap_err()
    };
    for (from, to, line, says) in [
        ("portcullis-ir 1", "portcullis-ir 2", 1, "version 2 is not known, only 1"),
        ("generation 3", "generation 03", 2, "expected a number"),
        ("generation 3", "generatio 3", 2, "expected `generation`, found `generatio`"),
        ("10.0.0.0/24", "10.0.0.1/24", 4, "expected a network"),
        ("10.0.0.0/24 c1", "10.0.0.0/24 d1", 4, "expected an id that starts with `c`"),
        ("fd00::7/128", "10.0.0.0/24", 5, "not in order, or one is given twice"),
        ("j2 rows", "j0 rows", 9, "not in order, or one is given twice"),
        ("j2 rows", "j4000000 rows", 9, "too many ids before it vacant"),
        ("j2 rows", "j99999999999 rows", 9, "expected an id"),
        ("to 1023 [", "to 65536 [", 16, "expected a number up to 65535, found `65536`"),
        ("d0 deny", "d0 reject", 19, "expected one of `allow`, `deny`, `continue`, `inspect`"),
        ("\"default\" \"Net", "default \"Net", 19, "expected a text in quotes"),
        ("log \\\"it", "log \\\"i\\t", 20, "unknown escape"),
        ("workload-egress p0]", "workload-ingress p0]", 28, "not in order, or one is given twice"),
        ("\"env\" \"prod\"] accounts", "\"env\" \"prod\"] accounts ] ", 32, "expected `[`, found `]`"),
    ] {
        let error = broken(from, to);
        assert_eq!(error.line(), Some(line), "{from}: {error}");
        assert!(error.to_string().contains(says), "{from}: {error}");
    }
    // Well written and wrong: the verifier speaks.
    let error = broken("[t0 t1]", "[t0 t7]");
    assert_eq!((error.line(), error.offset()), (None, None));
    let left_over = Snapshot::parse(&format!("{SMALL} x")).unwrap_err();
    assert_eq!(left_over.to_string(), "34:2: expected the end of the text");
    let cut = Snapshot::parse(SMALL.trim_end().strip_suffix(']').unwrap()).unwrap_err();
    assert!(cut.to_string().contains("found the end"), "{cut}");
    let version = FORM_VERSION + 1;
    let mut other = Snapshot::new().to_bytes();
    other[4] = u8::try_from(version).unwrap();
    let error = Snapshot::from_bytes(&other).unwrap_err();
    assert_eq!(error.to_string(), format!("byte 6: version {version} is not known, only {FORM_VERSION}"));
}

#[test]
fn what_is_read_takes_memory_in_proportion() {
    // Deep expressions and distant ids are refused before they cost anything.
    let deep = "not ".repeat(100_000);
    let text = SMALL.replace("[and [eq", &format!("[and [{deep} eq"));
    assert!(Snapshot::parse(&text).unwrap_err().to_string().contains("too deep"));
    let mut sparse = Snapshot::new();
    sparse.projections.put(ProjectionId::new(0), Projection::trivial());
    let mut far = Projection { rows: 2, ..Projection::trivial() };
    far.row_of.insert(ClassId::new(1), 1);
    sparse.projections.put(ProjectionId::new(MAX_VACANT + 1), far);
    assert!(Snapshot::parse(&sparse.text().to_string()).is_ok());
    assert!(Snapshot::from_bytes(&sparse.to_bytes()).is_ok());
}
