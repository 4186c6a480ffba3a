//! The clsact qdisc of an interface: whether anything uses it, and its removal. The rest is aya's.

use std::io::Error;

use crate::load::direction::Direction;
use crate::load::rtnetlink::{ACKNOWLEDGE, DUMP, ask, attribute};

/// A filter of the qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    /// The number of its eBPF program, if it is one.
    pub(crate) program: Option<u32>,
}

/// The filters of a direction.
pub(crate) fn filters(interface: u32, direction: Direction) -> Result<Vec<Filter>, Error> {
    let parent = match direction {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    };
    let dump = Request { kind: GET_FILTER, flags: DUMP, interface, handle: 0, parent };
    let answers = dump.send()?;
    Ok(answers
        .iter()
        .filter(|(kind, _)| *kind == NEW_FILTER)
        .filter_map(|(_, content)| read_filter(content))
        .collect())
}

/// Whether any filter is there, in either direction.
pub(crate) fn has_filters(interface: u32) -> Result<bool, Error> {
    for direction in Direction::BOTH {
        if !filters(interface, direction)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// From a `struct tcmsg` and the attributes behind it.
fn read_filter(content: &[u8]) -> Option<Filter> {
    let word = |at: usize| Some(u32::from_ne_bytes(*content.get(at..)?.first_chunk::<4>()?));
    let (handle, info) = (word(8)?, word(16)?);
    let options = attribute(content.get(20..)?, OPTIONS);
    let program = options.and_then(|options| attribute(options, PROGRAM_ID));
    Some(Filter {
        priority: u16::try_from(info >> 16).ok()?,
        handle,
        program: program.and_then(|bytes| Some(u32::from_ne_bytes(*bytes.first_chunk::<4>()?))),
    })
}

/// Removes it, and all filters with it.
pub(crate) fn delete(interface: u32) -> Result<(), Error> {
    let flags = ACKNOWLEDGE;
    let delete =
        Request { kind: DELETE_QDISC, flags, interface, handle: CLSACT << 16, parent: CLSACT_PARENT };
    delete.send().map(drop)
}

/// A `struct tcmsg` without family and information.
struct Request {
    kind: u16,
    flags: u16,
    interface: u32,
    handle: u32,
    parent: u32,
}

impl Request {
    fn send(&self) -> Result<Vec<(u16, Vec<u8>)>, Error> {
        // Family and padding first.
        let words = [0, self.interface, self.handle, self.parent, 0];
        ask(self.kind, self.flags, &words.map(u32::to_ne_bytes).concat())
    }
}

/// `RTM_DELQDISC`, `RTM_NEWTFILTER`, `RTM_GETTFILTER`.
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
/// `TCA_OPTIONS`, `TCA_BPF_ID`.
const OPTIONS: u16 = 2;
const PROGRAM_ID: u16 = 11;
/// `TC_H_CLSACT` in halves: as a handle, as the place of the qdisc, and as the parents of its filters.
const CLSACT: u32 = 0xffff;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
