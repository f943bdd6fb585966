//! Asks whether a port answers: opens TCP connections, or sends UDP datagrams, and tells what came of them.
//!
//! Takes a [`Question`] whose protocol is TCP or UDP, gives the same [`PingOutcome`] as `collect::ping`: an attempt is a
//! request, a connection that is accepted or a datagram that comes back is a reply, and what connect(2) fails with is an
//! error. [`Caller::open`] has to be called in the asked namespace and fixes the source port, so that probes and captures
//! can be told what to look for before anything is sent; [`Caller::run`] asks, on any thread, because a socket keeps its namespace.
//!
//! # TCP
//!
//! Each attempt is a socket of its own, one after the other, from the same port (SO_REUSEADDR). No data are sent: a
//! connection that was accepted is reset at once (SO_LINGER 0), so that neither end keeps anything of it. Within an
//! attempt the kernel repeats its SYN as it does for everybody.
//!
//! # UDP
//!
//! One connected socket. The payload is our cookie and zeroes, which no service understands; some answer all the same, most
//! do not. Silence is told as such: whether the datagram got to a socket is for the diagnosis to find out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};

use super::clock;
use super::ping::error_queue;
use super::ping::socket::{call_failed, destination, set_origin, set_path, source};
use super::ping::{Control, Decision, Manner, OpenError, after, choose_id, unspecified};
use crate::model::id::Nanos;
use crate::model::question::{Iface, Protocol, Question};
use crate::model::recording::{PingError, PingOutcome};
use crate::packet::identity::cookie;

/// Sockets in the asked namespace, ready to ask one question.
#[derive(Debug)]
pub struct Caller {
    question: Question,
    manner: Manner,
    destination: SocketAddr,
    /// One for each attempt; for UDP only one.
    sockets: Vec<Socket>,
    /// What came of binding the first one to the source that was asked for.
    bound: Result<(), PingError>,
    sport: u16,
    icmp_id: u16,
}

impl Caller {
    /// Makes the sockets. Has to be called in the asked namespace. A question without an identifier gets one.
    pub fn open(question: &Question, manner: Manner) -> Result<Self, OpenError> {
        let (port, attempts, kind) = match question.protocol {
            Protocol::Udp { port, .. } => (port, 1, Type::DGRAM),
            Protocol::Tcp { port, .. } => (port, question.count.max(1), Type::STREAM),
            Protocol::Echo => (0, 1, Type::DGRAM),
        };
        let mut destination = destination(question)?;
        destination.set_port(port);
        let domain = if question.dst.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let call = |call: &'static str| move |source: io::Error| OpenError::Call { call, source };
        let mut sockets = Vec::new();
        for _ in 0..attempts {
            let socket = Socket::new(domain, kind.nonblocking(), None).map_err(call("socket"))?;
            socket.set_reuse_address(kind == Type::STREAM).map_err(call("SO_REUSEADDR"))?;
            sockets.push(socket);
        }
        let Some(first) = sockets.first() else { return Err(call("socket")(io::ErrorKind::InvalidInput.into())) };
        let any = unspecified(question.dst.is_ipv6());
        let asked = match question.iface {
            Some(Iface::Address(address)) => address,
            _ => any,
        };
        let bound = shape(first, question, manner).and_then(|()| bind(first, asked, 0, &destination));
        if bound.is_err() {
            // It will not get to sending; the port only has to be something.
            let _ = first.bind(&SocketAddr::new(any, 0).into());
        }
        let local = first.local_addr().map_err(call("getsockname"))?.as_socket();
        let icmp_id = if question.icmp_id == 0 { choose_id() } else { question.icmp_id };
        Ok(Self {
            question: question.clone(),
            manner,
            destination,
            bound,
            sport: local.map_or(0, |local| local.port()),
            icmp_id,
            sockets,
        })
    }

    /// The protocol with the port that all requests will come from.
    pub fn protocol(&self) -> Protocol {
        match self.question.protocol {
            Protocol::Echo => Protocol::Echo,
            Protocol::Tcp { port, .. } => Protocol::Tcp { port, sport: self.sport },
            Protocol::Udp { port, .. } => Protocol::Udp { port, sport: self.sport },
        }
    }

    /// The identifier in the cookie of datagrams.
    pub fn icmp_id(&self) -> u16 {
        self.icmp_id
    }

    /// Asks, and waits for the answers.
    pub fn run(mut self, control: &mut dyn Control) -> PingOutcome {
        let now = clock::monotonic();
        let deadline = self.manner.deadline.map(|wait| after(now, wait));
        let mut run = Run { outcome: PingOutcome { started: now, ended: now, ..PingOutcome::default() }, deadline };
        if let Err(error) = std::mem::replace(&mut self.bound, Ok(())) {
            run.outcome.errors.push(error);
        } else if matches!(self.question.protocol, Protocol::Udp { .. }) {
            run.datagrams(&self, control);
        } else {
            run.connections(self, control);
        }
        run.outcome.ended = clock::monotonic();
        run.outcome
    }
}

/// Everything that setsockopt(2) can say about the question.
fn shape(socket: &Socket, question: &Question, manner: Manner) -> Result<(), PingError> {
    let is_v6 = question.dst.is_ipv6();
    set_origin(socket, is_v6, question, manner)?;
    set_path(socket, is_v6, question)
}

fn bind(socket: &Socket, address: IpAddr, port: u16, destination: &SocketAddr) -> Result<(), PingError> {
    socket.bind(&source(address, port, destination).into()).map_err(|error| call_failed("bind", &error, None))
}

/// What waiting ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The socket has something.
    Ready,
    /// The time is over.
    Over,
    /// The outcome is decided.
    Stopped,
}

/// The state of one asking.
struct Run {
    outcome: PingOutcome,
    deadline: Option<Nanos>,
}

impl Run {
    fn connections(&mut self, caller: Caller, control: &mut dyn Control) {
        let Caller { question, manner, destination, sport, sockets, .. } = caller;
        let any = unspecified(question.dst.is_ipv6());
        let from = question.source().unwrap_or(any);
        let interval = Duration::from_millis(question.interval_ms);
        for (attempt, socket) in sockets.into_iter().enumerate() {
            let begun = clock::monotonic();
            let prepared = match attempt {
                0 => Ok(()),
                _ => shape(&socket, &question, manner).and_then(|()| bind(&socket, from, sport, &destination)),
            };
            let last = attempt + 1 == question.count as usize;
            let outcome = match prepared {
                Ok(()) => self.connect(&socket, &question, &destination, control),
                Err(error) => {
                    self.outcome.errors.push(error);
                    Waited::Ready
                }
            };
            // Nothing is left of it at either end.
            let _ = socket.set_linger(Some(Duration::ZERO));
            drop(socket);
            if outcome == Waited::Stopped {
                self.outcome.cut_short = true;
                return;
            }
            let over = |deadline: Option<Nanos>| deadline.is_some_and(|end| clock::monotonic() >= end);
            if last || over(self.deadline) || self.pause(after(begun, interval), control) == Waited::Stopped {
                return;
            }
        }
    }

    /// One attempt.
    fn connect(
        &mut self,
        socket: &Socket,
        question: &Question,
        destination: &SocketAddr,
        control: &mut dyn Control,
    ) -> Waited {
        let begun = clock::monotonic();
        match socket.connect(&(*destination).into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => {
                self.outcome.errors.push(call_failed("connect", &error, None));
                return Waited::Ready;
            }
        }
        self.outcome.sent += 1;
        self.learn_source(socket);
        let until = after(begun, Duration::from_millis(question.timeout_ms));
        let waited = self.wait(socket, PollFlags::POLLOUT, until, control);
        if waited != Waited::Ready {
            return waited;
        }
        let queued = error_queue::next(&Descriptor(socket.as_raw_fd()), destination).map(|queued| queued.of_own());
        match (socket.take_error(), queued) {
            (Ok(None), _) => {
                self.outcome.received += 1;
                let seq = self.outcome.sent as u16;
                self.outcome.rtt_us.push((seq, clock::monotonic().0.saturating_sub(begun.0) / 1000));
            }
            (Ok(Some(error)), queued) => {
                let failed = call_failed("connect", &error, None);
                self.outcome.errors.push(match queued.filter(|queued| queued.icmp.is_some()) {
                    Some(told) => PingError { text: from(&told, &failed.text), ..told },
                    None => failed,
                });
            }
            (Err(error), _) => self.outcome.errors.push(call_failed("getsockopt", &error, None)),
        }
        // The answer may decide.
        self.consult(control)
    }

    fn datagrams(&mut self, caller: &Caller, control: &mut dyn Control) {
        let Caller { question, destination, sockets, icmp_id, .. } = caller;
        let Some(socket) = sockets.first() else { return };
        if let Err(error) = socket.connect(&(*destination).into()) {
            self.outcome.errors.push(call_failed("connect", &error, None));
            return;
        }
        self.learn_source(socket);
        let mut payload = cookie(*icmp_id).to_vec();
        payload.resize(usize::from(question.size), 0);
        let interval = Duration::from_millis(question.interval_ms);
        for attempt in 1..=question.count {
            let begun = clock::monotonic();
            match socket.send(&payload) {
                Ok(_) => self.outcome.sent += 1,
                // The error of an earlier datagram is handed to whoever calls next.
                Err(_) if self.drain_errors(socket, destination) > 0 => {}
                Err(error) => self.outcome.errors.push(call_failed("send", &error, None)),
            }
            let last = attempt == question.count;
            let patience = if last { Duration::from_millis(question.timeout_ms) } else { interval };
            let until = after(begun, patience);
            let answered = self.outcome.received as usize + self.outcome.errors.len();
            while self.outcome.received as usize + self.outcome.errors.len() == answered {
                match self.wait(socket, PollFlags::POLLIN, until, control) {
                    Waited::Ready => self.drain(socket, destination, begun),
                    Waited::Over => break,
                    Waited::Stopped => {
                        self.outcome.cut_short = true;
                        return;
                    }
                }
            }
            if last || self.deadline.is_some_and(|end| clock::monotonic() >= end) {
                return;
            }
            if self.pause(until, control) == Waited::Stopped {
                self.outcome.cut_short = true;
                return;
            }
        }
    }

    fn drain(&mut self, socket: &Socket, destination: &SocketAddr, begun: Nanos) {
        self.drain_errors(socket, destination);
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1];
        while socket.recv(&mut buffer).is_ok() {
            self.outcome.received += 1;
            let seq = self.outcome.sent as u16;
            self.outcome.rtt_us.push((seq, clock::monotonic().0.saturating_sub(begun.0) / 1000));
        }
    }

    fn drain_errors(&mut self, socket: &Socket, destination: &SocketAddr) -> usize {
        let before = self.outcome.errors.len();
        while let Some(queued) = error_queue::next(&Descriptor(socket.as_raw_fd()), destination) {
            let told = queued.of_own();
            let said = told.errno.map_or("", |errno| Errno::from_raw(errno).desc());
            let text = from(&told, said);
            self.outcome.errors.push(PingError { text, ..told });
        }
        // What is in the queue is pending on the socket as well.
        let _ = socket.take_error();
        self.outcome.errors.len() - before
    }

    fn learn_source(&mut self, socket: &Socket) {
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        self.outcome.source = local.map(|local| local.ip()).filter(|address| !address.is_unspecified());
    }

    /// Lets time pass until the next attempt.
    fn pause(&mut self, until: Nanos, control: &mut dyn Control) -> Waited {
        let waited = self.wait_for(None, until, control);
        if waited == Waited::Stopped {
            self.outcome.cut_short = true;
        }
        waited
    }

    fn wait(&mut self, socket: &Socket, for_what: PollFlags, until: Nanos, control: &mut dyn Control) -> Waited {
        self.wait_for(Some((socket.as_fd(), for_what)), until, control)
    }

    /// Asks whoever may cut it short.
    fn consult(&mut self, control: &mut dyn Control) -> Waited {
        match control.decide(&self.outcome) {
            Decision::Stop => Waited::Stopped,
            _ => Waited::Ready,
        }
    }

    fn wait_for(
        &mut self,
        socket: Option<(BorrowedFd<'_>, PollFlags)>,
        until: Nanos,
        control: &mut dyn Control,
    ) -> Waited {
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        loop {
            let ask_again = match control.decide(&self.outcome) {
                Decision::Stop => return Waited::Stopped,
                Decision::AskAgain(at) => Some(at),
                Decision::GoOn => None,
            };
            let now = clock::monotonic();
            if now >= until {
                return Waited::Over;
            }
            let next = ask_again.map_or(until, |at| at.max(after(now, Duration::from_millis(1))).min(until));
            let mut fds: Vec<PollFd<'_>> = socket.iter().map(|(socket, what)| PollFd::new(*socket, *what)).collect();
            fds.extend(control.wake().map(|wake| PollFd::new(wake, PollFlags::POLLIN)));
            let timeout = TimeSpec::from_duration(Duration::from_nanos(next.0.saturating_sub(now.0)));
            // EINTR and the like only make us look again.
            let ready = nix::poll::ppoll(&mut fds, Some(timeout), None).unwrap_or(0);
            if ready > 0 && socket.is_some() && fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return Waited::Ready;
            }
        }
    }
}

/// A file descriptor by number, as the error queue wants it.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// What was told, by whom: `connect: No route to host (From 10.0.0.1: Destination Host Unreachable)`.
fn from(told: &PingError, said: &str) -> String {
    match told.offender {
        Some(offender) => format!("{said} (from {offender}: {})", told.text),
        None if told.text.is_empty() => said.to_owned(),
        None => format!("{said} ({})", told.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::ping::Patient;
    use crate::model::id::NetnsId;
    use crate::model::question::PmtuDiscovery;

    fn question(protocol: Protocol) -> Question {
        Question {
            netns: NetnsId(0),
            dst: [127, 0, 0, 1].into(),
            iface: None,
            zone: None,
            count: 1,
            interval_ms: 10,
            timeout_ms: 2000,
            size: 56,
            ttl: None,
            tos: 0,
            mark: 0,
            pmtu: PmtuDiscovery::Default,
            icmp_id: 0,
            protocol,
        }
    }

    #[test]
    fn a_listening_port_accepts() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let question = Question { count: 2, ..question(Protocol::Tcp { port, sport: 0 }) };
        let caller = Caller::open(&question, Manner::default()).unwrap();
        assert!(matches!(caller.protocol(), Protocol::Tcp { sport: 1.., .. }));
        let outcome = caller.run(&mut Patient);
        assert_eq!((outcome.sent, outcome.received, outcome.errors.len()), (2, 2, 0), "{:?}", outcome.errors);
        assert_eq!(outcome.source, Some([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_closed_port_refuses() {
        // A port that is bound and does not listen is closed for sure.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        let outcome =
            Caller::open(&question(Protocol::Tcp { port, sport: 0 }), Manner::default()).unwrap().run(&mut Patient);
        assert_eq!((outcome.sent, outcome.received), (1, 0));
        assert!(outcome.errors.iter().all(PingError::is_refusal) && outcome.errors.len() == 1, "{:?}", outcome.errors);
    }

    #[test]
    fn a_datagram_is_answered_or_refused() {
        let service = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = service.local_addr().unwrap().port();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            let (len, from) = service.recv_from(&mut buffer).unwrap();
            service.send_to(&buffer[..len], from).unwrap();
            buffer[..8].to_vec()
        });
        let caller = Caller::open(&question(Protocol::Udp { port, sport: 0 }), Manner::default()).unwrap();
        let id = caller.icmp_id();
        let outcome = caller.run(&mut Patient);
        assert_eq!((outcome.sent, outcome.received), (1, 1), "{:?}", outcome.errors);
        assert_eq!(echo.join().unwrap(), cookie(id));
        // A port whose socket listens to another only is closed for sure. One that was just closed need not be: the child of
        // another thread holds it from fork to exec.
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        deaf.connect("127.0.0.1:9").unwrap();
        let port = deaf.local_addr().unwrap().port();
        let outcome =
            Caller::open(&question(Protocol::Udp { port, sport: 0 }), Manner::default()).unwrap().run(&mut Patient);
        assert_eq!((outcome.sent, outcome.received), (1, 0));
        assert_eq!(outcome.errors.first().and_then(|error| error.icmp), Some((3, 3)), "{:?}", outcome.errors);
    }

    #[test]
    fn a_source_that_is_not_ours_is_told() {
        let elsewhere = Iface::Address([192, 0, 2, 77].into());
        let question = Question { iface: Some(elsewhere), ..question(Protocol::Tcp { port: 9, sport: 0 }) };
        let outcome = Caller::open(&question, Manner::default()).unwrap().run(&mut Patient);
        assert_eq!((outcome.sent, outcome.errors[0].call.as_str()), (0, "bind"));
    }
}
