//! Which classes follow which, over all addresses.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::ir::changes::ClassStep;
use crate::ir::{ClassId, Snapshot};
use crate::net::{Cidr, IpVersion};

/// An address as a number, whatever its family.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A prefix of either snapshot with the classes that hold in it where no longer one says otherwise.
struct Open {
    last: u128,
    step: ClassStep,
}

/// Every pair of classes that some address of the family has before and after.
///
/// Walks the prefixes of both snapshots in order of address. `next` is the first address that no step was noted for.
pub(super) fn class_steps(before: &Snapshot, after: &Snapshot, version: IpVersion) -> BTreeSet<ClassStep> {
    let nets: BTreeSet<Cidr> = before
        .addresses
        .keys()
        .chain(after.addresses.keys())
        .filter(|net| net.version() == version)
        .copied()
        .collect();
    // A net sorts by address first, so one that starts where another does must come after it: shorter ones first.
    let mut nets: Vec<Cidr> = nets.into_iter().collect();
    nets.sort_by_key(|net| (number(net.address()), net.prefix()));

    let end = match version {
        IpVersion::V4 => u128::from(u32::MAX),
        IpVersion::V6 => u128::MAX,
    };
    let outside = ClassStep { before: ClassId::UNKNOWN, after: ClassId::UNKNOWN };
    let mut open: Vec<Open> = alloc::vec![Open { last: end, step: outside }];
    let mut steps = BTreeSet::new();
    let mut next: Option<u128> = Some(0);
    for net in nets {
        let first = number(net.address());
        while open.last().is_some_and(|innermost| innermost.last < first) {
            if let Some(Open { last, step }) = open.pop() {
                close(last, step, &mut next, &mut steps);
            }
        }
        let Some(parent) = open.last().map(|innermost| innermost.step) else { break };
        if next.is_some_and(|next| next < first) {
            steps.insert(parent);
            next = Some(first);
        }
        let step = ClassStep {
            before: before.addresses.get(&net).copied().unwrap_or(parent.before),
            after: after.addresses.get(&net).copied().unwrap_or(parent.after),
        };
        open.push(Open { last: number(net.last_address()), step });
    }
    while let Some(Open { last, step }) = open.pop() {
        close(last, step, &mut next, &mut steps);
    }
    steps
}

/// Notes `step` when addresses up to `last` are left for it.
fn close(last: u128, step: ClassStep, next: &mut Option<u128>, steps: &mut BTreeSet<ClassStep>) {
    if next.is_some_and(|next| next <= last) {
        steps.insert(step);
        *next = last.checked_add(1);
    }
}
