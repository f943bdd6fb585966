//! Captures on all devices of the way, each in its own namespace, by libpcap: the second, independent witness, and the
//! only one where eBPF is not to be had.
//!
//! [`Capture::start`] opens the devices and returns when all of them listen; [`Capture::stop`] takes what
//! is left in the buffers and closes them. In between one thread waits for all of them at once and keeps the frames that
//! belong to the question ([`Sieve`]). What could not be opened, or broke off, is a [`Gap`].
//!
//! # Two handles for one device
//!
//! libpcap does not say which way an Ethernet frame went, and its cooked link layer, which does, has no destination
//! address. So each device is opened twice, once for each direction (pcap_setdirection). The words `inbound` and `outbound` in
//! the filter would have the kernel decide before it copies, but they lose a frame: libpcap judges the first frame after
//! installing a filter by its own interpreter, which knows nothing of `skb->pkt_type` and refuses it (1.10.3,
//! pcap_setfilter_linux). PACKET_IGNORE_OUTGOING (4.20) spares the inbound handles the copies instead.
//! On lo one handle is enough: every packet is sent and received there, and libpcap shows the receiving only.
//!
//! # What it costs
//!
//! Making a handle's ring buffer, and closing it, each wait for a grace period of the kernel's RCU (packet_set_ring and
//! packet_release in net/packet/af_packet.c, 5.10 to 6.18), some ten milliseconds in which nothing happens. Waiting in
//! parallel shares the grace periods, so there is a short-lived thread for every handle, at both ends.
//! A process that exits without [`Capture::stop`] has the kernel close the handles one by one, which can take seconds.
//!
//! # What the frames are not
//!
//! Their times are those at which the frame reached the capture. A VLAN tag that the kernel keeps beside the packet is
//! put back by libpcap. Promiscuous mode stays off: it would change the device, so frames that a real network card
//! filters out are not seen. A device that is down carries nothing and is not opened.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::clock;
use super::netns::Handle as NetnsHandle;
use crate::model::frame::Frame;
use crate::model::id::{Device, Nanos};
use crate::model::sight::Gap;
use crate::packet::identity::{Key, Sieve};
use crate::packet::parse_frame;

mod filter;
mod open;
pub mod stream;

pub use filter::{Filter, FilterError};

use open::Tap;

/// Frames of one question that are kept; a loop between two routers can make any number.
const MAX_FRAMES: usize = 200_000;

/// A device to listen on.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which.
    pub device: Device,
    /// Its name there.
    pub name: String,
    /// Its namespace.
    pub netns: NetnsHandle,
    /// The namespace's name, for people.
    pub netns_name: String,
    /// It is lo.
    pub loopback: bool,
    /// IFF_UP: nothing passes a device that is down, and it cannot be opened.
    pub up: bool,
}

/// Running captures.
#[derive(Debug)]
pub struct Capture {
    devices: Vec<Device>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<Tap>>>,
}

/// What the captures saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Captured {
    /// The question's frames, by time.
    pub frames: Vec<Frame>,
    /// Frames that passed the kernel's filter.
    pub received: u64,
    /// Frames that the kernel dropped because a buffer was full, or that we had no room for.
    pub lost: u64,
    /// The devices where that happened.
    pub lossy: Vec<Device>,
    /// Captures that broke off.
    pub gaps: Vec<Gap>,
}

/// What the waiting thread and its owner share.
#[derive(Debug)]
struct Shared {
    seen: Mutex<Captured>,
    /// Written to end the thread.
    stop: EventFd,
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Captured> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nothing can be captured at all.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No file descriptor or thread to wait with.
    #[error("cannot wait for captured frames")]
    Wait(#[source] std::io::Error),
}

impl Capture {
    /// Opens the devices and waits until all of them listen. `key` says which frames are kept, `notify` is called after some were.
    pub fn start(
        targets: &[Target],
        filter: &Filter,
        key: Key,
        notify: impl Fn() + Send + 'static,
    ) -> Result<(Self, Vec<Gap>), CaptureError> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| CaptureError::Wait(errno.into()))?;
        let (taps, gaps) = open::all(targets, &open::Opening::of(*filter));
        let mut devices: Vec<_> = taps.iter().map(|tap| tap.device).collect();
        devices.sort_unstable();
        devices.dedup();
        // Half a device is not a witness.
        let deaf: Vec<_> = gaps.iter().map(|unopened| unopened.device).collect();
        devices.retain(|device| !deaf.contains(device));
        let shared = Arc::new(Shared { seen: Mutex::default(), stop });
        let watch =
            Watch { taps, sieve: Sieve::new(key), shared: Arc::clone(&shared), offset: clock::realtime_offset() };
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || watch.run(&notify))
            .map_err(CaptureError::Wait)?;
        let gaps = open::summary(gaps);
        Ok((Self { devices, shared, thread: Some(thread) }, gaps))
    }

    /// The devices that are watched in both directions.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The frames kept so far, from number `from` on, in the order in which they were read: that of time on one device only.
    pub fn frames(&self, from: usize) -> Vec<Frame> {
        self.shared.seen().frames.get(from..).unwrap_or_default().to_vec()
    }

    /// Takes what is left, and closes the devices.
    pub fn stop(mut self) -> Captured {
        self.end()
    }

    fn end(&mut self) -> Captured {
        let Some(thread) = self.thread.take() else { return Captured::default() };
        // An eventfd refuses only when its counter is full, and then it is readable as well.
        let _ = self.shared.stop.write(1);
        let taps = thread.join().unwrap_or_default();
        let mut seen = std::mem::take(&mut *self.shared.seen());
        for (device, received, lost) in open::close(taps) {
            seen.received += received;
            seen.lost += lost;
            if lost > 0 {
                seen.lossy.push(device);
            }
        }
        seen.lossy.sort_unstable();
        seen.lossy.dedup();
        seen.frames.sort_by_key(|frame| frame.time);
        seen
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// The waiting thread.
struct Watch {
    taps: Vec<Tap>,
    sieve: Sieve,
    shared: Arc<Shared>,
    /// See [`clock::realtime_offset`].
    offset: u64,
}

impl Watch {
    fn run(mut self, notify: &dyn Fn()) -> Vec<Tap> {
        let mut ended = Vec::new();
        loop {
            let (stop, ready) = self.wait();
            // When it is time to stop every buffer is emptied once more.
            let ready = if stop { vec![true; self.taps.len()] } else { ready };
            let mut any = false;
            for at in (0..self.taps.len()).rev() {
                if !ready.get(at).copied().unwrap_or_default() {
                    continue;
                }
                let (kept, alive) = self.drain(at);
                any |= kept;
                if !alive {
                    ended.push(self.taps.swap_remove(at));
                }
            }
            if any {
                notify();
            }
            if stop {
                ended.append(&mut self.taps);
                return ended;
            }
        }
    }

    /// Sleeps until a frame or the end comes: whether it is the end, and which taps have something.
    fn wait(&self) -> (bool, Vec<bool>) {
        let stop = PollFd::new(self.shared.stop.as_fd(), PollFlags::POLLIN);
        let mut fds: Vec<_> = std::iter::once(stop)
            .chain(self.taps.iter().map(|tap| PollFd::new(open::descriptor(&tap.handle), PollFlags::POLLIN)))
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {
                let mut ready = fds.iter().map(|fd| fd.revents().is_none_or(|events| !events.is_empty()));
                (ready.next().unwrap_or(true), ready.collect())
            }
            Err(Errno::EINTR) => (false, Vec::new()),
            // Without poll(2) there is nothing to wait with: better to end than to spin.
            Err(_) => (true, Vec::new()),
        }
    }

    /// Takes all frames of a tap: whether any was kept, and whether the tap still works.
    fn drain(&mut self, at: usize) -> (bool, bool) {
        let Self { taps, sieve, shared, offset } = self;
        let tap = &mut taps[at];
        let mut kept = false;
        loop {
            match tap.next(*offset) {
                Ok(Some(frame)) => {
                    let is_ours =
                        parse_frame(frame.link, &frame.bytes).is_ok_and(|packet| sieve.admit(&packet).is_some());
                    if is_ours {
                        let mut seen = shared.seen();
                        if seen.frames.len() < MAX_FRAMES {
                            seen.frames.push(frame);
                            kept = true;
                        } else {
                            seen.lost += 1;
                            seen.lossy.push(frame.device);
                            seen.lossy.dedup();
                        }
                    }
                }
                Ok(None) => return (kept, true),
                Err(gap) => {
                    let mut seen = shared.seen();
                    if !seen.gaps.contains(&gap) {
                        seen.gaps.push(gap);
                    }
                    return (kept, false);
                }
            }
        }
    }
}

/// A time of libpcap on the clock of the events.
fn on_our_clock(realtime_ns: u64, offset: u64) -> Nanos {
    Nanos(realtime_ns.saturating_sub(offset))
}
