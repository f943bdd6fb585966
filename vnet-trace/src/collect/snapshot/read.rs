//! Reads everything of one namespace, from a thread that is in it.

use std::error::Error;
use std::net::IpAddr;

use super::reach::{Look, Looked, dump_gaps};
use super::workers::{each, processors};
use super::{Depth, Request, SnapshotError, gap};
use crate::collect::netlink::{
    self, Channel, Dump, NetlinkError, address, conntrack, fdb, filter, neigh, qdisc, route, rule, vlan, xfrm,
};
use crate::collect::netns::NetnsError;
use crate::collect::netns::find::Candidate;
use crate::collect::{bpf, modules, netfilter, procnet, sysctl};
use crate::model::id::NetnsId;
use crate::model::sight::Gap;
use crate::model::snapshot::{Link, LinkKind, Netns};

/// Reads all members; the result is in their order, each with what could not be read.
pub fn all(request: &Request, members: &[Candidate], looked: Looked) -> Result<Vec<(Netns, Vec<Gap>)>, SnapshotError> {
    let work: Vec<_> = members.iter().zip(looked.namespaces).collect();
    let results = each(&work, processors(), |index, (member, look)| {
        let mut netns = Netns {
            id: NetnsId(index as u32),
            inode: member.handle.inode(),
            name: if index == 0 && member.name.is_none() { ".".into() } else { member.label() },
            path: member.path.as_ref().filter(|_| index != 0).map(|path| path.display().to_string()),
            named: member.name.is_some(),
            pids: member.pids.clone(),
            ..Netns::default()
        };
        let mut gaps = Vec::new();
        links(&mut netns, look);
        if let Err(error) = contents(&mut netns, &mut gaps, request, member, look) {
            gaps.push(gap("configuration", &netns.name, &*error));
        }
        (netns, gaps)
    })?;
    Ok(results
        .into_iter()
        .zip(members)
        .enumerate()
        .map(|(index, (result, member))| {
            result.unwrap_or_else(|| {
                let name = member.handle.name().to_owned();
                let broken = gap("configuration", &name, &NetnsError::BrokenOff { name: name.clone() });
                (Netns { id: NetnsId(index as u32), name, ..Netns::default() }, vec![broken])
            })
        })
        .collect())
}

/// The devices of the first pass, with the namespaces of their other ends.
fn links(netns: &mut Netns, look: &Look) {
    netns.links = look.links.iter().map(|read| read.link.clone()).collect();
    for link in &mut netns.links {
        let owner = link.link_nsid.and_then(|nsid| look.owners.get(&nsid));
        link.link_netns = owner.map(|owner| NetnsId(*owner as u32));
    }
}

fn contents(
    netns: &mut Netns,
    gaps: &mut Vec<Gap>,
    request: &Request,
    member: &Candidate,
    look: &Look,
) -> Result<(), Box<dyn Error>> {
    member.handle.enter()?;
    let mut channel = Channel::open(netlink::ROUTE)?;
    let name = netns.name.clone();
    let mut noted = Noted { gaps, netns: &name };
    netns.addresses = noted.items("addresses", address::read(&mut channel));
    netns.routes = noted.items("routes", route::read(&mut channel));
    netns.rules = noted.items("rules", rule::read(&mut channel));
    netns.neighbours = noted.items("neighbours", neigh::read(&mut channel));
    if request.depth == Depth::Wiring {
        return Ok(());
    }
    netns.fdb = noted.items("forwarding databases", fdb::read(&mut channel, &netns.links));
    netns.bridge_vlans = noted.items("bridge VLANs", vlan::read(&mut channel, &netns.links));
    netns.sysctls = sysctl::namespace();
    sysctl::devices(&mut netns.sysctls, &look.links);
    let tables = noted.items("neighbour tables", neigh::read_parameters(&mut channel));
    sysctl::neighbour_tables(&mut netns.sysctls, &tables, &netns.links);
    netns.qdiscs = noted.items("queueing disciplines", qdisc::read(&mut channel));
    netns.filters = noted.items("tc filters", filter::read(&mut channel, &netns.qdiscs, &netns.links));
    if bpf::has_tcx() {
        let of_link = |link: &Link| bpf::tcx(link.index, matches!(link.kind, LinkKind::Netkit { .. }));
        netns.filters.extend(netns.links.iter().flat_map(of_link));
    }
    bpf::Names::default().fill(netns);
    netns.counters = procnet::counters();
    neighbour_counters(netns, &tables);
    netns.multicast = procnet::multicast();
    netns.sockets = procnet::sockets(request.protocol);
    netns.netfilter = netfilter::read_ruleset(netfilter::DEADLINE);
    ipsec(netns, &mut noted);
    connections(netns, &mut noted, &request.addresses);
    Ok(())
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
    if !modules::is_present("xfrm_user") {
        return;
    }
    let mut channel = match Channel::open(xfrm::PROTOCOL) {
        Ok(channel) => channel,
        Err(error) if error.is_unsupported() => return,
        Err(error) => return noted.gap("IPsec policies", &error),
    };
    netns.xfrm_policies = noted.items("IPsec policies", xfrm::policies(&mut channel));
    // Asked for only where a policy could want one.
    if !netns.xfrm_policies.is_empty() {
        match xfrm::states(&mut channel) {
            Ok(states) => netns.xfrm_states = states,
            Err(error) => noted.gap("IPsec states", &error),
        }
    }
}

fn connections(netns: &mut Netns, noted: &mut Noted<'_>, addresses: &[IpAddr]) {
    let entries = netns.sysctl("net.netfilter.nf_conntrack_count").unwrap_or(0);
    if entries == 0 || addresses.is_empty() || !modules::is_present("nf_conntrack_netlink") {
        return;
    }
    if entries as u64 > conntrack::LARGEST {
        return noted.note("connection tracking entries", &format!("there are {entries}, too many to look through"));
    }
    let dump = Channel::open(conntrack::PROTOCOL).and_then(|mut channel| conntrack::read(&mut channel, addresses));
    netns.conntrack = noted.items("connection tracking entries", dump);
}

/// Turns what could not be read into gaps.
struct Noted<'a> {
    gaps: &'a mut Vec<Gap>,
    netns: &'a str,
}

impl Noted<'_> {
    fn gap(&mut self, what: &str, error: &dyn Error) {
        self.gaps.push(gap(what, self.netns, error));
    }

    fn note(&mut self, what: &str, why: &str) {
        let what = format!("{what} of netns {}", self.netns);
        self.gaps.push(Gap { what, why: why.into(), help: String::new() });
    }

    fn items<T>(&mut self, what: &str, dump: Result<Dump<T>, NetlinkError>) -> Vec<T> {
        match dump {
            Ok(dump) => {
                self.gaps.extend(dump_gaps(what, self.netns, &dump));
                dump.items
            }
            // The kernel has no such thing, so there is nothing to see.
            Err(error) if error.is_unsupported() => Vec::new(),
            Err(error) => {
                self.gap(what, &error);
                Vec::new()
            }
        }
    }
}
