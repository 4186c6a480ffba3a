//! Sets of ports.

use alloc::collections::BTreeSet;
use core::fmt;

/// A set of ports, as ranges that neither touch nor overlap, in order.
///
/// ```
/// use portcullis::scenario::PortSet;
///
/// let mut ports = PortSet::of(1, 79);
/// ports.extend(&PortSet::of(81, 65_535));
/// assert_eq!(ports.to_string(), "1-79, 81-65535");
/// ports.extend(&PortSet::of(80, 80));
/// assert_eq!(ports, PortSet::all());
/// assert_eq!(ports.to_string(), "1-65535");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    ranges: Vec<(u16, u16)>,
}

impl PortSet {
    /// The ports from `first` to `last`, both included; in either order.
    #[must_use]
    pub fn of(first: u16, last: u16) -> Self {
        Self { ranges: vec![(first.min(last), first.max(last))] }
    }

    /// Every port that a connection can have: 1 to 65535.
    #[must_use]
    pub fn all() -> Self {
        Self::of(1, u16::MAX)
    }

    /// Adds the ports of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.ranges.extend(&other.ranges);
        self.ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(self.ranges.len());
        for (first, last) in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        self.ranges = joined;
    }

    /// This set without single ports, as sets of one range each.
    pub(super) fn without(&self, ports: &BTreeSet<u16>) -> Vec<Self> {
        let mut left = Vec::new();
        for (first, last) in &self.ranges {
            let mut next = Some(*first);
            for port in ports.range(*first..=*last) {
                if let (Some(start), Some(end)) = (next, port.checked_sub(1))
                    && start <= end
                {
                    left.push(Self::of(start, end));
                }
                next = port.checked_add(1);
            }
            left.extend(next.filter(|start| start <= last).map(|start| Self::of(start, *last)));
        }
        left
    }

    /// The ranges: first and last port of each.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// The lowest port.
    #[must_use]
    pub fn first(&self) -> Option<u16> {
        self.ranges.first().map(|range| range.0)
    }

    /// Whether it is [`PortSet::all`].
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ranges == [(1, u16::MAX)]
    }
}

/// `80`, `1-79, 81-65535`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}
