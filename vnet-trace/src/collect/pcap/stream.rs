//! Captures without an end: frames in the order of time, as they come, for as long as somebody takes them.
//!
//! [`Stream::start`] opens the devices as a [`super::Capture`] does. [`Stream::take`] waits for frames and hands them over, sorted
//! by time over all devices: what was captured after the round began is held back until the next, because another
//! device may still have something earlier. Nothing is kept beyond that, so memory is that of the kernel's buffers.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::open::{self, Opening, Tap};
use super::{CaptureError, Captured, Target};
use crate::collect::clock;
use crate::model::frame::Frame;
use crate::model::id::{Device, Nanos};
use crate::model::sight::Gap;

/// Kernel memory for all ring buffers together, and the most for one, in bytes.
const ALL_BUFFERS: usize = 24 << 20;
const LARGEST_BUFFER: usize = 4 << 20;

/// Frames that are taken of one device in one round.
const ROUND: usize = 4096;

/// Between the stamping of a frame and its being in the buffer.
const MOMENT: Nanos = Nanos(50_000);

/// Frames that are still taken at the end: what is captured faster than it is read has no end.
const LAST: usize = 65_536;

/// Captures at work.
#[derive(Debug)]
pub struct Stream {
    taps: Vec<Tap>,
    opening: Opening,
    devices: Vec<Device>,
    /// Taken, and not handed over yet.
    held: Vec<Frame>,
    offset: u64,
    /// Of devices that are gone: frames that passed the filter, and frames that found no room.
    received: u64,
    lost: u64,
    gaps: Vec<Gap>,
}

impl Stream {
    /// Opens the devices and waits until all of them listen. The expression is in tcpdump's language; an empty one lets
    /// everything through. `snaplen` is how many bytes of a frame are kept.
    pub fn start(targets: &[Target], expression: &str, snaplen: Option<u32>) -> (Self, Vec<Gap>) {
        let snaplen = snaplen.map_or(open::SNAPLEN, |snaplen| i32::try_from(snaplen).unwrap_or(i32::MAX));
        let opening = Opening {
            ethernet: expression.to_owned(),
            bare: expression.to_owned(),
            snaplen,
            buffers: ALL_BUFFERS,
            largest: LARGEST_BUFFER,
        };
        let mut stream = Self {
            taps: Vec::new(),
            opening,
            devices: Vec::new(),
            held: Vec::new(),
            offset: clock::realtime_offset(),
            received: 0,
            lost: 0,
            gaps: Vec::new(),
        };
        let gaps = stream.add(targets);
        (stream, gaps)
    }

    /// Opens more devices; those that are open already are left as they are.
    pub fn add(&mut self, targets: &[Target]) -> Vec<Gap> {
        let new: Vec<Target> =
            targets.iter().filter(|target| !self.devices.contains(&target.device)).cloned().collect();
        if new.is_empty() {
            return Vec::new();
        }
        let (taps, gaps) = open::all(&new, &self.opening);
        let deaf: Vec<_> = gaps.iter().map(|unopened| unopened.device).collect();
        self.devices.extend(taps.iter().map(|tap| tap.device).filter(|device| !deaf.contains(device)));
        self.taps.extend(taps);
        self.devices.sort_unstable();
        self.devices.dedup();
        open::summary(gaps)
    }

    /// The devices that are watched in both directions.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The namespaces have other numbers. A device that is in none of them any more is closed.
    pub fn rename(&mut self, renamed: &dyn Fn(Device) -> Option<Device>) {
        let taps = std::mem::take(&mut self.taps);
        for mut tap in taps {
            match renamed(tap.device) {
                Some(device) => {
                    tap.device = device;
                    self.taps.push(tap);
                }
                None => {
                    for (_, received, lost) in open::close(vec![tap]) {
                        self.received += received;
                        self.lost += lost;
                    }
                }
            }
        }
        self.devices = self.devices.iter().filter_map(|device| renamed(*device)).collect();
        self.devices.sort_unstable();
        self.held.retain_mut(|frame| {
            let device = renamed(frame.device);
            frame.device = device.unwrap_or(frame.device);
            device.is_some()
        });
    }

    /// What to add to a time of a frame to get nanoseconds since 1970.
    pub fn realtime_offset(&self) -> u64 {
        self.offset
    }

    /// Waits for frames, at most so many milliseconds, and hands them over. A signal ends the wait.
    pub fn take(&mut self, at_most_ms: u16, frames: &mut Vec<Frame>) -> Result<(), CaptureError> {
        let ready = self.wait(if self.held.is_empty() { at_most_ms } else { at_most_ms.min(1) })?;
        let mut horizon = Nanos(clock::monotonic().0.saturating_sub(MOMENT.0));
        let mut ended = Vec::new();
        for (at, tap) in self.taps.iter_mut().enumerate() {
            if !ready.get(at).copied().unwrap_or_default() {
                continue;
            }
            for count in 0..=ROUND {
                match tap.next(self.offset) {
                    Ok(Some(frame)) => {
                        if count == ROUND {
                            horizon = horizon.min(frame.time);
                        }
                        self.held.push(frame);
                    }
                    Ok(None) => break,
                    Err(gap) => {
                        ended.push(at);
                        self.gaps.push(gap);
                        break;
                    }
                }
            }
        }
        for at in ended.into_iter().rev() {
            let gone = self.taps.swap_remove(at);
            self.devices.retain(|device| *device != gone.device);
            for (_, received, lost) in open::close(vec![gone]) {
                self.received += received;
                self.lost += lost;
            }
        }
        self.held.sort_by_key(|frame| frame.time);
        let ripe = self.held.partition_point(|frame| frame.time <= horizon);
        frames.extend(self.held.drain(..ripe));
        Ok(())
    }

    /// Which taps have something.
    fn wait(&self, at_most_ms: u16) -> Result<Vec<bool>, CaptureError> {
        let mut fds: Vec<_> =
            self.taps.iter().map(|tap| PollFd::new(open::descriptor(&tap.handle), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(at_most_ms)) {
            Ok(_) => Ok(fds.iter().map(|fd| fd.revents().is_none_or(|events| !events.is_empty())).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(CaptureError::Wait(errno.into())),
        }
    }

    /// Frames that found no room, so far.
    pub fn lost(&mut self) -> u64 {
        self.lost + self.taps.iter_mut().map(|tap| tap.counts().1).sum::<u64>()
    }

    /// What broke off since the last call.
    pub fn gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Takes what is left, and closes the devices.
    pub fn stop(mut self) -> Captured {
        let mut captured = Captured { received: self.received, lost: self.lost, ..Captured::default() };
        for tap in &mut self.taps {
            while self.held.len() < LAST
                && let Ok(Some(frame)) = tap.next(self.offset)
            {
                self.held.push(frame);
            }
        }
        for (device, received, lost) in open::close(std::mem::take(&mut self.taps)) {
            captured.received += received;
            captured.lost += lost;
            if lost > 0 {
                captured.lossy.push(device);
            }
        }
        captured.frames = std::mem::take(&mut self.held);
        captured.frames.sort_by_key(|frame| frame.time);
        captured.lossy.sort_unstable();
        captured.lossy.dedup();
        captured.gaps = std::mem::take(&mut self.gaps);
        captured
    }
}
