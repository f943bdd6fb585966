//! Opening and closing of many handles at once.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;

use ::pcap::{Active, Capture, Error, Linktype, Precision};
use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::{SockFilter, SockRef};

use super::filter::Tags;
use super::{Filter, Target, on_our_clock};
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::Device;
use crate::model::sight::Gap;

/// How devices are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// The filter for Ethernet, in tcpdump's language; empty lets everything through.
    pub ethernet: String,
    /// The same for bare IP packets.
    pub bare: String,
    /// Bytes of a frame that are kept.
    pub snaplen: i32,
    /// Kernel memory for all ring buffers together, and the most for one, in bytes.
    pub buffers: usize,
    pub largest: usize,
}

/// All headers that are read, also of an ICMP error about a packet in a tunnel.
pub(super) const SNAPLEN: i32 = 256;

impl Opening {
    /// For the packets of one question.
    pub fn of(filter: Filter) -> Self {
        Self {
            ethernet: filter.expression(Tags::Possible),
            bare: filter.expression(Tags::Impossible),
            snaplen: SNAPLEN,
            buffers: 8 << 20,
            largest: 256 << 10,
        }
    }
}

/// The least kernel memory for one ring buffer.
const SMALLEST_BUFFER: usize = 32 << 10;

/// Handles that are opened or closed at the same time.
const MAX_THREADS: usize = 128;

/// These threads only make system calls.
const STACK: usize = 256 << 10;

/// The header of 16 bytes that libpcap makes up for link layers that it does not know.
const COOKED: Linktype = Linktype::LINUX_SLL;

sockopt_impl!(
    /// The socket does not get what the device sends.
    IgnoreOutgoing, SetOnly, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, libc::c_int
);

/// One handle: one direction of one device.
pub(super) struct Tap {
    pub handle: Capture<Active>,
    pub device: Device,
    direction: Direction,
    linktype: Linktype,
    /// For errors: `ns1/veth0`.
    name: String,
    /// Frames that were received and dropped before the handle was ready.
    before: (u64, u64),
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.name, self.direction)
    }
}

/// A device that could not be opened.
pub(super) struct Unopened {
    pub device: Device,
    name: String,
    why: String,
}

/// One gap for each reason: without a capability all devices fail alike.
pub(super) fn summary(all: Vec<Unopened>) -> Vec<Gap> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in all {
        // The reason may name the device.
        let names = reasons.entry(one.why.replace(&one.name, "it")).or_default();
        if !names.contains(&one.name) {
            names.push(one.name);
        }
    }
    reasons
        .into_iter()
        .map(|(why, names)| match names.as_slice() {
            [first, second, rest @ ..] if rest.len() > 1 => {
                gap(&format!("{first}, {second} and {} other devices", rest.len()), why)
            }
            names => gap(&names.join(", "), why),
        })
        .collect()
}

/// Opens all devices in both directions, and waits until all handles listen.
pub(super) fn all(targets: &[Target], opening: &Opening) -> (Vec<Tap>, Vec<Unopened>) {
    let wanted: Vec<_> = targets
        .iter()
        .filter(|target| target.up)
        .flat_map(|target| {
            let directions: &[Direction] =
                if target.loopback { &[Direction::In] } else { &[Direction::In, Direction::Out] };
            directions.iter().map(move |direction| (target, *direction))
        })
        .collect();
    let most = opening.largest.max(SMALLEST_BUFFER);
    let buffer = (opening.buffers / wanted.len().max(1)).clamp(SMALLEST_BUFFER, most);
    let results = in_parallel(&wanted, |(target, direction)| {
        let opened = target.netns.enter().map_err(|error| error.to_string()).and_then(|()| {
            open(target, *direction, buffer, opening).map_err(|error| match error {
                Error::PcapError(said) if !said.is_empty() => said,
                other => other.to_string(),
            })
        });
        opened.map_err(|why| Unopened { device: target.device, name: named(target), why })
    });
    let mut taps = Vec::new();
    let mut gaps = Vec::new();
    // The caller has been told of each handle, or of this.
    if results.len() < wanted.len() {
        let why = "no thread could be started to open a device".to_owned();
        gaps.extend(wanted.iter().map(|(target, _)| Unopened {
            device: target.device,
            name: named(target),
            why: why.clone(),
        }));
    }
    for result in results {
        match result {
            Ok(tap) => taps.push(tap),
            Err(gap) => gaps.push(gap),
        }
    }
    (taps, gaps)
}

#[expect(unsafe_code, reason = "libpcap hands out its file descriptor as a number only")]
pub(super) fn descriptor(handle: &Capture<Active>) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to the handle, which stays open as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(handle.as_raw_fd()) }
}

/// Closes the handles: device, frames received, frames dropped by the kernel of each.
pub(super) fn close(taps: Vec<Tap>) -> Vec<(Device, u64, u64)> {
    let taps: Vec<_> = taps.into_iter().map(|tap| std::sync::Mutex::new(Some(tap))).collect();
    in_parallel(&taps, |tap| {
        let mut tap = tap.lock().ok()?.take()?;
        let (received, lost) = tap.counts();
        let device = tap.device;
        drop(tap);
        Some((device, received, lost))
    })
    .into_iter()
    .flatten()
    .collect()
}

/// Does the work for every item, each on a thread of its own as far as there may be that many. The threads may move into namespaces.
fn in_parallel<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let per_thread = items.len().div_ceil(MAX_THREADS).max(1);
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(per_thread)
            .map(|chunk| {
                let task = move || chunk.iter().map(work).collect::<Vec<_>>();
                thread::Builder::new().name("pcap".into()).stack_size(STACK).spawn_scoped(scope, task)
            })
            .collect();
        // A thread that could not be started has done nothing; what it was for will be missed by the caller.
        threads.into_iter().filter_map(|thread| thread.ok()?.join().ok()).flatten().collect()
    })
}

fn open(target: &Target, direction: Direction, buffer: usize, opening: &Opening) -> Result<Tap, Error> {
    let inactive = Capture::from_device(target.name.as_str())?
        .immediate_mode(true)
        .snaplen(opening.snaplen)
        .buffer_size(i32::try_from(buffer).unwrap_or(i32::MAX))
        .precision(Precision::Nano)
        .promisc(false);
    let mut handle = inactive.open()?.setnonblock()?;
    let linktype = handle.get_datalink();
    let expression = if linktype == Linktype::ETHERNET { &opening.ethernet } else { &opening.bare };
    if !expression.is_empty() {
        handle.filter(expression, true)?;
    }
    let mut before = (0, 0);
    match direction {
        Direction::In | Direction::Unknown => {
            handle.direction(::pcap::Direction::In)?;
            // Older kernels copy, and libpcap throws away.
            let _ = setsockopt(&descriptor(&handle), IgnoreOutgoing, &1);
        }
        Direction::Out => {
            handle.direction(::pcap::Direction::Out)?;
            // Else the kernel copies what comes in as well, and libpcap throws it away.
            only_outgoing(&handle, expression);
        }
    }
    if let Ok(stats) = handle.stats() {
        before = (stats.received.into(), stats.dropped.into());
    }
    Ok(Tap { handle, device: target.device, direction, linktype, name: named(target), before })
}

/// Gives the socket a filter that lets only through what is sent, past libpcap: the first frame after pcap_setfilter is judged by
/// libpcap's own interpreter, which knows nothing of a direction and would refuse it. Without it the handle shows the same.
fn only_outgoing(handle: &Capture<Active>, expression: &str) {
    let expression = if expression.is_empty() { "outbound".to_owned() } else { format!("outbound and ({expression})") };
    let Ok(program) = handle.compile(&expression, true) else { return };
    // The library shows an instruction as text only: code, both jumps, constant.
    let read = |text: String| {
        let mut numbers = text.split(' ').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(SockFilter::new(next()?.try_into().ok()?, next()?.try_into().ok()?, next()?.try_into().ok()?, next()?))
    };
    let filter: Option<Vec<SockFilter>> =
        program.get_instructions().iter().map(|instruction| read(instruction.to_string())).collect();
    if let Some(filter) = filter {
        let _ = SockRef::from(&descriptor(handle)).attach_filter(&filter);
    }
}

impl Tap {
    /// Frames that passed the filter and frames of these that found no room, so far. A device that is gone has no
    /// statistics any more.
    pub fn counts(&mut self) -> (u64, u64) {
        let (received, lost) = self.before;
        self.handle.stats().map_or((0, 0), |stats| {
            (u64::from(stats.received).saturating_sub(received), u64::from(stats.dropped).saturating_sub(lost))
        })
    }

    /// The next frame; None if there is none now. An error is the end of this tap.
    pub fn next(&mut self, offset: u64) -> Result<Option<Frame>, Gap> {
        match self.handle.next_packet() {
            Ok(packet) => {
                let header = packet.header;
                let seconds = u64::try_from(header.ts.tv_sec).unwrap_or_default();
                // With nanosecond precision libpcap puts nanoseconds where the name says microseconds.
                let nanoseconds = u64::try_from(header.ts.tv_usec).unwrap_or_default();
                let (link, skipped) = match self.linktype {
                    Linktype::ETHERNET => (LinkLayer::Ethernet, 0),
                    COOKED => (LinkLayer::Ip, 16),
                    _ => (LinkLayer::Ip, 0),
                };
                Ok(Some(Frame {
                    time: on_our_clock(seconds * 1_000_000_000 + nanoseconds, offset),
                    device: self.device,
                    direction: self.direction,
                    bytes: packet.data.get(skipped..).unwrap_or_default().to_vec(),
                    len: header.len.saturating_sub(skipped as u32),
                    link,
                }))
            }
            Err(Error::TimeoutExpired | Error::NoMorePackets) => Ok(None),
            Err(error) => {
                let why = match error {
                    Error::PcapError(said) => said,
                    other => other.to_string(),
                };
                Err(gap(&self.name, why))
            }
        }
    }
}

fn named(target: &Target) -> String {
    if target.netns_name == "." { target.name.clone() } else { format!("{}/{}", target.netns_name, target.name) }
}

fn gap(name: &str, why: String) -> Gap {
    let help = if why.contains("ermission") || why.contains("not permitted") {
        "capturing needs CAP_NET_RAW in the device's namespace, and entering the namespace CAP_SYS_ADMIN".to_owned()
    } else {
        String::new()
    };
    Gap { what: format!("frames on {name}"), why, help }
}
