//! The program and its maps without any interface, to be changed and asked write by write.

use alloc::collections::BTreeMap;
use core::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::{Program, TestRun as _, TestRunOptions};
use portcullis_core::backend::{Counter, DataplaneError, DesiredState, Lower as _};
use portcullis_core::packet::Packet;
use portcullis_core::verdict::Hook;
use portcullis_core::wire::craft;

use crate::error::{Context as _, LoadError};
use crate::layout::hook_index;
use crate::load::event::EventRecord;
use crate::load::maps::Maps;
use crate::load::memory::Memory;
use crate::load::object::{self, Behaviour};
use crate::load::take_map::take;
use crate::lower::Lowering;
use crate::options::Options;
use crate::oracle::{DROPS, OTHER_INTERFACE, PASSES, context, context_at, frame};
use crate::write::{Update, Write};

/// A loaded program that nothing is attached to. Interfaces are mere numbers here.
pub struct Sandbox {
    pub(super) ebpf: Ebpf,
    pub(super) maps: Maps,
    pub(super) events: RingBuf<MapData>,
    memory: Memory,
}

impl core::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Sandbox")
    }
}

impl Sandbox {
    /// Loads `desired`. Flows are not remembered.
    ///
    /// # Errors
    /// When the snapshot cannot be lowered, or the machine cannot do it.
    pub fn load(options: Options, desired: DesiredState<'_>) -> Result<(Self, Lowering), DataplaneError> {
        let (lowering, update) = Lowering::load(options, desired, &())?;
        Ok((Self::of(&lowering, &update)?, lowering))
    }

    /// Loads what was lowered already.
    ///
    /// # Errors
    /// When the machine cannot do it.
    pub fn of(lowering: &Lowering, update: &Update) -> Result<Self, LoadError> {
        let mut sandbox = Self::empty(lowering.options())?;
        sandbox.carry_out(update)?;
        Ok(sandbox)
    }

    /// The same, with a table of flows: what passed once passes at [`Sandbox::time`] without a decision.
    ///
    /// # Errors
    /// When the machine cannot do it.
    pub fn tracking(lowering: &Lowering, update: &Update) -> Result<Self, LoadError> {
        let mut sandbox =
            Self::behaving(object::OBJECT, lowering.options(), Behaviour { track: 1, ..Behaviour::PLAIN })?;
        sandbox.carry_out(update)?;
        Ok(sandbox)
    }

    pub(super) fn empty(options: &Options) -> Result<Self, LoadError> {
        Self::behaving(object::OBJECT, options, Behaviour::PLAIN)
    }

    pub(super) fn behaving(
        object: &[u8],
        options: &Options,
        behaviour: Behaviour,
    ) -> Result<Self, LoadError> {
        let mut ebpf = object::load(object, options, behaviour, &[])?;
        let memory = Memory::of(&ebpf)?;
        let maps = Maps::open(&mut ebpf)?;
        let events = take(&mut ebpf, "events")?;
        Ok(Self { ebpf, maps, events, memory })
    }

    /// The bytes of each map, as the kernel accounts them now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>, LoadError> {
        self.memory.bytes()
    }

    /// Has the kernel's verifier accept every program of the object. Returns their names, in order.
    ///
    /// # Errors
    /// When it refuses one: the program's name and the end of the verifier's log.
    pub fn verify(&mut self) -> Result<Vec<String>, LoadError> {
        let mut names: Vec<String> = self.ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        names.sort();
        for name in &names {
            match self.ebpf.program(name) {
                Some(Program::CgroupSkb(_)) => drop(object::socket_program(&mut self.ebpf, name)?),
                _ => drop(object::program(&mut self.ebpf, name)?),
            }
        }
        Ok(names)
    }

    /// Carries out all writes of `update`.
    ///
    /// # Errors
    /// When the kernel refuses one; those before it are done.
    pub fn carry_out(&mut self, update: &Update) -> Result<(), LoadError> {
        self.maps.carry_out(update)
    }

    /// Carries out one write.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn write(&mut self, write: &Write) -> Result<(), LoadError> {
        self.maps.write(write)
    }

    /// What a decision counted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counter(&self, decision: u32) -> Result<Counter, LoadError> {
        self.maps.counter(decision)
    }

    /// Whether `hook` of the endpoint at `interface` lets `packet` pass, and the event that tells why, if the decision sends
    /// one. `None` when there is no such packet on the wire.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn ask(
        &mut self,
        interface: u32,
        hook: Hook,
        packet: &Packet,
    ) -> Result<Option<(bool, Option<EventRecord>)>, LoadError> {
        let Some(bytes) = craft(packet) else { return Ok(None) };
        let hook = u32::try_from(hook_index(hook)).unwrap_or(u32::MAX);
        let passed = self.run("probe", &frame(&bytes), &context(OTHER_INTERFACE, [hook, interface]), 1)?;
        let event = self.events.next().and_then(|record| EventRecord::read(&record));
        Ok(Some((passed.0, event)))
    }

    /// Whether `hook` of the endpoint at `interface` lets an IP packet of exactly these bytes pass.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn pass(&mut self, interface: u32, hook: Hook, bytes: &[u8]) -> Result<bool, LoadError> {
        let hook = u32::try_from(hook_index(hook)).unwrap_or(u32::MAX);
        let passed = self.run("probe", &frame(bytes), &context(OTHER_INTERFACE, [hook, interface]), 1)?.0;
        while self.events.next().is_some() {}
        Ok(passed)
    }

    /// Whether the frame passes on its way out of the workload at `interface`, which has to exist. What passes is remembered
    /// in a [tracking](Sandbox::tracking) sandbox.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn from_workload(&mut self, interface: u32, frame: &[u8]) -> Result<bool, LoadError> {
        Ok(self.run("from_workload", frame, &context_at(interface, 0, [0; 2]), 1)?.0)
    }

    /// Whether the frame passes on its way to the workload at `interface`, which has to exist. It came in by the interface
    /// `from`; 0 for the node itself.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn to_workload(&mut self, interface: u32, from: u32, frame: &[u8]) -> Result<bool, LoadError> {
        Ok(self.run("to_workload", frame, &context_at(interface, from, [0; 2]), 1)?.0)
    }

    /// Runs a program on a frame, so many times. Whether it passes, and how long one run takes.
    pub(super) fn run(
        &mut self,
        program: &str,
        frame: &[u8],
        context: &[u8],
        repeat: u32,
    ) -> Result<(bool, Duration), LoadError> {
        let run = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(context),
            repeat,
            ..TestRunOptions::default()
        };
        let result = object::program(&mut self.ebpf, program)?
            .test_run(run)
            .context(format!("a test run of `{program}`"))?;
        match result.return_value {
            PASSES => Ok((true, result.duration)),
            DROPS => Ok((false, result.duration)),
            other => Err(LoadError::plain(format!("`{program}` answers {other}"))),
        }
    }
}
