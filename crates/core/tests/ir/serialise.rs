//! Snapshots and deltas through the feature `serde`.

use portcullis_core::ir::{Delta, Snapshot};

use crate::CASES;
use crate::generate::{Rng, evolve, snapshot};

#[test]
fn json_gives_snapshots_and_deltas_back() {
    for seed in 0..CASES / 4 {
        let mut rng = Rng(seed);
        let mut old = snapshot(&mut rng);
        for _ in 0..3 {
            let text = serde_json::to_string(&old).unwrap();
            assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), old, "seed {seed}");
            let new = evolve(&old, &mut rng);
            let delta = old.diff(&new);
            let text = serde_json::to_string(&delta).unwrap();
            assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), delta, "seed {seed}: {text}");
            old = new;
        }
    }
}

#[test]
fn a_snapshot_that_breaks_an_invariant_is_refused() {
    let broken = "portcullis-ir 1\ngeneration 1\naddresses [\n]\nprojections [\n  j0 rows 0 []\n]\nprograms [\n]\n\
                  tables [\n]\ndecisions [\n]\nl7 [\n]\nendpoints [\n]\nidentities [\n]\n";
    let read = serde_json::from_value::<Snapshot>(broken.into());
    let whole = broken.replace("rows 0", "rows 1");
    assert!(serde_json::from_value::<Snapshot>(whole.into()).is_ok());
    assert_eq!(read.unwrap_err().to_string(), Snapshot::parse(broken).unwrap_err().to_string());
}

#[test]
fn a_delta_out_of_order_is_refused() {
    let mut rng = Rng(7);
    let delta = Snapshot::new().diff(&snapshot(&mut rng));
    let mut value = serde_json::to_value(&delta).unwrap();
    assert!(serde_json::from_value::<Delta>(value.clone()).is_ok());
    let decisions = value["decisions"].as_array_mut().unwrap();
    assert!(decisions.len() > 1);
    decisions.swap(0, 1);
    let error = serde_json::from_value::<Delta>(value.clone()).unwrap_err();
    assert!(error.to_string().contains("not sorted"), "{error}");
    let decisions = value["decisions"].as_array_mut().unwrap();
    decisions[1] = decisions[0].clone();
    assert!(serde_json::from_value::<Delta>(value).is_err());
}
