//! The binary form: encoder and decoder.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::ir::Id;
use crate::ir::form::{FORM_VERSION, Kind, Layout, ReadError, Sink, Source, Tagged};
use crate::label::Name;
use crate::net::Cidr;

const MAGIC: &[u8] = b"PCIR";

/// Collects the walk, and the names it meets in a table of their own.
#[derive(Default)]
pub(super) struct Encoder {
    walk: Vec<u8>,
    names: Vec<Name>,
    known: BTreeMap<Name, u64>,
}

impl Encoder {
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(FORM_VERSION.to_le_bytes());
        put(&mut bytes, wide(self.names.len()));
        for name in &self.names {
            put(&mut bytes, wide(name.len()));
            bytes.extend(name.as_bytes());
        }
        bytes.extend(self.walk);
        let hash = fnv(&bytes);
        bytes.extend(hash.to_le_bytes());
        bytes
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// LEB128: seven bits a byte, low ones first, the top bit set on all but the last.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number = number.wrapping_shr(7);
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

/// Each step is a bijection of the hash, so a single wrong byte always shows.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

impl Sink for Encoder {
    fn label(&mut self, _: &'static str) -> fmt::Result {
        Ok(())
    }

    fn choice(&mut self, _: &'static [&'static str], index: usize) -> fmt::Result {
        self.walk.push(u8::try_from(index).map_err(|_| fmt::Error)?);
        Ok(())
    }

    fn number(&mut self, number: u64) -> fmt::Result {
        put(&mut self.walk, number);
        Ok(())
    }

    fn id(&mut self, id: impl Id) -> fmt::Result {
        self.number(u64::from(id.number()))
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        let reference = match self.known.get(name) {
            Some(known) => *known,
            None => {
                let (new, reference) = (Name::from(name), wide(self.names.len()));
                self.names.push(new.clone());
                self.known.insert(new, reference);
                reference
            }
        };
        self.number(reference)
    }

    fn net(&mut self, net: &Cidr) -> fmt::Result {
        match net.address() {
            IpAddr::V4(v4) => {
                self.walk.push(4);
                self.walk.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                self.walk.push(6);
                self.walk.extend(v6.octets());
            }
        }
        self.walk.push(net.prefix());
        Ok(())
    }

    fn present(&mut self, present: bool) -> fmt::Result {
        self.walk.push(u8::from(present));
        Ok(())
    }

    fn open(&mut self, len: usize, _: Layout) -> fmt::Result {
        self.number(wide(len))
    }

    fn item(&mut self) -> fmt::Result {
        Ok(())
    }

    fn close(&mut self) -> fmt::Result {
        Ok(())
    }
}

/// Reads the walk after names and hash were checked.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    names: Vec<Name>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut decoder = Self { bytes, at: 0, names: Vec::new() };
        if decoder.take(MAGIC.len()) != Some(MAGIC) {
            return Err(decoder.fail("this is no snapshot: it does not start with `PCIR`"));
        }
        let version = decoder.array()?;
        let version = u16::from_le_bytes(version);
        if version != FORM_VERSION {
            return Err(decoder.fail(&format!("version {version} is not known, only {FORM_VERSION}")));
        }
        let hashed = bytes.len().checked_sub(8).filter(|end| *end >= decoder.at);
        let Some((content, hash)) = hashed.and_then(|end| bytes.split_at_checked(end)) else {
            return Err(decoder.fail("the bytes end too early"));
        };
        if fnv(content).to_le_bytes() != hash {
            return Err(decoder.fail("the hash does not agree: the bytes are damaged or cut short"));
        }
        decoder.bytes = content;
        decoder.read_names()?;
        Ok(decoder)
    }

    fn read_names(&mut self) -> Result<(), ReadError> {
        let mut count = self.open()?;
        while self.more(&mut count)? {
            let len = self.number(u64::MAX)?;
            let text = usize::try_from(len).ok().and_then(|len| self.take(len));
            let text = text.ok_or_else(|| self.fail("a name is longer than the bytes"))?;
            let name = str::from_utf8(text).map_err(|_| self.fail("a name is not UTF-8"))?;
            self.names.push(Name::from(name));
        }
        Ok(())
    }

    /// Every byte must have been read.
    pub(super) fn end(&self) -> Result<(), ReadError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fail("bytes are left over")) }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let taken = self.take(N).and_then(|bytes| bytes.try_into().ok());
        taken.ok_or_else(|| self.fail("the bytes end too early"))
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[byte]| byte)
    }
}

impl Source for Decoder<'_> {
    /// Number of items left.
    type List = u64;

    fn label(&mut self, _: &'static str) -> Result<(), ReadError> {
        Ok(())
    }

    fn choice(&mut self, words: &'static [&'static str]) -> Result<usize, ReadError> {
        let code = usize::from(self.byte()?);
        if code < words.len() { Ok(code) } else { Err(self.fail(&format!("there is no choice {code}"))) }
    }

    fn number(&mut self, most: u64) -> Result<u64, ReadError> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            let part = low.wrapping_shl(shift);
            if part.wrapping_shr(shift) != low || (byte == 0 && shift > 0) {
                break;
            }
            number |= part;
            if byte & 0x80 == 0 {
                return if number <= most {
                    Ok(number)
                } else {
                    Err(self.fail(&format!("the number {number} is above {most}")))
                };
            }
        }
        Err(self.fail("a number is badly written"))
    }

    fn id<I: Tagged>(&mut self) -> Result<I, ReadError> {
        let number = self.number(u64::from(u32::MAX))?;
        Ok(I::new(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    fn name(&mut self) -> Result<Name, ReadError> {
        let reference = self.number(u64::MAX)?;
        let name = usize::try_from(reference).ok().and_then(|at| self.names.get(at));
        name.cloned().ok_or_else(|| self.fail("there is no such name"))
    }

    fn net(&mut self) -> Result<Cidr, ReadError> {
        let address = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            family => return Err(self.fail(&format!("there is no address family {family}"))),
        };
        let prefix = self.byte()?;
        match Cidr::new(address, prefix) {
            Ok(net) if net.address() == address && net.prefix() == prefix => Ok(net),
            _ => Err(self.fail("a network has a prefix that is too long, or host bits")),
        }
    }

    fn present(&mut self) -> Result<bool, ReadError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.fail("an optional part is neither present nor absent")),
        }
    }

    fn open(&mut self) -> Result<u64, ReadError> {
        // Every item takes a byte at least, so a count cannot make the reader reserve more than it was given.
        let left = wide(self.bytes.len().saturating_sub(self.at));
        self.number(left)
    }

    fn more(&mut self, left: &mut u64) -> Result<bool, ReadError> {
        let more = *left > 0;
        *left = left.saturating_sub(1);
        Ok(more)
    }

    fn fail(&self, reason: &str) -> ReadError {
        ReadError(Kind::Bytes { offset: self.at, reason: reason.into() })
    }
}
