//! Sets of addresses: unions of networks with exceptions, as the fewest of the prefixes they were given as.

use alloc::vec::Vec;

use crate::net::{Cidr, IpVersion};

/// Addresses of one family. Those outside every prefix of the list are not in the set; all others are as the longest prefix
/// that covers them says.
///
/// INVARIANT: sorted, so that a prefix comes before those inside it, and none says the same as the one around it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NetSet(Vec<(Cidr, Membership)>);

/// What a prefix says of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Membership {
    In,
    Out,
}

/// Networks without exceptions: an address is in the block when it lies in one of `nets`, or there are none, and in none of
/// `not_nets`.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetBlock<'a> {
    pub(super) nets: &'a [Cidr],
    pub(super) not_nets: &'a [Cidr],
}

/// Which addresses of a family lie in some of several blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NetUnion {
    All,
    None,
    Among(NetSet),
    /// All but these.
    Except(NetSet),
}

impl NetSet {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Cidr, Membership)> + '_ {
        self.0.iter().copied()
    }
}

impl Membership {
    const fn of(is_in: bool) -> Self {
        if is_in { Self::In } else { Self::Out }
    }

    const fn opposite(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

impl NetUnion {
    /// The union of `blocks` for addresses of `version`. Whether an address lies in a block depends only on the longest prefix
    /// around it among all that are given, so one walk over the sorted prefixes finds the set: n log n for n prefixes.
    pub(super) fn of<'a>(blocks: impl IntoIterator<Item = NetBlock<'a>>, version: IpVersion) -> Self {
        let mut walk = Walk::default();
        let mut marks: Vec<(Cidr, usize, Membership)> = Vec::new();
        for (at, block) in blocks.into_iter().enumerate() {
            walk.blocks.push(BlockState { inside: u32::from(block.nets.is_empty()), excluded: 0 });
            walk.live = walk.live.saturating_add(usize::from(block.nets.is_empty()));
            let mut add = |nets: &[Cidr], membership| {
                let own = nets.iter().filter(|net| net.version() == version);
                marks.extend(own.map(|net| (*net, at, membership)));
            };
            add(block.nets, Membership::In);
            add(block.not_nets, Membership::Out);
        }
        marks.sort_unstable();
        marks.dedup();
        let mut root = walk.membership();
        // The prefixes around the current one, with their marks and what they say.
        let mut around: Vec<(&[(Cidr, usize, Membership)], Membership)> = Vec::new();
        let mut list: Vec<(Cidr, Membership)> = Vec::new();
        for same in marks.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((net, ..)) = same.first() else { continue };
            while let Some((outer, _)) =
                around.pop_if(|(outer, _)| outer.first().is_none_or(|(outer, ..)| !outer.covers(net)))
            {
                outer.iter().for_each(|(_, block, membership)| walk.leave(*block, *membership));
            }
            same.iter().for_each(|(_, block, membership)| walk.enter(*block, *membership));
            let says = walk.membership();
            if net.prefix() == 0 {
                root = says;
            } else if says != around.last().map_or(root, |(_, outer)| *outer) {
                list.push((*net, says));
            }
            around.push((same, says));
        }
        match (root, list.is_empty()) {
            (Membership::In, true) => Self::All,
            (Membership::Out, true) => Self::None,
            (Membership::Out, false) => Self::Among(NetSet(list)),
            (Membership::In, false) => {
                list.iter_mut().for_each(|(_, membership)| *membership = membership.opposite());
                Self::Except(NetSet(list))
            }
        }
    }
}

/// Which prefixes of each block are around the current one.
#[derive(Debug, Default)]
struct Walk {
    blocks: Vec<BlockState>,
    /// Number of blocks that hold the addresses here.
    live: usize,
}

#[derive(Clone, Copy, Debug)]
struct BlockState {
    /// Number of its networks around the current prefix; one more when it has none, because then every address is inside.
    inside: u32,
    /// Number of its exceptions around the current prefix.
    excluded: u32,
}

impl BlockState {
    const fn holds(self) -> bool {
        self.inside > 0 && self.excluded == 0
    }
}

impl Walk {
    const fn membership(&self) -> Membership {
        Membership::of(self.live > 0)
    }

    fn enter(&mut self, block: usize, membership: Membership) {
        self.change(block, membership, |count| count.saturating_add(1));
    }

    fn leave(&mut self, block: usize, membership: Membership) {
        self.change(block, membership, |count| count.saturating_sub(1));
    }

    fn change(&mut self, block: usize, membership: Membership, change: impl FnOnce(u32) -> u32) {
        let Some(state) = self.blocks.get_mut(block) else { return };
        let held = state.holds();
        match membership {
            Membership::In => state.inside = change(state.inside),
            Membership::Out => state.excluded = change(state.excluded),
        }
        match (held, state.holds()) {
            (false, true) => self.live = self.live.saturating_add(1),
            (true, false) => self.live = self.live.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn nets(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn holds(union: &NetUnion, address: IpAddr) -> bool {
        let among = |set: &NetSet| {
            let around = set.iter().filter(|(net, _)| net.contains(&address));
            around.max_by_key(|(net, _)| net.prefix()).is_some_and(|(_, says)| says == Membership::In)
        };
        match union {
            NetUnion::All => true,
            NetUnion::None => false,
            NetUnion::Among(set) => among(set),
            NetUnion::Except(set) => !among(set),
        }
    }

    /// Every union of two blocks drawn from nested networks holds what the blocks say, one address at a time.
    #[test]
    fn a_union_holds_what_its_blocks_say() {
        let all = nets(&[
            "0.0.0.0/0",
            "0.0.0.0/29",
            "0.0.0.0/30",
            "0.0.0.2/31",
            "0.0.0.2/32",
            "0.0.0.4/30",
            "::/0",
        ]);
        let subsets = |seed: u32| -> Vec<Cidr> {
            all.iter().enumerate().filter(|(at, _)| seed & (1 << at) != 0).map(|(_, net)| *net).collect()
        };
        let mut seed = 1u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let lists = [seed >> 4, seed >> 11, seed >> 18, seed >> 25].map(subsets);
            let blocks = [
                NetBlock { nets: &lists[0], not_nets: &lists[1] },
                NetBlock { nets: &lists[2], not_nets: &lists[3] },
            ];
            let union = NetUnion::of(blocks, IpVersion::V4);
            if let NetUnion::Among(set) | NetUnion::Except(set) = &union {
                assert!(set.0.is_sorted() && set.0.iter().all(|(net, _)| net.version() == IpVersion::V4));
            }
            for address in 0..10 {
                let address = IpAddr::V4(Ipv4Addr::from_bits(address));
                let lies = |nets: &[Cidr]| nets.iter().any(|net| net.contains(&address));
                let expected = blocks
                    .iter()
                    .any(|block| (block.nets.is_empty() || lies(block.nets)) && !lies(block.not_nets));
                assert_eq!(holds(&union, address), expected, "{address} in {blocks:?}: {union:?}");
            }
        }
    }

    #[test]
    fn prefixes_that_say_nothing_new_are_left_out() {
        let (outer, inner) = (nets(&["10.0.0.0/8", "10.1.0.0/16"]), nets(&["10.1.2.0/24", "10.1.2.3/32"]));
        let union = NetUnion::of([NetBlock { nets: &outer, not_nets: &inner }], IpVersion::V4);
        let expected = vec![(outer[0], Membership::In), (inner[0], Membership::Out)];
        assert_eq!(union, NetUnion::Among(NetSet(expected)));
        let everywhere = nets(&["0.0.0.0/0"]);
        let but = NetBlock { nets: &everywhere, not_nets: &inner };
        assert_eq!(
            NetUnion::of([but], IpVersion::V4),
            NetUnion::Except(NetSet(vec![(inner[0], Membership::In)]))
        );
        let rest = NetBlock { nets: &inner, not_nets: &[] };
        assert_eq!(NetUnion::of([but, rest], IpVersion::V4), NetUnion::All);
        assert_eq!(
            NetUnion::of([NetBlock { nets: &inner, not_nets: &outer }], IpVersion::V4),
            NetUnion::None
        );
    }
}
