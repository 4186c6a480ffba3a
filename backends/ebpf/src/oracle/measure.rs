//! Test runs that are timed: of one packet, or of packets that are drawn from many.

use core::time::Duration;

use aya::maps::{Array, MapError};
use portcullis_core::packet::Packet;
use portcullis_core::wire::craft;

use crate::error::{Context as _, LoadError};
use crate::load::object::{self, Behaviour};
use crate::lower::Lowering;
use crate::oracle::{OTHER_INTERFACE, Sandbox, context, frame};
use crate::write::Update;

/// Packets to draw from: any of some peers to any service of some workloads. All have the family and the addresses of one
/// frame, but for the last two bytes of the source and the last four of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draws {
    frame: Vec<u8>,
    peers: Vec<[u16; 2]>,
    ends: Vec<[u32; END_WORDS]>,
}

/// Whether what passed once passes without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracking {
    /// Every packet is decided.
    Untracked,
    /// There is a table of flows.
    Tracked,
}

/// Most peers and most workloads to draw from.
pub const MOST_DRAWN: [usize; 2] = [1 << 16, 1 << 8];

/// Words of a workload to draw.
pub const END_WORDS: usize = 10;

/// `struct drawing` of `bpf/draw.h`: random, masks of peers and workloads, place, runs, wrong verdicts.
pub type Drawing = [u64; 6];

impl Draws {
    /// Peers and workloads as `struct drawn_peer` and `struct drawn_end` of `bpf/draw.h` have them. `packet` is from the first
    /// peer to the first service of the first workload, TCP or UDP, without options or extension headers.
    ///
    /// `None` when there is no such packet, or a number is not a power of two or above [`MOST_DRAWN`].
    #[must_use]
    pub fn new(packet: &Packet, peers: Vec<[u16; 2]>, ends: Vec<[u32; END_WORDS]>) -> Option<Self> {
        let frame = frame(&craft(packet)?);
        let [most_peers, most_ends] = MOST_DRAWN;
        let fits = |count: usize, most: usize| count.is_power_of_two() && count <= most;
        (fits(peers.len(), most_peers) && fits(ends.len(), most_ends)).then_some(Self { frame, peers, ends })
    }

    /// What the map `drawn_peers` is filled with.
    #[must_use]
    pub fn peers(&self) -> &[[u16; 2]] {
        &self.peers
    }

    /// What the map `drawn_ends` is filled with.
    #[must_use]
    pub fn ends(&self) -> &[[u32; END_WORDS]] {
        &self.ends
    }

    /// The frame that a test run begins with.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// What the map `drawing` holds when a test run begins.
    #[must_use]
    pub fn start(&self) -> Drawing {
        let mask = |count: usize| u64::try_from(count.saturating_sub(1)).unwrap_or(0);
        [0x9e37_79b9_7f4a_7c15, mask(self.peers.len()), mask(self.ends.len()), 0, 0, 0]
    }

    /// Holds what the map `drawing` holds after a test run to what it should.
    ///
    /// # Errors
    /// When a verdict was wrong, or the program did not run so often.
    pub fn check(&self, end: Drawing, repeat: u32) -> Result<(), LoadError> {
        let [.., runs, wrong] = end;
        if runs == u64::from(repeat) && wrong == 0 {
            return Ok(());
        }
        Err(LoadError::plain(format!("{wrong} of {runs} verdicts are wrong, in {repeat} runs")))
    }
}

impl Sandbox {
    /// Loads what was lowered already for measurements. `object` has the programs of measurements beside ours, as
    /// `benches/bpf/measure.bpf.c` does; [tracked](Tracking::Tracked) ones have a table of flows.
    ///
    /// # Errors
    /// When the machine cannot do it.
    pub fn measuring(
        object: &[u8],
        lowering: &Lowering,
        update: &Update,
        tracking: Tracking,
    ) -> Result<Self, LoadError> {
        let drawn = MOST_DRAWN.map(|count| u32::try_from(count).unwrap_or(1));
        let track = u32::from(tracking == Tracking::Tracked);
        let behaviour = Behaviour { track, drawn, ..Behaviour::PLAIN };
        let mut sandbox = Self::behaving(object, lowering.options(), behaviour)?;
        sandbox.carry_out(update)?;
        Ok(sandbox)
    }

    /// Has the verifier look at the programs of workloads, which happens at their first use otherwise.
    ///
    /// # Errors
    /// When it refuses.
    pub fn prepare(&mut self) -> Result<(), LoadError> {
        for name in ["from_workload", "to_workload"] {
            object::program(&mut self.ebpf, name)?;
        }
        Ok(())
    }

    /// How long a packet takes that goes to the workload at interface 1, and whether it passes; the mean of so many runs. The
    /// kernel's own share is in it: see [`Sandbox::time_nothing`].
    ///
    /// # Errors
    /// When there is no such packet, or the kernel cannot be asked.
    pub fn time(&mut self, packet: &Packet, repeat: u32) -> Result<(bool, Duration), LoadError> {
        let bytes = craft(packet).ok_or_else(|| LoadError::plain("there is no such packet"))?;
        self.run("to_workload", &frame(&bytes), &context(OTHER_INTERFACE, [0; 2]), repeat)
    }

    /// How long a run takes that does nothing.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn time_nothing(&mut self, repeat: u32) -> Result<Duration, LoadError> {
        Ok(self.run("nothing", &[0; 64], &context(OTHER_INTERFACE, [0; 2]), repeat)?.1)
    }

    /// Has [`Sandbox::time_drawn`] draw from `draws`.
    ///
    /// # Errors
    /// When the sandbox was not made for it, or the kernel refuses.
    pub fn draw(&mut self, draws: &Draws) -> Result<(), LoadError> {
        let failed = |error: MapError| LoadError::new("packets to draw", error);
        let mut peers = self.map::<[u16; 2]>("drawn_peers")?;
        for (slot, peer) in (0..).zip(&draws.peers) {
            peers.set(slot, *peer, 0).map_err(failed)?;
        }
        let mut ends = self.map::<[u32; END_WORDS]>("drawn_ends")?;
        for (slot, end) in (0..).zip(&draws.ends) {
            ends.set(slot, *end, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// How long the verdict on a packet takes that is drawn from those of [`Sandbox::draw`]; the mean of so many runs. The
    /// drawing is in it: see [`Sandbox::time_drawn_nothing`].
    ///
    /// # Errors
    /// When any verdict is wrong, or the kernel cannot be asked.
    pub fn time_drawn(&mut self, draws: &Draws, repeat: u32) -> Result<Duration, LoadError> {
        self.run_drawn("drawn_verdict", draws, repeat)
    }

    /// How long it takes to draw a packet.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn time_drawn_nothing(&mut self, draws: &Draws, repeat: u32) -> Result<Duration, LoadError> {
        self.run_drawn("drawn_nothing", draws, repeat)
    }

    fn run_drawn(&mut self, program: &str, draws: &Draws, repeat: u32) -> Result<Duration, LoadError> {
        let failed = |error: MapError| LoadError::new("map `drawing`", error);
        self.map::<Drawing>("drawing")?.set(0, draws.start(), 0).map_err(failed)?;
        let (_, time) = self.run(program, draws.frame(), &context(OTHER_INTERFACE, [0; 2]), repeat)?;
        draws.check(self.map::<Drawing>("drawing")?.get(&0, 0).map_err(failed)?, repeat)?;
        Ok(time)
    }

    fn map<V: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut aya::maps::MapData, V>, LoadError> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| LoadError::plain(format!("no map `{name}`")))?;
        Array::try_from(map).context(format!("map `{name}`"))
    }
}
