//! Sends the echo requests of a question and tells what came back, as ping(8) does.
//!
//! [`Asker::open`] makes the sockets, on a thread that is in the asked namespace, and fixes the ICMP identifier, so that
//! probes and captures can be told what to look for before anything is sent. [`Asker::run`] asks: it belongs on
//! the same thread no longer, because a socket keeps its namespace.
//!
//! # As ping(8)
//!
//! Without a source address a UDP socket is connected to the destination first, only to learn which source the
//! kernel would choose and whether it knows a way: that is where "connect: Network is unreachable" comes from. A
//! device is bound to with SO_BINDTODEVICE, on that socket and on the one that sends (iputils does so in both
//! families), so replies count only if the kernel says that they came in by it. A source address is bound to, without
//! the UDP socket. Waiting ends when replies and errors are as many as requests, else after `-W` from the last
//! request, or after two round trips (at least the interval) if anything came back.
//!
//! # Raw socket or ping socket
//!
//! A raw socket needs CAP_NET_RAW and lets us choose the identifier. Without the capability a ping socket
//! (net.ipv4.ping_group_range) serves: there the identifier is the port that the kernel gave us.
//! ICMP errors are taken from the error queue in both cases (IP_RECVERR), where the kernel names the offender and
//! gives back the packet that it is about.
//!
//! What is not done: flooding, preloading, record route, and the choice of a pattern.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::clock;
use crate::model::id::Nanos;
use crate::model::question::{Iface, Question};
use crate::model::recording::{PingError, PingOutcome};

pub(in crate::collect) mod error_queue;
mod message;
mod resolve;
pub(in crate::collect) mod socket;

pub use resolve::{Family, ResolveError, Resolved, resolve};
pub use socket::{Kind, OpenError};

use message::{Arrival, Verdict};

/// The flags of ping(8) that say how to ask rather than what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// `-w`: stop after this long, whatever came back; `-c` then counts replies.
    pub deadline: Option<Duration>,
    /// `-B`: keep the source address that the kernel chose first.
    pub sticky_source: bool,
    /// ping's `-b`: a broadcast address may be asked.
    pub broadcast: bool,
}

/// Whether asking goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// As ping would.
    GoOn,
    /// As ping would, but ask again at this time at the latest.
    AskAgain(Nanos),
    /// The outcome is decided: send nothing more, wait for nothing.
    Stop,
}

/// Who may cut the asking short. It is asked after everything that happens, and when its file descriptor is readable.
pub trait Control {
    /// Readable when [`Control::decide`] has something new to say. It is the implementor's to drain.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether to go on.
    fn decide(&mut self, so_far: &PingOutcome) -> Decision;
}

/// Lets ping have its way to the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patient;

impl Control for Patient {
    fn decide(&mut self, _so_far: &PingOutcome) -> Decision {
        Decision::GoOn
    }
}

/// Sockets in the asked namespace, ready to ask one question.
#[derive(Debug)]
pub struct Asker {
    question: Question,
    manner: Manner,
    socket: socket::EchoSocket,
    destination: SocketAddr,
}

impl Asker {
    /// Makes the sockets. Has to be called in the asked namespace. A question with the identifier 0 gets one.
    pub fn open(question: &Question, manner: Manner) -> Result<Self, OpenError> {
        let socket = socket::EchoSocket::open(question)?;
        let destination = socket::destination(question)?;
        Ok(Self { question: question.clone(), manner, socket, destination })
    }

    /// The ICMP identifier that all requests will carry.
    pub fn icmp_id(&self) -> u16 {
        self.socket.icmp_id
    }

    /// Which kind of socket it is.
    pub fn kind(&self) -> Kind {
        self.socket.kind
    }

    /// Asks, and waits for the answers.
    pub fn run(self, control: &mut dyn Control) -> PingOutcome {
        let now = clock::monotonic();
        let mut run = Run {
            outcome: PingOutcome { started: now, ended: now, ..PingOutcome::default() },
            attempts: 0,
            errors: 0,
            sent_at: BTreeMap::new(),
            answered: BTreeSet::new(),
            asker: self,
        };
        match run.prepare() {
            Ok(()) => run.ask(control),
            Err(error) => run.outcome.errors.push(error),
        }
        run.outcome.ended = clock::monotonic();
        run.outcome
    }
}

/// What was in the error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Drained {
    Nothing,
    /// ICMP errors, ours or not.
    Icmp,
    /// A refusal of the kernel, about what is being sent.
    Local,
}

/// The state of one asking.
struct Run {
    asker: Asker,
    outcome: PingOutcome,
    /// Requests that we tried to send; the last sequence number.
    attempts: u32,
    /// Errors that belong to requests; each counts as an answer.
    errors: u32,
    sent_at: BTreeMap<u16, Nanos>,
    answered: BTreeSet<u16>,
}

impl Run {
    /// Options, source, binding: everything that can fail before anything is sent.
    fn prepare(&mut self) -> Result<(), PingError> {
        let Asker { question, manner, socket, destination } = &self.asker;
        socket.set_options(question, *manner)?;
        let source = if let Some(Iface::Address(address)) = question.iface {
            socket.bind(address, destination)?;
            address
        } else {
            let source = socket.learn_source(destination)?;
            if manner.sticky_source {
                socket.bind(source, destination)?;
            }
            source
        };
        self.outcome.source = Some(source);
        Ok(())
    }

    fn ask(&mut self, control: &mut dyn Control) {
        let interval = Duration::from_millis(self.asker.question.interval_ms);
        let start = clock::monotonic();
        self.outcome.started = start;
        let deadline = self.asker.manner.deadline.map(|wait| after(start, wait));
        let mut next_send = start;
        let mut last_attempt = start;
        loop {
            let mut now = clock::monotonic();
            if self.wants_to_send() && now >= next_send {
                self.send(now);
                last_attempt = now;
                next_send = after(next_send.max(Nanos(now.0.saturating_sub(1))), interval);
                now = clock::monotonic();
            }
            let ask_again = match control.decide(&self.outcome) {
                Decision::Stop => {
                    self.outcome.cut_short = !self.is_complete();
                    return;
                }
                Decision::AskAgain(at) => Some(at),
                Decision::GoOn => None,
            };
            if self.is_complete() || deadline.is_some_and(|end| now >= end) {
                return;
            }
            let pause = if self.wants_to_send() { next_send } else { after(last_attempt, self.linger(interval)) };
            if !self.wants_to_send() && now >= pause {
                return;
            }
            // Whoever asks for a time that has passed must not make us spin.
            let ask_again = ask_again.map(|at| at.max(after(now, Duration::from_millis(1))));
            let until = [Some(pause), deadline, ask_again];
            let until = until.into_iter().flatten().min().unwrap_or(pause);
            self.wait(until, control.wake());
        }
    }

    fn wants_to_send(&self) -> bool {
        self.attempts < self.asker.question.count || self.asker.manner.deadline.is_some()
    }

    /// As many answers as questions. With a deadline errors end it as well, as in ping.
    fn is_complete(&self) -> bool {
        let count = self.asker.question.count;
        count > 0 && self.outcome.received + self.errors >= count
            || self.asker.manner.deadline.is_some() && self.errors > 0
    }

    /// How long after the last request we wait.
    fn linger(&self, interval: Duration) -> Duration {
        match self.outcome.rtt_us.iter().map(|(_, rtt)| *rtt).max() {
            Some(longest) => Duration::from_micros(longest * 2).max(interval),
            None => Duration::from_millis(self.asker.question.timeout_ms),
        }
    }

    fn send(&mut self, now: Nanos) {
        self.attempts += 1;
        let seq = self.attempts as u16;
        let request =
            message::request(&self.asker.destination, self.asker.icmp_id(), seq, self.asker.question.size, now);
        let mut result = self.asker.socket.send(&request, &self.asker.destination);
        // The kernel hands an ICMP error about an earlier request to whoever calls next; then nothing was sent.
        while result.is_err() {
            match self.drain_errors(Some(seq)) {
                Drained::Icmp => result = self.asker.socket.send(&request, &self.asker.destination),
                // It says more than errno has: the MTU.
                Drained::Local => return,
                Drained::Nothing => break,
            }
        }
        match result {
            Ok(()) => {
                self.outcome.sent += 1;
                self.sent_at.insert(seq, now);
            }
            Err(error) => {
                self.errors += 1;
                self.outcome.errors.push(socket::call_failed("sendmsg", &error, Some(seq)));
            }
        }
    }

    /// Sleeps until something arrives, but not longer than `until`.
    fn wait(&mut self, until: Nanos, wake: Option<BorrowedFd<'_>>) {
        let left = until.0.saturating_sub(clock::monotonic().0);
        let readable = {
            let socket = self.asker.socket.as_fd();
            let mut fds = vec![PollFd::new(socket, PollFlags::POLLIN)];
            fds.extend(wake.map(|wake| PollFd::new(wake, PollFlags::POLLIN)));
            let timeout = TimeSpec::from_duration(Duration::from_nanos(left));
            // EINTR and the like only make us look again.
            let ready = nix::poll::ppoll(&mut fds, Some(timeout), None).unwrap_or(0);
            ready > 0 && fds[0].revents().is_some_and(|events| !events.is_empty())
        };
        if readable {
            self.drain_errors(None);
            self.drain_replies();
        }
    }

    /// Takes everything from the error queue.
    fn drain_errors(&mut self, sending: Option<u16>) -> Drained {
        let mut drained = Drained::Nothing;
        while let Some(error) = error_queue::next(&self.asker.socket, &self.asker.destination) {
            // A raw socket gets everybody's errors, and has to be asked again all the same.
            drained = drained.max(Drained::Icmp);
            let Some(mut error) = error.about(self.asker.icmp_id()) else { continue };
            if error.icmp.is_none() {
                drained = Drained::Local;
                error.seq = error.seq.or(sending);
            }
            self.errors += 1;
            self.outcome.errors.push(error);
        }
        drained
    }

    fn drain_replies(&mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.asker.socket.receive(&mut buffer) {
                Ok(received) => {
                    let arrival = Arrival {
                        bytes: &buffer[..received.len],
                        has_ip_header: self.asker.socket.has_ip_header(),
                        is_v6: self.asker.destination.is_ipv6(),
                    };
                    self.count(&arrival, received.at);
                }
                // An error that was reported here first is in the queue as well.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.drain_errors(None);
                }
            }
        }
    }

    fn count(&mut self, arrival: &Arrival<'_>, at: Nanos) {
        let Some((seq, verdict)) = message::judge(arrival, self.asker.icmp_id()) else { return };
        let Some(sent) = self.sent_at.get(&seq).copied() else { return };
        match verdict {
            Verdict::BadChecksum => self.outcome.corrupted.push(seq),
            Verdict::Intact | Verdict::WrongData => {
                if verdict == Verdict::WrongData {
                    self.outcome.corrupted.push(seq);
                }
                if self.answered.insert(seq) {
                    self.outcome.received += 1;
                    self.outcome.rtt_us.push((seq, at.0.saturating_sub(sent.0) / 1000));
                } else {
                    self.outcome.duplicates += 1;
                }
            }
        }
    }
}

pub(in crate::collect) fn after(time: Nanos, wait: Duration) -> Nanos {
    Nanos(time.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

/// An unused identifier, as good as random: two runs at once must not take each other's packets for theirs.
pub(in crate::collect) fn choose_id() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    1 + (random % 0xfffe) as u16
}

/// The address of a destination as ping prints it.
pub(in crate::collect) fn unspecified(is_v6: bool) -> IpAddr {
    if is_v6 { std::net::Ipv6Addr::UNSPECIFIED.into() } else { std::net::Ipv4Addr::UNSPECIFIED.into() }
}
