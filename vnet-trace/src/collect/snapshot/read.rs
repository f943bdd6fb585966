//! Reads everything of one namespace, from a thread that is in it.

use std::error::Error;

use super::reach::{Look, Looked, dump_gaps};
use super::workers::{each, processors};
use super::{Depth, Request, SnapshotError, gap};
use crate::collect::netlink::{self, Channel, Dump, NetlinkError, address, fdb, neigh, route, rule, vlan};
use crate::collect::netns::NetnsError;
use crate::collect::netns::find::Candidate;
use crate::collect::sysctl;
use crate::model::id::NetnsId;
use crate::model::sight::Gap;
use crate::model::snapshot::Netns;

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
    Ok(())
}

/// Turns what could not be read into gaps.
struct Noted<'a> {
    gaps: &'a mut Vec<Gap>,
    netns: &'a str,
}

impl Noted<'_> {
    fn items<T>(&mut self, what: &str, dump: Result<Dump<T>, NetlinkError>) -> Vec<T> {
        match dump {
            Ok(dump) => {
                self.gaps.extend(dump_gaps(what, self.netns, &dump));
                dump.items
            }
            // The kernel has no such thing, so there is nothing to see.
            Err(error) if error.is_unsupported() => Vec::new(),
            Err(error) => {
                self.gaps.push(gap(what, self.netns, &error));
                Vec::new()
            }
        }
    }
}
