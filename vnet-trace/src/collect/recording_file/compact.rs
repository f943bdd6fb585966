//! Events and frames as they lie in a block: numbers without their names, one after the other.
//!
//! A recording holds millions of these, and their form does not change. So they are written field by field, as CBOR with names
//! is not: a tenth of the time to read, and half of the bytes before compression. What is not one of these stays CBOR.
//!
//! # The form
//!
//! Numbers are LEB128: seven bits a byte, the lowest first, the high bit set in all but the last. Signed ones are folded
//! (0, -1, 1, -2 …). Bytes and texts have their length before them. A block of events begins with the texts that it uses;
//! an event refers to them by position, 0 being none. Times are differences to the one before.
//!
//! The kind of an event is its position in [`EventKind`]. What a later version wants to say beyond this it says in blocks with
//! another tag; it never changes what these mean.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::model::event::{Event, EventKind, MacHeader};
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::{Device, IfIndex, MacAddr, Nanos, NetnsId, SkbId};

/// Why a block is not what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

type Parsed<T> = Result<T, Malformed>;

/// Events or frames of one block at the most: in memory they are larger than in a file.
pub const MOST: usize = 65_536;

/// Frames as a block.
pub fn frames(frames: &[Frame]) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(frames.iter().map(|frame| frame.bytes.len() + 16).sum()));
    out.number(frames.len() as u64);
    let mut last = 0;
    for Frame { time, device, direction, bytes, len, link } in frames {
        out.signed(time.0.wrapping_sub(last) as i64);
        last = time.0;
        out.device(*device);
        let direction = match direction {
            Direction::In => 0,
            Direction::Out => 1,
            Direction::Unknown => 2,
        };
        let link = match link {
            LinkLayer::Ethernet => 0,
            LinkLayer::Ip => 1,
        };
        out.number(direction | link << 2);
        out.number((*len).into());
        out.bytes(bytes);
    }
    out.0
}

/// The frames of a block.
pub fn read_frames(bytes: &[u8]) -> Parsed<Vec<Frame>> {
    let mut input = Reader(bytes);
    let count = input.items()?;
    let mut frames = Vec::with_capacity(count);
    let mut last = 0u64;
    for _ in 0..count {
        last = last.wrapping_add(input.signed()? as u64);
        let device = input.device()?;
        let packed = input.number()?;
        let direction = match packed & 3 {
            0 => Direction::In,
            1 => Direction::Out,
            _ => Direction::Unknown,
        };
        let link = match packed >> 2 {
            0 => LinkLayer::Ethernet,
            1 => LinkLayer::Ip,
            _ => return Err(Malformed("a link layer that is not known")),
        };
        let len = input.small()?;
        let bytes = input.bytes()?.to_vec();
        frames.push(Frame { time: Nanos(last), device, direction, bytes, len, link });
    }
    Ok(frames)
}

/// Which fields an event has.
mod has {
    pub const SKB: u64 = 1;
    pub const HEAD: u64 = 2;
    pub const DEVICE: u64 = 4;
    pub const NETNS: u64 = 8;
    pub const MAC: u64 = 16;
    pub const MARK: u64 = 32;
}

/// Events as a block.
pub fn events(events: &[Event]) -> Vec<u8> {
    let mut texts = Texts::default();
    let mut out = Writer(Vec::with_capacity(events.iter().map(|event| event.bytes.len() + 48).sum()));
    out.number(events.len() as u64);
    let mut last = 0;
    for event in events {
        let Event { time, cpu, skb, head, device, netns, mac, bytes, len, pkt_type, mark, kind } = event;
        let flag = |bit, there: bool| if there { bit } else { 0 };
        out.number(
            flag(has::SKB, skb.is_some())
                | flag(has::HEAD, head.is_some())
                | flag(has::DEVICE, device.is_some())
                | flag(has::NETNS, netns.is_some())
                | flag(has::MAC, mac.is_some())
                | flag(has::MARK, *mark != 0)
                | u64::from(*pkt_type) << 6,
        );
        out.signed(time.0.wrapping_sub(last) as i64);
        last = time.0;
        out.number((*cpu).into());
        // Pointers are too large for seven bits at a time to pay.
        if let Some(skb) = skb {
            out.fixed(&skb.0.to_le_bytes());
        }
        if let Some(head) = head {
            out.fixed(&head.to_le_bytes());
        }
        if let Some(device) = device {
            out.device(*device);
        }
        if let Some(netns) = netns {
            out.number(netns.0.into());
        }
        if let Some(mac) = mac {
            out.mac(mac);
        }
        if *mark != 0 {
            out.number((*mark).into());
        }
        out.number((*len).into());
        out.bytes(bytes);
        write_kind(&mut out, &mut texts, kind);
    }
    let mut block = Writer(Vec::new());
    block.number(texts.all.len() as u64);
    for text in &texts.all {
        block.bytes(text.as_bytes());
    }
    block.0.extend(out.0);
    block.0
}

/// The events of a block.
pub fn read_events(bytes: &[u8]) -> Parsed<Vec<Event>> {
    let mut input = Reader(bytes);
    let texts = input.count()?;
    let texts: Vec<&str> = (0..texts)
        .map(|_| std::str::from_utf8(input.bytes()?).map_err(|_| Malformed("a text that is not UTF-8")))
        .collect::<Parsed<_>>()?;
    let count = input.items()?;
    let mut events = Vec::with_capacity(count);
    let mut last = 0u64;
    let mut before: Arc<[u8]> = Arc::default();
    for _ in 0..count {
        let flags = input.number()?;
        let there = |bit| flags & bit != 0;
        last = last.wrapping_add(input.signed()? as u64);
        let cpu = input.small()?;
        let skb = if there(has::SKB) { Some(SkbId(u64::from_le_bytes(input.fixed()?))) } else { None };
        let head = if there(has::HEAD) { Some(u64::from_le_bytes(input.fixed()?)) } else { None };
        let device = if there(has::DEVICE) { Some(input.device()?) } else { None };
        let netns = if there(has::NETNS) { Some(NetnsId(input.small()?)) } else { None };
        let mac = if there(has::MAC) { Some(input.mac()?) } else { None };
        let mark = if there(has::MARK) { input.small()? } else { 0 };
        let len = input.small()?;
        let bytes = match input.bytes()? {
            [] => Arc::default(),
            // The sightings of one packet mostly follow each other.
            bytes if bytes == &before[..] => before.clone(),
            bytes => {
                before = Arc::from(bytes);
                before.clone()
            }
        };
        let kind = read_kind(&mut input, &texts)?;
        let pkt_type = (flags >> 6) as u8;
        events.push(Event { time: Nanos(last), cpu, skb, head, device, netns, mac, bytes, len, pkt_type, mark, kind });
    }
    Ok(events)
}

fn write_kind<'a>(out: &mut Writer, texts: &mut Texts<'a>, kind: &'a EventKind) {
    match kind {
        EventKind::Queue => out.number(0),
        EventKind::Xmit => out.number(1),
        EventKind::NetifRx => out.number(2),
        EventKind::Receive => out.number(3),
        EventKind::Drop { reason, location } => {
            out.number(4);
            out.number(texts.of(reason.as_deref()));
            out.number(texts.of(location.as_deref()));
        }
        EventKind::Consume { location } => {
            out.number(5);
            out.number(texts.of(location.as_deref()));
        }
        EventKind::FibLookup { table, src, dst, iif, oif, error, nexthop, gateway } => {
            out.number(6);
            out.number((*table).into());
            out.address(*src);
            out.address(*dst);
            out.number(iif.0.into());
            out.number(oif.0.into());
            out.signed((*error).into());
            out.number(u64::from(nexthop.is_some()) | u64::from(gateway.is_some()) << 1);
            if let Some(device) = nexthop {
                out.device(*device);
            }
            if let Some(gateway) = gateway {
                out.address(*gateway);
            }
        }
        EventKind::Return { function, value, meaning } => {
            out.number(7);
            out.number(texts.of(Some(function)));
            out.signed(*value);
            out.number(texts.of(meaning.as_deref()));
        }
        EventKind::Enter { function } => {
            out.number(8);
            out.number(texts.of(Some(function)));
        }
        EventKind::Netfilter { pf, hook, verdict } => {
            out.number(9);
            out.number((*pf).into());
            out.number((*hook).into());
            out.signed((*verdict).into());
        }
        EventKind::Neigh { address, lladdr, state } => {
            out.number(10);
            out.address(*address);
            out.number(u64::from(lladdr.is_some()));
            if let Some(lladdr) = lladdr {
                out.fixed(&lladdr.0);
            }
            out.number((*state).into());
        }
        EventKind::IcmpSend { kind, code } => {
            out.number(11);
            out.number((*kind).into());
            out.number((*code).into());
        }
        EventKind::Clone { of } => {
            out.number(12);
            out.fixed(&of.0.to_le_bytes());
        }
    }
}

fn read_kind(input: &mut Reader<'_>, texts: &[&str]) -> Parsed<EventKind> {
    let text = |at: u64| match at.checked_sub(1) {
        None => Ok(None),
        Some(at) => {
            texts.get(at as usize).map(|text| Some((*text).to_owned())).ok_or(Malformed("a text that is not there"))
        }
    };
    Ok(match input.number()? {
        0 => EventKind::Queue,
        1 => EventKind::Xmit,
        2 => EventKind::NetifRx,
        3 => EventKind::Receive,
        4 => EventKind::Drop { reason: text(input.number()?)?, location: text(input.number()?)? },
        5 => EventKind::Consume { location: text(input.number()?)? },
        6 => {
            let table = input.small()?;
            let (src, dst) = (input.address()?, input.address()?);
            let (iif, oif) = (IfIndex(input.small()?), IfIndex(input.small()?));
            let error = i32::try_from(input.signed()?).map_err(|_| Malformed("an error number out of range"))?;
            let flags = input.number()?;
            let nexthop = if flags & 1 != 0 { Some(input.device()?) } else { None };
            let gateway = if flags & 2 != 0 { Some(input.address()?) } else { None };
            EventKind::FibLookup { table, src, dst, iif, oif, error, nexthop, gateway }
        }
        7 => {
            let function = text(input.number()?)?.unwrap_or_default();
            let value = input.signed()?;
            EventKind::Return { function, value, meaning: text(input.number()?)? }
        }
        8 => EventKind::Enter { function: text(input.number()?)?.unwrap_or_default() },
        9 => {
            let (pf, hook) = (input.byte()?, input.byte()?);
            let verdict = i32::try_from(input.signed()?).map_err(|_| Malformed("a verdict out of range"))?;
            EventKind::Netfilter { pf, hook, verdict }
        }
        10 => {
            let address = input.address()?;
            let lladdr = if input.number()? != 0 { Some(MacAddr(input.fixed()?)) } else { None };
            let state = u16::try_from(input.number()?).map_err(|_| Malformed("a state out of range"))?;
            EventKind::Neigh { address, lladdr, state }
        }
        11 => EventKind::IcmpSend { kind: input.byte()?, code: input.byte()? },
        12 => EventKind::Clone { of: SkbId(u64::from_le_bytes(input.fixed()?)) },
        _ => return Err(Malformed("an event of a kind that is not known")),
    })
}

/// The texts of a block, each once.
#[derive(Default)]
struct Texts<'a> {
    all: Vec<&'a str>,
    known: HashMap<&'a str, u64>,
}

impl<'a> Texts<'a> {
    /// Its position, counted from 1; 0 for none.
    fn of(&mut self, text: Option<&'a str>) -> u64 {
        let Some(text) = text else { return 0 };
        *self.known.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() as u64
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.fixed(bytes);
    }

    fn device(&mut self, device: Device) {
        self.number(device.netns.0.into());
        self.number(device.ifindex.0.into());
    }

    fn mac(&mut self, mac: &MacHeader) {
        self.fixed(&mac.dst.0);
        self.fixed(&mac.src.0);
        self.fixed(&mac.ethertype.to_be_bytes());
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.number(4);
                self.fixed(&address.octets());
            }
            IpAddr::V6(address) => {
                self.number(6);
                self.fixed(&address.octets());
            }
        }
    }
}

const SHORT: Malformed = Malformed("it ends in the middle");

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn number(&mut self) -> Parsed<u64> {
        let (&first, rest) = self.0.split_first().ok_or(SHORT)?;
        if first < 0x80 {
            self.0 = rest;
            return Ok(first.into());
        }
        let mut number = 0u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(Malformed("a number that does not end"))
    }

    fn signed(&mut self) -> Parsed<i64> {
        let folded = self.number()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    fn small(&mut self) -> Parsed<u32> {
        u32::try_from(self.number()?).map_err(|_| Malformed("a number out of range"))
    }

    fn byte(&mut self) -> Parsed<u8> {
        u8::try_from(self.number()?).map_err(|_| Malformed("a number out of range"))
    }

    /// How many follow: no more than there are bytes, so that nothing is allocated because a number says so.
    fn count(&mut self) -> Parsed<usize> {
        let count = self.number()?;
        if count > self.0.len() as u64 { Err(SHORT) } else { Ok(count as usize) }
    }

    fn items(&mut self) -> Parsed<usize> {
        let count = self.count()?;
        if count > MOST { Err(Malformed("more than a block may hold")) } else { Ok(count) }
    }

    fn fixed<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn bytes(&mut self) -> Parsed<&'a [u8]> {
        let len = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn device(&mut self) -> Parsed<Device> {
        Ok(Device::new(NetnsId(self.small()?), IfIndex(self.small()?)))
    }

    fn mac(&mut self) -> Parsed<MacHeader> {
        let (dst, src) = (MacAddr(self.fixed()?), MacAddr(self.fixed()?));
        Ok(MacHeader { dst, src, ethertype: u16::from_be_bytes(self.fixed()?) })
    }

    fn address(&mut self) -> Parsed<IpAddr> {
        Ok(match self.number()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.fixed::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.fixed::<16>()?)),
            _ => return Err(Malformed("an address of a family that is not known")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> Vec<EventKind> {
        let text = |text: &str| Some(text.to_owned());
        let address = |octets: [u8; 4]| IpAddr::from(octets);
        vec![
            EventKind::Queue,
            EventKind::Xmit,
            EventKind::NetifRx,
            EventKind::Receive,
            EventKind::Drop { reason: text("NETFILTER_DROP"), location: text("nft_do_chain") },
            EventKind::Drop { reason: None, location: text("nft_do_chain") },
            EventKind::Consume { location: None },
            EventKind::FibLookup {
                table: 254,
                src: address([10, 0, 0, 1]),
                dst: IpAddr::V6("fd00::1".parse().unwrap()),
                iif: IfIndex(1),
                oif: IfIndex(0),
                error: -113,
                nexthop: Some(Device::new(NetnsId(3), IfIndex(70_000))),
                gateway: Some(address([10, 0, 0, 254])),
            },
            EventKind::Return { function: "fib_validate_source".into(), value: -22, meaning: text("EINVAL") },
            EventKind::Enter { function: "icmp_rcv".into() },
            EventKind::Netfilter { pf: 2, hook: 3, verdict: -1 },
            EventKind::Neigh { address: address([10, 0, 0, 2]), lladdr: Some(MacAddr([2; 6])), state: 0x20 },
            EventKind::IcmpSend { kind: 3, code: 1 },
            EventKind::Clone { of: SkbId(u64::MAX) },
        ]
    }

    fn sample() -> Vec<Event> {
        let mut time = 5_000_000_000u64;
        kinds()
            .into_iter()
            .enumerate()
            .map(|(at, kind)| {
                // Time may go back a little.
                time = time.wrapping_add(1000).wrapping_sub(at as u64 % 3 * 900);
                let odd = at % 2 == 1;
                Event {
                    time: Nanos(time),
                    cpu: at as u32,
                    skb: odd.then_some(SkbId(0xffff_8880_0000_0000 + at as u64)),
                    head: (!odd).then_some(at as u64),
                    device: odd.then_some(Device::new(NetnsId(1), IfIndex(at as u32))),
                    netns: (!odd).then_some(NetnsId(2)),
                    mac: odd.then_some(MacHeader { dst: MacAddr([1; 6]), src: MacAddr([2; 6]), ethertype: 0x0806 }),
                    bytes: vec![at as u8; at * 9].into(),
                    len: 1500,
                    pkt_type: at as u8 % 5,
                    mark: if odd { 0x1234_5678 } else { 0 },
                    kind,
                }
            })
            .collect()
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let sample = sample();
        assert_eq!(read_events(&events(&sample)).unwrap(), sample);
        assert_eq!(read_events(&events(&[])).unwrap(), []);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_refused() {
        let whole = events(&sample());
        for len in 0..whole.len() {
            assert!(read_events(&whole[..len]).is_err(), "{len}");
        }
        assert_eq!(read_events(&[0, 0xff, 0xff, 0xff, 0x7f]), Err(SHORT));
        assert!(read_frames(&[0xff; 20]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_events(&bytes);
            let _ = read_frames(&bytes);
        }

        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut block = events(&sample());
            let at = at.index(block.len());
            block[at] = value;
            let _ = read_events(&block);
        }

        #[test]
        fn frames_are_read_as_they_were_written(
            all in prop::collection::vec(
                (any::<u64>(), any::<u32>(), any::<u32>(), 0..3u8, any::<bool>(), any::<u32>(),
                 prop::collection::vec(any::<u8>(), 0..100)),
                0..20,
            )
        ) {
            let all: Vec<Frame> = all
                .into_iter()
                .map(|(time, netns, index, direction, bare, len, bytes)| Frame {
                    time: Nanos(time),
                    device: Device::new(NetnsId(netns), IfIndex(index)),
                    direction: [Direction::In, Direction::Out, Direction::Unknown][usize::from(direction)],
                    bytes,
                    len,
                    link: if bare { LinkLayer::Ip } else { LinkLayer::Ethernet },
                })
                .collect();
            prop_assert_eq!(read_frames(&frames(&all)).unwrap(), all);
        }
    }
}
