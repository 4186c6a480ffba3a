//! Straight-line eBPF programs and the object files that they are loaded from.

/// A register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register(pub(super) u8);

pub(super) const R0: Register = Register(0);
pub(super) const R1: Register = Register(1);
pub(super) const R2: Register = Register(2);
pub(super) const R3: Register = Register(3);
pub(super) const R6: Register = Register(6);
pub(super) const R7: Register = Register(7);
pub(super) const STACK: Register = Register(10);

/// Instructions, in the kernel's encoding.
#[derive(Clone, Debug, Default)]
pub(super) struct Code(Vec<u8>);

impl Code {
    fn push(&mut self, code: u8, [to, from]: [Register; 2], offset: i16, value: i32) -> &mut Self {
        self.0.extend([code, to.0 | from.0 << 4]);
        self.0.extend(offset.to_le_bytes());
        self.0.extend(value.to_le_bytes());
        self
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(0xbf, [to, from], 0, 0)
    }

    /// `to = value`, upper half cleared.
    pub(super) fn set(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(0xb4, [to, R0], 0, value)
    }

    /// `to += value`
    pub(super) fn add(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(0x07, [to, R0], 0, value)
    }

    /// Four bytes at `from + offset`.
    pub(super) fn load(&mut self, to: Register, from: Register, offset: i16) -> &mut Self {
        self.push(0x61, [to, from], offset, 0)
    }

    /// Zero into four bytes at `to + offset`.
    pub(super) fn clear(&mut self, to: Register, offset: i16) -> &mut Self {
        self.push(0x62, [to, R0], offset, 0)
    }

    /// The map with this file descriptor.
    pub(super) fn map(&mut self, to: Register, fd: i32) -> &mut Self {
        self.push(0x18, [to, Register(1)], 0, fd).push(0, [R0, R0], 0, 0)
    }

    pub(super) fn call(&mut self, helper: i32) -> &mut Self {
        self.push(0x85, [R0, R0], 0, helper)
    }

    /// Skips so many instructions unless the lower half of `register` is `value`.
    pub(super) fn skip_unless(&mut self, register: Register, value: u32, skipped: i16) -> &mut Self {
        self.push(0x56, [register, R0], skipped, i32::from_le_bytes(value.to_le_bytes()))
    }

    /// Skips so many instructions unless `register` is null.
    pub(super) fn skip_unless_null(&mut self, register: Register, skipped: i16) -> &mut Self {
        self.push(0x55, [register, R0], skipped, 0)
    }

    pub(super) fn exit(&mut self) -> &mut Self {
        self.push(0x95, [R0, R0], 0, 0)
    }

    /// An ELF object with this program, which is called [`PROGRAM`].
    pub(super) fn object(&self) -> Vec<u8> {
        let mut symbols = vec![0; 24];
        // A global function in section 1, at 0, so long.
        symbols.extend(36_u32.to_le_bytes());
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend(0_u64.to_le_bytes());
        symbols.extend(length(&self.0).to_le_bytes());
        // Names are places in the last of them. The table of symbols refers to that too, and has one that is local.
        let sections = [
            Section { name: 1, kind: 1, flags: 6, bytes: &self.0, link: [0, 0], alignment: 8, entry: 0 },
            Section { name: 12, kind: 1, flags: 2, bytes: b"GPL\0", link: [0, 0], alignment: 1, entry: 0 },
            Section { name: 20, kind: 2, flags: 0, bytes: &symbols, link: [4, 1], alignment: 8, entry: 24 },
            Section { name: 28, kind: 3, flags: 0, bytes: STRINGS, link: [0, 0], alignment: 1, entry: 0 },
        ];
        let content: u64 = sections.iter().map(|section| length(section.bytes).next_multiple_of(8)).sum();
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // Relocatable, for BPF.
        file.extend([1, 0, 247, 0, 1, 0, 0, 0]);
        file.extend([0; 16]);
        // Section headers are behind the sections. They are five, with the empty one; the names are in number 4.
        file.extend(content.saturating_add(64).to_le_bytes());
        file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 5, 0, 4, 0]);
        let mut headers = vec![0; 64];
        for section in sections {
            headers.extend(section.name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            for word in [section.flags, 0, length(&file), length(section.bytes)] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend(section.link.map(u32::to_le_bytes).concat());
            headers.extend(section.alignment.to_le_bytes());
            headers.extend(section.entry.to_le_bytes());
            file.extend(section.bytes);
            file.resize(file.len().next_multiple_of(8), 0);
        }
        file.extend(headers);
        file
    }
}

/// A section of an ELF file.
struct Section<'a> {
    name: u32,
    kind: u32,
    flags: u64,
    bytes: &'a [u8],
    /// Another section, and what depends on the kind.
    link: [u32; 2],
    alignment: u64,
    entry: u64,
}

const STRINGS: &[u8] = b"\0classifier\0license\0.symtab\0.strtab\0segment\0";

/// The name of the program in the object.
pub(super) const PROGRAM: &str = "segment";

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, length: usize) -> usize {
        bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    #[test]
    fn the_symbol_of_an_object_leads_to_its_instructions() {
        let mut code = Code::default();
        code.set(R0, -1).exit();
        let wanted = [0xb4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0];
        let file = code.object();
        let headers = number(&file, 40, 8);
        assert_eq!(file.len(), headers + 5 * 64);
        let section = |index: usize| {
            let header = headers + 64 * index;
            let (at, length) = (number(&file, header + 24, 8), number(&file, header + 32, 8));
            (number(&file, header, 4), &file[at..at + length])
        };
        let strings = section(number(&file, 62, 2)).1;
        let name = |at: usize| strings[at..].split(|byte| *byte == 0).next().unwrap();
        let names: Vec<_> = (1..5).map(|index| name(section(index).0)).collect();
        assert_eq!(names, [&b"classifier"[..], b"license", b".symtab", b".strtab"]);
        let symbol = &section(3).1[24..];
        assert_eq!(name(number(symbol, 0, 4)), PROGRAM.as_bytes());
        assert_eq!(section(number(symbol, 6, 2)).1[..number(symbol, 16, 8)], wanted);
    }
}
