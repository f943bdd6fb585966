//! `cargo xtask flood`: the two ends of a measurement's traffic.
//!
//! Over veth the sender's own processor time contains a packet's whole way to the receiving socket, because the kernel
//! takes the packet there before it returns to the sender. So what `send` says is what the way costs, whatever else the
//! machine does. `read` empties the receiving socket from time to time and never waits for a packet: a reader that
//! waits would have to be woken, at the sender's expense.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Arguments of `flood`.
#[derive(clap::Args)]
#[group(id = "flood")]
pub struct Args {
    #[command(subcommand)]
    end: End,
}

#[derive(clap::Subcommand)]
enum End {
    /// Send so many datagrams
    Send {
        /// Where to
        to: SocketAddr,
        /// How many
        #[arg(long)]
        count: u64,
        /// How many in a second; 0 as many as possible
        #[arg(long, default_value_t = 0)]
        rate: u64,
    },
    /// Read them until standard input ends
    Read {
        /// Where
        at: SocketAddr,
    },
}

/// Bytes of data in each datagram.
const PAYLOAD: [u8; 64] = [b'.'; 64];

/// Datagrams are sent in bunches: so many between two looks at the clock.
const BUNCH: u64 = 50;

/// How often the receiving socket is emptied, and how much fits in until then.
const NAP: Duration = Duration::from_millis(5);
const ROOM: usize = 128 << 20;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    match args.end {
        End::Send { to, count, rate } => send(to, count, rate),
        End::Read { at } => read(at),
    }
}

/// Prints how many were sent, the nanoseconds of processor and of wall-clock time that it took, and the processor time of
/// one packet in the median thousand, which a busy machine disturbs less.
fn send(to: SocketAddr, count: u64, rate: u64) -> Result<()> {
    // What moves between processors pays for cold caches.
    let mut first = CpuSet::new();
    first.set(0).context("no processor")?;
    sched_setaffinity(Pid::this(), &first).context("cannot stay on one processor")?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let mut sent: u64 = 0;
    let (began, processor) = (Instant::now(), processor_ns()?);
    let mut chunks = Vec::new();
    let mut last = processor;
    while sent < count {
        if sent.is_multiple_of(1000) {
            let now = processor_ns()?;
            chunks.push(now - last);
            last = now;
        }
        for _ in 0..BUNCH.min(count - sent) {
            sent += u64::from(socket.send(&PAYLOAD).is_ok());
        }
        if let Some(due) = (sent * 1_000_000_000).checked_div(rate) {
            std::thread::sleep(Duration::from_nanos(due).saturating_sub(began.elapsed()));
        }
    }
    chunks.sort_unstable();
    println!(
        "{sent} {} {} {}",
        processor_ns()? - processor,
        began.elapsed().as_nanos(),
        chunks[chunks.len() / 2] / 1000
    );
    Ok(())
}

/// CLOCK_PROCESS_CPUTIME_ID.
fn processor_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Says `ready`, and how many came when it ends.
fn read(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("cannot read at {at}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM).context("cannot make room for what comes")?;
    socket.set_nonblocking(true)?;
    let ended = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    println!("ready");
    std::io::stdout().flush()?;
    let mut came: u64 = 0;
    let mut datagram = [0; PAYLOAD.len()];
    loop {
        let is_last = ended.is_finished();
        loop {
            match socket.recv(&mut datagram) {
                Ok(_) => came += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if is_last {
            break;
        }
        std::thread::sleep(NAP);
    }
    println!("{came}");
    Ok(())
}
