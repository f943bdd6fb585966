//! Asks the kernel over netlink, and survives every answer.
//!
//! A [`Channel`] is a socket in the network namespace of the thread that opened it, and stays there whatever that
//! thread does later. [`Channel::dump`] repeats a dump that the kernel marks as interrupted (NLM_F_DUMP_INTR: something
//! changed between two parts), a few times and then says so. A message that cannot be read costs that message only.
//!
//! The files beneath are one object each: what is asked, which attributes answer, which field of the snapshot they fill.
//! Messages are read as bytes and not with the typed crates because a diagnosis must not lose a device over one
//! attribute that is newer than this program; see [`attribute`]. Numbers are from include/uapi/linux.

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use attribute::{Attributes, Malformed, u16_at, u32_at};

pub mod address;
pub mod attribute;
pub mod conntrack;
pub mod fdb;
pub mod filter;
pub mod link;
pub mod neigh;
pub mod nsid;
pub mod qdisc;
pub mod route;
pub mod rule;
pub mod sock_diag;
#[cfg(test)]
mod tests;
pub mod vlan;
pub mod xfrm;

/// NETLINK_ROUTE.
pub const ROUTE: isize = 0;

/// Seconds without a word from the kernel after which we stop waiting: a dump never takes that long.
const PATIENCE: i64 = 5;
/// How often an interrupted dump is repeated.
const ATTEMPTS: usize = 4;
/// The kernel gives dumps in parts of at most 32 KiB; a single object may be larger (a port with all VLANs).
const BUFFER: usize = 128 * 1024;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be made.
    #[error("cannot open a netlink socket")]
    Open {
        /// What the kernel says.
        source: io::Error,
    },
    /// The question could not be sent, or the answer not received.
    #[error("cannot talk over the netlink socket")]
    Talk {
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel understood and refuses.
    #[error("the kernel refuses: {}", io::Error::from_raw_os_error(*errno))]
    Refused {
        /// Positive errno.
        errno: i32,
    },
    /// The answer is cut short or no netlink at all.
    #[error("the kernel's answer cannot be read")]
    Malformed(#[from] Malformed),
}

impl NetlinkError {
    /// The errno that the kernel answered with, if it answered.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the kernel says that it has no such thing at all (a family or an operation that is not built in).
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(nix::libc::EOPNOTSUPP | nix::libc::EPROTONOSUPPORT | nix::libc::EAFNOSUPPORT))
            || matches!(self, Self::Open { source } if source.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT))
    }
}

/// A question to the kernel: message type, fixed header, attributes.
#[derive(Debug, Clone)]
pub struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// A message of this type with this fixed header.
    pub fn new(kind: u16, fixed: &[u8]) -> Self {
        Self { kind, body: fixed.to_vec() }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self.body.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self
    }

    fn bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = NLMSG_HEADER + self.body.len().next_multiple_of(4);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.body);
        bytes.resize(length, 0);
        bytes
    }
}

/// All answers to one question.
#[derive(Debug)]
pub struct Dump<T> {
    /// What could be read, in the kernel's order.
    pub items: Vec<T>,
    /// How many messages could not be read, and why the first could not.
    pub unread: Option<(usize, Malformed)>,
    /// The kernel's tables changed during every attempt: the list may lack or repeat entries.
    pub interrupted: bool,
}

impl<T> Default for Dump<T> {
    fn default() -> Self {
        Self { items: Vec::new(), unread: None, interrupted: false }
    }
}

/// One netlink message: type and what follows its header.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Message type.
    pub kind: u16,
    /// NLM_F_* flags.
    pub flags: u16,
    /// The sequence number of the question.
    pub sequence: u32,
    /// Fixed header and attributes.
    pub payload: &'a [u8],
}

/// A netlink socket in one network namespace.
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    /// A socket of this netlink protocol in the calling thread's network namespace.
    pub fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let open = |source| NetlinkError::Open { source };
        let socket = Socket::new(protocol).map_err(open)?;
        let fd = std::os::fd::AsFd::as_fd(&socket);
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE)).map_err(|errno| open(errno.into()))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// The socket's file descriptor number, for socket options.
    pub fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Asks for all objects. `read` gets each message and says what it is, or None if it does not belong.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Dump<T>, NetlinkError> {
        let mut dump = Dump::default();
        for _ in 0..ATTEMPTS {
            dump = self.dump_once(request, &mut read)?;
            if !dump.interrupted {
                break;
            }
        }
        Ok(dump)
    }

    fn dump_once<T>(
        &mut self,
        request: &Request,
        read: &mut impl FnMut(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Dump<T>, NetlinkError> {
        let sequence = self.send(request, NLM_F_DUMP)?;
        let mut dump = Dump::default();
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                if message.sequence != sequence {
                    continue;
                }
                dump.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        // The payload is zero or a negative errno; some DONE messages of old kernels have none.
                        let code = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        if code < 0 {
                            return Err(NetlinkError::Refused { errno: -code });
                        }
                        return Ok(dump);
                    }
                    _ => match read(message) {
                        Ok(item) => dump.items.extend(item),
                        Err(error) => dump.unread.get_or_insert((0, error)).0 += 1,
                    },
                }
            }
        }
    }

    /// Asks for one thing; `read` gets the answer.
    pub fn ask<T>(
        &mut self,
        request: &Request,
        read: impl FnOnce(Message<'_>) -> Result<T, Malformed>,
    ) -> Result<T, NetlinkError> {
        let sequence = self.send(request, 0)?;
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                if message.sequence != sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    let code = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(NetlinkError::Refused { errno: -code });
                }
                return Ok(read(message)?);
            }
        }
    }

    fn send(&mut self, request: &Request, flags: u16) -> Result<u32, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.bytes(flags, self.sequence);
        self.socket.send(&bytes, 0).map_err(|source| NetlinkError::Talk { source })?;
        Ok(self.sequence)
    }

    fn receive(&mut self) -> Result<(), NetlinkError> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(NetlinkError::Talk { source }),
            }
        }
    }
}

/// Takes the first message off the front.
pub fn split(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let short = |needed| Malformed { layer: "netlink message", offset: 0, needed, had: bytes.len() };
    let (header, _) = bytes.split_first_chunk::<NLMSG_HEADER>().ok_or(short(NLMSG_HEADER))?;
    let length = u32_at(header, 0) as usize;
    let payload = bytes.get(NLMSG_HEADER..length).ok_or(short(length.max(NLMSG_HEADER)))?;
    let message = Message { kind: u16_at(header, 4), flags: u16_at(header, 6), sequence: u32_at(header, 8), payload };
    Ok((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Splits a message into its fixed header and its attributes.
pub fn parts<'a, const N: usize>(
    layer: &'static str,
    message: Message<'a>,
) -> Result<(&'a [u8; N], Attributes<'a>), Malformed> {
    let (header, rest) = attribute::fixed(layer, message.payload)?;
    Ok((header, Attributes::read(layer, rest)?))
}
