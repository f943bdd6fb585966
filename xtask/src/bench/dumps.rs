//! What netlink's own dumps take, without a tool: the kernel's share of a snapshot.
//!
//! The same questions as the tool asks in each namespace (devices, addresses, routes and rules of both families, neighbours
//! and proxies, queueing disciplines; forwarding database and VLANs at home, where the bridges are), over a socket of each
//! namespace, from as many threads. What comes back is received and looked at no further than to find the end. So it is a
//! lower bound: a tool that asks all this cannot take less.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// As the tool's buffer.
const BUFFER: usize = 128 * 1024;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;

/// A dump: message type, and the fixed header that follows.
type Question = (u16, &'static [u8]);

/// Asked in every namespace. Numbers are from include/uapi/linux/rtnetlink.h.
const EVERYWHERE: &[Question] = &[
    (18, &[0; 16]),                                // RTM_GETLINK
    (22, &[0; 8]),                                 // RTM_GETADDR
    (26, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),   // RTM_GETROUTE, AF_INET
    (26, &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),  // RTM_GETROUTE, AF_INET6
    (34, &[0; 12]),                                // RTM_GETRULE
    (30, &[0; 12]),                                // RTM_GETNEIGH
    (30, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x8, 0]), // RTM_GETNEIGH, NTF_PROXY
    (38, &[0; 20]),                                // RTM_GETQDISC
];

/// Asked in the first one besides, of AF_BRIDGE: RTM_GETNEIGH, and RTM_GETLINK with IFLA_EXT_MASK (attribute 29) of
/// RTEXT_FILTER_BRVLAN_COMPRESSED.
const AT_HOME: &[Question] = &[
    (30, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (18, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 29, 0, 4, 0, 0, 0]),
];

/// Dumps in the namespace where it was started and in all that have a name; prints microseconds.
pub fn run() -> Result<()> {
    let mut namespaces = vec![File::open("/proc/thread-self/ns/net")?];
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten() {
        namespaces.push(File::open(entry?.path())?);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{}", all(&namespaces, threads)?.as_micros());
    Ok(())
}

fn all(namespaces: &[File], threads: usize) -> Result<Duration> {
    let next = Mutex::new(namespaces.iter().enumerate());
    let work = || -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let Some((index, netns)) = next.lock().ok().and_then(|mut next| next.next()) else { return Ok(()) };
            setns(netns, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            let at_home = if index == 0 { AT_HOME } else { &[] };
            for question in EVERYWHERE.iter().chain(at_home) {
                dump(&socket, *question, &mut buffer)?;
            }
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        started.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread broke off"),
        })
    })?;
    Ok(began.elapsed())
}

fn dump(socket: &OwnedFd, (kind, body): Question, buffer: &mut [u8]) -> Result<()> {
    let mut question = Vec::with_capacity(HEADER + body.len());
    question.extend_from_slice(&u32::try_from(HEADER + body.len())?.to_ne_bytes());
    question.extend_from_slice(&kind.to_ne_bytes());
    question.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    question.extend_from_slice(&[0; 8]);
    question.extend_from_slice(body);
    send(socket.as_raw_fd(), &question, MsgFlags::empty()).context("cannot ask")?;
    loop {
        let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty()).context("no answer")?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let [a, b, c, d, low, high, ..] = *header;
            let length = u32::from_ne_bytes([a, b, c, d]) as usize;
            match u16::from_ne_bytes([low, high]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => bail!("the kernel refuses the dump {kind}"),
                _ => rest = rest.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default(),
            }
        }
    }
}
