//! Takes the snapshot: finds the namespaces that the question can reach, and reads all of them.
//!
//! Two passes. [`reach`] looks at the devices of every namespace that can be found and follows what ties them together
//! (veth and netkit ends, lower devices, the home of a tunnel), from the asked one to all that are connected with it, in
//! either direction. [`read`] then reads the rest of the reached ones. Threads are few, and each enters one namespace
//! after the other; the caller's thread stays where it is.
//!
//! A namespace or a table that cannot be read is a [`Gap`]; only what leaves nothing to ask about is an error.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use super::netns::find::{Candidate, candidates};
use super::netns::{Asked, Handle, NetnsError};
use super::ovs::{self, Switches};
use super::{bpf, clock, containers, procnet, provenance};
use crate::model::id::NetnsId;
use crate::model::question::Protocol;
use crate::model::sight::Gap;
use crate::model::snapshot::Snapshot;

mod reach;
mod read;
mod settle;
mod workers;

/// What a snapshot is taken for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Where the question is asked.
    pub asked: Asked,
    /// How far to look.
    pub reach: Reach,
    /// The question's addresses, for the tables of which only a part is wanted (conntrack). Empty wants none.
    pub addresses: Vec<IpAddr>,
    /// What is asked with: decides which sockets are read.
    pub protocol: Protocol,
    /// How much to read of each namespace.
    pub depth: Depth,
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Namespaces connected with the asked one.
    #[default]
    Connected,
    /// Every namespace that can be found.
    Everything,
}

/// How much to read of each namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Everything that decides about a packet.
    #[default]
    Full,
    /// Devices, addresses, routes, rules and neighbours: who is wired to whom.
    Wiring,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The asked namespace cannot be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Its devices cannot be read, so nothing can be said about it.
    #[error("cannot read the devices of netns {name}")]
    Devices {
        /// The namespace.
        name: String,
        /// Why not.
        source: super::netlink::NetlinkError,
    },
    /// No thread could be started.
    #[error("cannot start a thread to read the namespaces")]
    Thread {
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// A snapshot, and the namespaces in it as things that can be entered.
#[derive(Debug)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The namespace that was asked for.
    pub asked: NetnsId,
    handles: Vec<Candidate>,
    request: Request,
}

impl Taken {
    /// The namespace, to be entered again whatever became of its name.
    pub fn handle(&self, id: NetnsId) -> Option<&Handle> {
        self.handles.get(id.0 as usize).map(|candidate| &candidate.handle)
    }

    /// Looks again until a network that is just coming up has done so.
    fn settle(&mut self, family: settle::Family) -> Result<(), SnapshotError> {
        let over = Instant::now() + settle::AT_MOST;
        while !settle::is_settled(&self.snapshot, family) && Instant::now() < over {
            std::thread::sleep(settle::STEP);
            let again = self.again()?;
            // What is found out once, of the machine and not of its namespaces.
            let Snapshot { engine_networks, hidden_processes, gaps, .. } = std::mem::take(&mut self.snapshot);
            self.snapshot = Snapshot { engine_networks, hidden_processes, gaps, ..again };
        }
        Ok(())
    }

    /// Reads the same namespaces once more, with the same ids. New namespaces are not looked for.
    pub fn again(&self) -> Result<Snapshot, SnapshotError> {
        // What could not be entered before need not be now.
        let needed = self.snapshot.namespaces.iter().take_while(|netns| !netns.is_closed()).count();
        let reached = reach::look(&self.handles, 0..needed)?;
        finish(&self.request, &self.handles, reached, &mut ovs::read())
    }
}

/// Takes a snapshot. The command's own namespace is always the first in it, the asked one the next if it is another.
pub fn take(request: &Request) -> Result<Taken, SnapshotError> {
    more_files();
    let own = Handle::own()?;
    let asked = request.asked.open()?;
    let first = if asked.inode() == own.inode() { vec![own] } else { vec![own, asked] };
    let asked = NetnsId(first.len() as u32 - 1);

    let (found, closed) = candidates(&first);
    let (looked, mut switches) = std::thread::scope(|scope| {
        let switches = scope.spawn(ovs::read);
        let looked = reach::look(&found, 0..first.len());
        (looked, switches.join().unwrap_or_default())
    });
    let mut looked = looked?;
    let order = match request.reach {
        Reach::Connected => {
            looked.tie(&reach::switched(&looked, &found, &switches));
            let mut order = reach::connected(&looked, asked.0 as usize);
            let closed: Vec<usize> = looked.closed().filter(|index| !order.contains(index)).collect();
            order.extend(closed);
            order
        }
        Reach::Everything => (0..found.len()).collect(),
    };
    let mut handles: Vec<Candidate> = order.iter().filter_map(|index| found.get(*index).cloned()).collect();
    looked.keep(&order);
    let shut = looked.closed_gap(&handles);
    let (read, mut named) = std::thread::scope(|scope| {
        let named = containers::are_wanted(&handles).then(|| scope.spawn(|| containers::name(&handles)));
        let read = finish(request, &handles, looked, &mut switches);
        (read, named.and_then(|thread| thread.join().ok()).unwrap_or_default())
    });
    let mut snapshot = read?;
    snapshot.engine_networks = named.networks();
    let unnamed = named.christen(&mut handles, &mut snapshot.namespaces);
    snapshot.gaps.extend(unnamed);
    snapshot.gaps.extend(shut);
    snapshot.hidden_processes = closed;
    if closed > 0 {
        snapshot.gaps.push(Gap {
            what: format!("the network namespaces of {closed} processes"),
            why: "they belong to other users".into(),
            help: "run as root".into(),
        });
    }
    let mut taken = Taken { snapshot, asked, handles, request: request.clone() };
    if let Some(address) = request.addresses.first() {
        taken.settle(if address.is_ipv6() { settle::Family::V6 } else { settle::Family::V4 })?;
    }
    Ok(taken)
}

fn finish(
    request: &Request,
    members: &[Candidate],
    looked: reach::Looked,
    switches: &mut Switches,
) -> Result<Snapshot, SnapshotError> {
    let mut snapshot = Snapshot { gaps: looked.gaps(), ..Snapshot::default() };
    let read = std::thread::scope(|scope| {
        if request.depth == Depth::Full {
            scope.spawn(|| switches.flows());
        }
        read::all(request, members, looked)
    });
    for (netns, gaps) in read? {
        snapshot.namespaces.push(netns);
        snapshot.gaps.extend(gaps);
    }
    std::mem::take(switches).finish(&mut snapshot);
    if request.depth == Depth::Full {
        snapshot.cgroup_programs = bpf::cgroups();
        snapshot.provenance = provenance::read(Path::new("/"));
        if let Some(own) = snapshot.namespaces.first_mut() {
            own.counters.extend(procnet::routing_counters());
        }
    }
    snapshot.taken = clock::monotonic();
    Ok(snapshot)
}

/// A namespace costs a file descriptor, and the usual soft limit of 1024 is soft for that reason.
fn more_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536).max(soft), hard);
    }
}

/// An error with all its causes in one line, as a gap wants it.
pub(super) fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Something of a namespace that could not be read.
pub(super) fn gap(what: &str, netns: &str, error: &dyn std::error::Error) -> Gap {
    Gap { what: format!("{what} of netns {netns}"), why: why(error), help: String::new() }
}
