//! Reads everything of the reached namespaces, from threads that are in them.
//!
//! First the [`wiring`] of all, then the [`rest`]. Files under /proc/sys/net are the dear part: the kernel keeps the
//! entries of all namespaces in one hash chain per name, so that reading them everywhere takes quadratic time. Where
//! there are more than [`CLOSELY`] namespaces, only those that a packet of the question can pass or stop at are read
//! closely (see [`close`]); of the others we take what netlink tells: devices with their own sysctls, addresses, routes,
//! neighbours, filters.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;

use super::reach::{Look, Looked, dump_gaps};
use super::workers::{each, processors};
use super::{Depth, Request, SnapshotError, gap};
use crate::collect::modules::Modules;
use crate::collect::netlink::{
    self, Channel, Dump, NetlinkError, address, conntrack, fdb, filter, neigh, qdisc, route, rule, sock_diag, vlan,
    xfrm,
};
use crate::collect::netns::NetnsError;
use crate::collect::netns::find::Candidate;
use crate::collect::{bpf, netfilter, procnet, sysctl};
use crate::model::id::NetnsId;
use crate::model::question::Protocol;
use crate::model::sight::Gap;
use crate::model::snapshot::{Link, LinkKind, Netns, Part};

/// As many namespaces are read closely.
const CLOSELY: usize = 64;

/// A namespace on its way into the snapshot.
struct Work<'a> {
    netns: Netns,
    gaps: Vec<Gap>,
    unread: BTreeSet<Part>,
    member: &'a Candidate,
    look: Look,
    close: bool,
}

/// What the kernel has, which is the same in every namespace.
#[derive(Clone, Copy)]
struct Kernel {
    tcx: bool,
    xfrm: bool,
    conntrack: bool,
}

impl Kernel {
    fn look() -> Self {
        let modules = Modules::read();
        let (xfrm, conntrack) = (modules.has("xfrm_user"), modules.has("nf_conntrack_netlink"));
        Self { tcx: bpf::has_tcx(), xfrm, conntrack }
    }
}

/// Reads all members; the result is in their order, each with what could not be read.
pub fn all(request: &Request, members: &[Candidate], looked: Looked) -> Result<Vec<(Netns, Vec<Gap>)>, SnapshotError> {
    let work = members.iter().zip(looked.namespaces).enumerate().map(|(index, (member, look))| Work {
        netns: named(index, member),
        gaps: Vec::new(),
        unread: BTreeSet::new(),
        member,
        look,
        close: true,
    });
    let mut work = step(work.collect(), members, wiring)?;
    if request.depth == Depth::Full {
        choose(request, &mut work);
        let kernel = Kernel::look();
        work = step(work, members, |work| rest(work, request, kernel))?;
    }
    Ok(work.into_iter().map(|work| (Netns { unread: work.unread, ..work.netns }, work.gaps)).collect())
}

/// One step for every namespace, in it.
fn step<'a>(
    work: Vec<Work<'a>>,
    members: &'a [Candidate],
    read: impl Fn(&mut Work<'a>) -> Result<(), Box<dyn Error>> + Sync,
) -> Result<Vec<Work<'a>>, SnapshotError> {
    let done = each(work, processors(), |_, mut work| {
        let entered = work.member.handle.enter().map_err(Box::from);
        if let Err(error) = entered.and_then(|()| read(&mut work)) {
            // Those that may not be entered are told together.
            if !work.look.closed && !work.unread.contains(&Part::Everything) {
                work.gaps.push(gap("configuration", &work.netns.name, &*error));
            }
            work.unread.insert(Part::Everything);
        }
        work
    })?;
    let broken_off = |index: usize, member: &'a Candidate| {
        let netns = named(index, member);
        let error = NetnsError::BrokenOff { name: netns.name.clone() };
        let gaps = vec![gap("configuration", &netns.name, &error)];
        let unread = BTreeSet::from([Part::Everything]);
        Work { netns, gaps, unread, member, look: Look::default(), close: false }
    };
    let done = done.into_iter().zip(members).enumerate();
    Ok(done.map(|(index, (work, member))| work.unwrap_or_else(|| broken_off(index, member))).collect())
}

fn named(index: usize, member: &Candidate) -> Netns {
    Netns {
        id: NetnsId(index as u32),
        inode: member.handle.inode(),
        name: if index == 0 && member.name.is_none() { ".".into() } else { member.label() },
        path: member.path.as_ref().filter(|_| index != 0).map(|path| path.display().to_string()),
        named: member.name.is_some(),
        container: member.container.clone(),
        pids: member.pids.clone(),
        ..Netns::default()
    }
}

/// Devices, addresses, routes, rules, neighbours: who is wired to whom.
fn wiring(work: &mut Work<'_>) -> Result<(), Box<dyn Error>> {
    let Work { netns, gaps, unread, look, .. } = work;
    netns.links = look.links.iter().map(|read| read.link.clone()).collect();
    for link in &mut netns.links {
        let owner = link.link_nsid.and_then(|nsid| look.owners.get(&nsid));
        link.link_netns = owner.map(|owner| NetnsId(*owner as u32));
    }
    let name = netns.name.clone();
    let mut noted = Noted { gaps, netns: &name, unread };
    for link in netns.links.iter().filter(|link| link.link_nsid.is_some() && link.link_netns.is_none()) {
        noted.note(&format!("other end of {}", link.name), "no name, mount or process leads to its network namespace");
    }
    let mut channel = Channel::open(netlink::ROUTE)?;
    netns.addresses = noted.items("addresses", Some(Part::Addresses), address::read(&mut channel));
    netns.routes = noted.items("routes", Some(Part::Routes), route::read(&mut channel));
    netns.rules = noted.items("rules", Some(Part::Rules), rule::read(&mut channel));
    netns.neighbours = noted.items("neighbours", Some(Part::Neighbours), neigh::read(&mut channel));
    Ok(())
}

/// Marks the namespaces to read closely: in this order the command's own, the asked one, the owners of the question's
/// addresses, the owners of gateways, then the nearest.
fn choose(request: &Request, work: &mut [Work<'_>]) {
    if work.len() <= CLOSELY {
        return;
    }
    let gateways: BTreeSet<IpAddr> = work
        .iter()
        .flat_map(|work| &work.netns.routes)
        .flat_map(|route| &route.nexthops)
        .filter_map(|hop| hop.gateway)
        .collect();
    let owns = |netns: &Netns, wanted: &dyn Fn(&IpAddr) -> bool| {
        netns.addresses.iter().any(|address| wanted(&address.address))
    };
    let mut ranked: Vec<(usize, usize)> = work
        .iter()
        .enumerate()
        .map(|(index, work)| {
            let rank = match &work.netns {
                _ if index < 2 => 0,
                netns if owns(netns, &|address| request.addresses.contains(address)) => 1,
                netns if owns(netns, &|address| gateways.contains(address)) => 2,
                _ => 3,
            };
            (rank, index)
        })
        .collect();
    ranked.sort_unstable();
    let left_out = ranked.split_off(CLOSELY);
    for (_, index) in &left_out {
        if let Some(work) = work.get_mut(*index) {
            work.close = false;
            work.unread.insert(Part::Settings);
        }
    }
    if let Some(first) = work.first_mut() {
        first.gaps.push(Gap {
            what: format!("sysctls of no device, counters and sockets of {} network namespaces", left_out.len()),
            why: "they are too many, and no packet of the question should pass there".into(),
            help: String::new(),
        });
    }
}

/// Everything else.
fn rest(work: &mut Work<'_>, request: &Request, kernel: Kernel) -> Result<(), Box<dyn Error>> {
    let Work { netns, gaps, unread, look, close, .. } = work;
    let name = netns.name.clone();
    let mut noted = Noted { gaps, netns: &name, unread };
    let mut channel = Channel::open(netlink::ROUTE)?;
    netns.fdb = noted.items("forwarding databases", Some(Part::Fdb), fdb::read(&mut channel, &netns.links));
    netns.bridge_vlans = noted.items("bridge VLANs", Some(Part::Vlans), vlan::read(&mut channel, &netns.links));
    netns.qdiscs = noted.items("queueing disciplines", Some(Part::Qdiscs), qdisc::read(&mut channel));
    // Programs at tcx hooks run before the filters of clsact.
    if kernel.tcx {
        let of_link = |link: &Link| bpf::tcx(link.index, matches!(link.kind, LinkKind::Netkit { .. }));
        netns.filters.extend(netns.links.iter().flat_map(of_link));
    }
    netns.filters.extend(noted.items(
        "tc filters",
        Some(Part::Filters),
        filter::read(&mut channel, &netns.qdiscs, &netns.links),
    ));
    bpf::Names::default().fill(netns);
    sysctl::devices(&mut netns.sysctls, &look.links);
    netns.multicast = procnet::multicast();
    netns.netfilter = netfilter::read_ruleset(netfilter::DEADLINE);
    noted.gaps.extend(netfilter::gaps(&netns.netfilter, noted.netns));
    if kernel.xfrm {
        ipsec(netns, &mut noted);
    }
    if *close {
        netns.sysctls.append(&mut sysctl::namespace());
        let tables = noted.items("neighbour tables", Some(Part::Settings), neigh::read_parameters(&mut channel));
        sysctl::neighbour_tables(&mut netns.sysctls, &tables, &netns.links);
        netns.counters = procnet::counters();
        neighbour_counters(netns, &tables);
        sockets(netns, request.protocol);
        connections(netns, &mut noted, &request.addresses, kernel.conntrack);
    }
    Ok(())
}

/// The sockets that could take the request, from sock_diag, else from /proc.
fn sockets(netns: &mut Netns, protocol: Protocol) {
    let number = match protocol {
        Protocol::Echo => 1,
        Protocol::Tcp { .. } => 6,
        Protocol::Udp { .. } => 17,
    };
    netns.sockets_of = Some(number);
    let asked = |is_v6| {
        let mut channel = Channel::open(sock_diag::PROTOCOL).ok()?;
        sock_diag::read(&mut channel, number, is_v6).ok().filter(|dump| !dump.interrupted).map(|dump| dump.items)
    };
    let told = match number {
        1 => None,
        _ => asked(false).zip(asked(true)).map(|(v4, v6)| v4.into_iter().chain(v6).collect()),
    };
    netns.sockets = told.unwrap_or_else(|| procnet::sockets(protocol));
}

/// How full the neighbour tables are: `Arp.Entries`, `Nd.TableFulls`, … of all namespaces, whose bound is
/// `net.ipv4.neigh.default.gc_thresh3`.
fn neighbour_counters(netns: &mut Netns, tables: &[neigh::Parameters]) {
    for table in tables.iter().filter(|table| table.ifindex.is_none()) {
        let protocol = if table.family == "ipv4" { "Arp" } else { "Nd" };
        netns.counters.extend(table.entries.map(|entries| (format!("{protocol}.Entries"), u64::from(entries))));
        netns.counters.extend(table.table_fulls.map(|times| (format!("{protocol}.TableFulls"), times)));
    }
}

fn ipsec(netns: &mut Netns, noted: &mut Noted<'_>) {
    let mut channel = match Channel::open(xfrm::PROTOCOL) {
        Ok(channel) => channel,
        Err(error) if error.is_unsupported() => return,
        Err(error) => return noted.gap("IPsec policies", Some(Part::Ipsec), &error),
    };
    netns.xfrm_policies = noted.items("IPsec policies", Some(Part::Ipsec), xfrm::policies(&mut channel));
    // Asked for only where a policy could want one.
    if !netns.xfrm_policies.is_empty() {
        match xfrm::states(&mut channel) {
            Ok(states) => netns.xfrm_states = states,
            Err(error) => noted.gap("IPsec states", Some(Part::Ipsec), &error),
        }
    }
}

fn connections(netns: &mut Netns, noted: &mut Noted<'_>, addresses: &[IpAddr], over_netlink: bool) {
    let entries = netns.sysctl("net.netfilter.nf_conntrack_count").unwrap_or(0);
    if entries == 0 || addresses.is_empty() {
        return;
    }
    if entries as u64 > conntrack::LARGEST {
        return noted.note("connection tracking entries", &format!("there are {entries}, too many to look through"));
    }
    if !over_netlink {
        netns.conntrack = procnet::connections(addresses);
        return;
    }
    let dump = Channel::open(conntrack::PROTOCOL).and_then(|mut channel| conntrack::read(&mut channel, addresses));
    netns.conntrack = noted.items("connection tracking entries", None, dump);
}

/// Turns what could not be read into gaps.
struct Noted<'a> {
    gaps: &'a mut Vec<Gap>,
    netns: &'a str,
    unread: &'a mut BTreeSet<Part>,
}

impl Noted<'_> {
    fn gap(&mut self, what: &str, part: Option<Part>, error: &dyn Error) {
        self.unread.extend(part);
        self.gaps.push(gap(what, self.netns, error));
    }

    fn note(&mut self, what: &str, why: &str) {
        let what = format!("{what} of netns {}", self.netns);
        self.gaps.push(Gap { what, why: why.into(), help: String::new() });
    }

    fn items<T>(&mut self, what: &str, part: Option<Part>, dump: Result<Dump<T>, NetlinkError>) -> Vec<T> {
        match dump {
            Ok(dump) => {
                let gaps = dump_gaps(what, self.netns, &dump);
                self.unread.extend(part.filter(|_| !gaps.is_empty()));
                self.gaps.extend(gaps);
                dump.items
            }
            // The kernel has no such thing, so there is nothing to see.
            Err(error) if error.is_unsupported() => Vec::new(),
            Err(error) => {
                self.gap(what, part, &error);
                Vec::new()
            }
        }
    }
}
