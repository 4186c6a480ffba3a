//! old + difference = new.

use crate::CASES;
use crate::generate::{self, Rng};

#[test]
fn a_difference_leads_from_old_to_new() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let old = generate::snapshot(&mut rng);
        // Neighbours, strangers, and the same under other names: ids come and go.
        let others = [
            generate::evolve(&old, &mut rng),
            generate::snapshot(&mut rng),
            generate::renamed(&old, &mut rng),
            portcullis_core::ir::Snapshot::new(),
        ];
        for new in others {
            for (from, to) in [(&old, &new), (&new, &old)] {
                let delta = from.diff(to);
                let mut applied = from.clone();
                applied.apply(&delta).unwrap();
                assert_eq!(&applied, to, "seed {seed}");
            }
        }
    }
}

#[test]
fn nothing_differs_from_itself() {
    for seed in 0..CASES {
        let snapshot = generate::snapshot(&mut Rng(seed));
        assert!(snapshot.diff(&snapshot).is_empty());
    }
}

#[test]
fn a_delta_names_only_what_changed() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let old = generate::snapshot(&mut rng);
        let mut new = old.clone();
        let net = "172.16.0.1/32".parse().unwrap();
        let class = portcullis_core::ir::Id::new(1);
        new.addresses.insert(net, class);
        let delta = old.diff(&new);
        assert_eq!(delta.addresses, [(net, Some(class))]);
        assert_eq!(portcullis_core::ir::Delta { addresses: Vec::new(), ..delta }, {
            portcullis_core::ir::Delta { from: old.generation, to: new.generation, ..Default::default() }
        });
    }
}

#[test]
fn a_delta_fits_one_generation() {
    let mut rng = Rng(1);
    let old = generate::snapshot(&mut rng);
    let new = generate::evolve(&old, &mut rng);
    let mut applied = new.clone();
    let error = applied.apply(&old.diff(&new)).unwrap_err();
    assert_eq!((error.expected, error.found), (old.generation, new.generation));
    assert_eq!(applied, new);
}
