//! A rival: a program for each endpoint that is generated from its rules, one after the other.
//!
//! In its favour: rules of one peer compare its address instead of looking it up in a set; protocol and port are one
//! comparison; rules count nothing; a change loads only the piece that it is in. The instructions are written as the
//! kernel takes them, without a compiler; what a rule looks at is read again for each, because the verifier follows a
//! register that was compared once through all rules behind, which is quadratic.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramInfo, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use portcullis::packet::Protocol;

use super::assembler::{Code, PROGRAM, R0, R1, R2, R3, R6, R7, STACK};
use super::tries::{object, run, take};
use crate::nftables::Failure;

/// A peer that may reach a UDP port.
pub(super) type Rule = (Ipv4Addr, u16);

/// Rules of one program. The verifier takes about twice as many; see [`Lines::limit`].
pub(super) const PIECE: usize = 4_000;

/// The loaded programs.
pub(super) struct Lines {
    ebpf: Ebpf,
    /// Making one reads all types of the kernel, which is nothing that a rival would do at each change.
    loader: EbpfLoader<'static>,
    segments: ProgramArray<MapData>,
    /// File descriptors that instructions name maps by.
    seen_fd: i32,
    segments_fd: i32,
    pieces: Vec<Piece>,
}

/// A program that the verifier took.
pub(super) struct Piece(Ebpf);

impl Lines {
    /// No rules.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut ebpf = object()?;
        let fd = |name: &str| match ebpf.map(name) {
            Some(Map::PerCpuArray(map) | Map::ProgramArray(map)) => Ok(map.fd().as_fd().as_raw_fd()),
            _ => Err(format!("no map `{name}`")),
        };
        let (seen_fd, segments_fd) = (fd("seen")?, fd("segments")?);
        let segments = take(&mut ebpf, "segments")?;
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        Ok(Self { ebpf, loader, segments, seen_fd, segments_fd, pieces: Vec::new() })
    }

    /// Instructions for these rules, in pieces.
    pub(super) fn generate(&self, rules: &[Rule]) -> Result<Vec<Code>, Failure> {
        let pieces = rules.chunks(PIECE).len();
        let next = |at: usize| Some(at.saturating_add(1)).filter(|next| *next < pieces);
        rules.chunks(PIECE).enumerate().map(|(at, rules)| self.piece(rules, next(at))).collect()
    }

    fn piece(&self, rules: &[Rule], next: Option<usize>) -> Result<Code, Failure> {
        let mut code = Code::default();
        code.copy(R6, R1).clear(STACK, -4).copy(R2, STACK).add(R2, -4);
        code.map(R1, self.seen_fd).call(LOOK_UP).skip_unless_null(R0, 2).set(R0, DROP).exit().copy(R7, R0);
        for (peer, port) in rules {
            let service = u32::from(Protocol::UDP.0) << 16 | u32::from(*port);
            code.load(R1, R7, 0).skip_unless(R1, service, 4);
            code.load(R1, R7, 4).skip_unless(R1, u32::from_ne_bytes(peer.octets()), 2);
            code.set(R0, PASS).exit();
        }
        if let Some(next) = next {
            code.copy(R1, R6).map(R2, self.segments_fd).set(R3, i32::try_from(next)?).call(TAIL_CALL);
        }
        code.set(R0, DROP).exit();
        Ok(code)
    }

    /// Has the verifier take pieces.
    pub(super) fn verify(&mut self, pieces: &[Code]) -> Result<Vec<Piece>, Failure> {
        let mut verify = |code: &Code| {
            let mut piece = self.loader.load(&code.object())?;
            program(&mut piece)?;
            Ok(Piece(piece))
        };
        pieces.iter().map(&mut verify).collect()
    }

    /// Puts pieces in force from place `first` on. The kernel rewrites the jump there, and waits.
    pub(super) fn put(&mut self, first: usize, pieces: Vec<Piece>) -> Result<(), Failure> {
        for (at, mut piece) in (first..).zip(pieces) {
            self.segments.set(u32::try_from(at)?, program(&mut piece.0)?.fd()?, 0)?;
            match self.pieces.get_mut(at) {
                Some(place) => *place = piece,
                None => self.pieces.push(piece),
            }
        }
        Ok(())
    }

    /// Bytes of the loaded pieces, as instructions and as machine code.
    pub(super) fn bytes(&mut self) -> Result<(u64, u64), Failure> {
        let (mut instructions, mut machine) = (0_u64, 0_u64);
        for piece in &mut self.pieces {
            let info: ProgramInfo = program(&mut piece.0)?.info()?;
            instructions = instructions.saturating_add(info.size_translated().unwrap_or(0).into());
            machine = machine.saturating_add(info.size_jitted().into());
        }
        Ok((instructions, machine))
    }

    /// The most rules that the verifier takes in one program, and what it says to one more.
    pub(super) fn limit(&mut self) -> Result<(usize, String), Failure> {
        let mut attempt = |count: usize| -> Result<Option<String>, Failure> {
            let rules = vec![(Ipv4Addr::LOCALHOST, 1); count];
            let code = self.piece(&rules, None)?;
            let mut piece = self.loader.load(&code.object())?;
            Ok(program(&mut piece).err().map(|error| reason(&*error)))
        };
        let (mut taken, mut refused) = (PIECE, 16_384);
        let mut why = attempt(refused)?.ok_or("the verifier takes 16,384 rules")?;
        while taken.saturating_add(1) < refused {
            let middle = usize::midpoint(taken, refused);
            match attempt(middle)? {
                None => taken = middle,
                Some(reason) => (refused, why) = (middle, reason),
            }
        }
        Ok((taken, why))
    }

    /// How long a packet takes, and whether it passes.
    pub(super) fn time(&mut self, frame: &[u8], repeat: u32) -> Result<(bool, Duration), Failure> {
        run(&mut self.ebpf, "lines", frame, repeat)
    }
}

const LOOK_UP: i32 = 1;
const TAIL_CALL: i32 = 12;
const PASS: i32 = -1;
const DROP: i32 = 2;

/// The program of a piece, accepted by the verifier.
fn program(piece: &mut Ebpf) -> Result<&mut SchedClassifier, Failure> {
    let program: &mut SchedClassifier = piece.program_mut(PROGRAM).ok_or("no program")?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

/// The line of the verifier's log that says why.
fn reason(error: &(dyn core::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines().find(|line| line.contains("too complex") || line.contains("too large"));
    said.or_else(|| lines().next_back()).unwrap_or_default().chars().take(160).collect()
}
