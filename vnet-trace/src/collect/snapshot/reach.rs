//! Which namespaces are connected with the asked one.
//!
//! A device that is tied to another namespace says so by a number (IFLA_LINK_NETNSID) that only its own namespace
//! understands. From the lower device or the tunnel's home nothing is seen of it, so every namespace has to be looked
//! at. The number's owner is found by trying the namespaces we know. Nearly always one namespace (the host, a router)
//! is the other end of all others, so those that were an answer before are tried first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Mutex;

use super::workers::{each, processors};
use super::{SnapshotError, gap};
use crate::collect::netlink::link::{self, LinkRead};
use crate::collect::netlink::{self, Channel, Dump, NetlinkError, nsid};
use crate::collect::netns::NetnsError;
use crate::collect::netns::find::Candidate;
use crate::collect::ovs::Switches;
use crate::model::sight::Gap;
use crate::model::snapshot::{Link, LinkKind};

/// What the first pass saw of all candidates.
#[derive(Debug, Default)]
pub struct Looked {
    /// By candidate.
    pub namespaces: Vec<Look>,
    /// Pairs of positions that are connected by something else than a device.
    ties: Vec<(usize, usize)>,
}

/// What the first pass saw of one namespace.
#[derive(Debug, Default)]
pub struct Look {
    /// Its devices.
    pub links: Vec<LinkRead>,
    /// link-netnsid → position of its owner.
    pub owners: BTreeMap<i32, usize>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// It exists, and we may not enter it: nothing of it was read.
    pub closed: bool,
}

#[derive(Debug)]
enum Failure {
    Netns(NetnsError),
    Netlink(NetlinkError),
}

impl From<NetnsError> for Failure {
    fn from(error: NetnsError) -> Self {
        Self::Netns(error)
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

/// Looks at the devices of all candidates. Those in `needed` must be readable, of the others a gap remains.
pub fn look(candidates: &[Candidate], needed: Range<usize>) -> Result<Looked, SnapshotError> {
    let frequent = Mutex::new(needed.clone().collect::<Vec<_>>());
    let looks =
        each(candidates.iter().collect(), processors(), |_, candidate| look_at(candidate, candidates, &frequent))?;
    let mut looked = Looked::default();
    for (index, look) in looks.into_iter().enumerate() {
        let name = candidates.get(index).map_or("?", |candidate| candidate.handle.name());
        looked.namespaces.push(match look {
            Some(Ok(look)) => look,
            Some(Err(Failure::Netns(error))) if needed.contains(&index) => return Err(error.into()),
            Some(Err(Failure::Netlink(source))) if needed.contains(&index) => {
                return Err(SnapshotError::Devices { name: name.to_owned(), source });
            }
            // Counted, not listed: without rights it is every one of them.
            Some(Err(Failure::Netns(_))) => Look { closed: true, ..Look::default() },
            Some(Err(Failure::Netlink(error))) => Look { gaps: vec![gap("devices", name, &error)], ..Look::default() },
            None => Look {
                gaps: vec![gap("devices", name, &NetnsError::BrokenOff { name: name.into() })],
                ..Look::default()
            },
        });
    }
    Ok(looked)
}

fn look_at(candidate: &Candidate, all: &[Candidate], frequent: &Mutex<Vec<usize>>) -> Result<Look, Failure> {
    candidate.handle.enter()?;
    let mut channel = Channel::open(netlink::ROUTE)?;
    let dump = link::read(&mut channel)?;
    let name = candidate.handle.name();
    let mut look = Look { gaps: dump_gaps("devices", name, &dump), links: dump.items, ..Look::default() };
    let mut wanted: BTreeSet<i32> = look.links.iter().filter_map(|read| read.link.link_nsid).collect();
    if wanted.is_empty() {
        return Ok(look);
    }
    let first = frequent.lock().map(|list| list.clone()).unwrap_or_default();
    let rest = (0..all.len()).filter(|index| !first.contains(index));
    for index in first.iter().copied().chain(rest) {
        let Some(other) = all.get(index) else { continue };
        let id = match nsid::of(&mut channel, other.handle.fd()) {
            Ok(Some(id)) => id,
            Ok(None) | Err(NetlinkError::Refused { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        if wanted.remove(&id) {
            look.owners.insert(id, index);
            promote(frequent, index);
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(look)
}

/// Remembers that a namespace was an answer: at the front if it was one before.
fn promote(frequent: &Mutex<Vec<usize>>, index: usize) {
    const REMEMBERED: usize = 16;
    let Ok(mut list) = frequent.lock() else { return };
    if let Some(position) = list.iter().position(|known| *known == index) {
        list.remove(position);
        list.insert(0, index);
    } else {
        list.truncate(REMEMBERED - 1);
        list.push(index);
    }
}

/// What a dump did not give.
pub fn dump_gaps<T>(what: &str, netns: &str, dump: &Dump<T>) -> Vec<Gap> {
    let unread = dump.unread.as_ref().map(|(count, error)| Gap {
        what: format!("{count} of the {what} of netns {netns}"),
        why: error.to_string(),
        help: String::new(),
    });
    let interrupted = dump.interrupted.then(|| Gap {
        what: format!("{what} of netns {netns}"),
        why: "they changed whenever they were read".into(),
        help: "ask again when the network is quiet".into(),
    });
    unread.into_iter().chain(interrupted).collect()
}

/// Ties that no device shows: a port that Open vSwitch made and that was moved into another namespace still leads to
/// the switch. Gives the positions of the switch's namespace and of the port's.
pub fn switched(looked: &Looked, candidates: &[Candidate], switches: &Switches) -> Vec<(usize, usize)> {
    let Some(home) = candidates.iter().position(|candidate| Some(candidate.handle.inode()) == switches.home) else {
        return Vec::new();
    };
    // A port that is still at home was not moved: a device of its name elsewhere belongs to another switch.
    let at_home = looked.namespaces.get(home).map(|look| look.links.as_slice()).unwrap_or_default();
    let internal: Vec<&str> =
        switches.internal().into_iter().filter(|name| !at_home.iter().any(|read| read.link.name == **name)).collect();
    let made = |link: &Link| {
        matches!(link.kind, LinkKind::Openvswitch | LinkKind::Tun { tap: true })
            && internal.contains(&link.name.as_str())
    };
    let holds = |look: &Look| look.links.iter().any(|read| made(&read.link));
    let others = looked.namespaces.iter().enumerate().filter(|(index, look)| *index != home && holds(look));
    others.map(|(index, _)| (home, index)).collect()
}

/// The candidates connected with `asked`, itself included, nearest first; the first candidate always comes first, and
/// `asked` next.
pub fn connected(looked: &Looked, asked: usize) -> Vec<usize> {
    let mut neighbours: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); looked.namespaces.len()];
    for (index, look) in looked.namespaces.iter().enumerate() {
        for owner in look.owners.values() {
            if let Some(set) = neighbours.get_mut(index) {
                set.insert(*owner);
            }
            if let Some(set) = neighbours.get_mut(*owner) {
                set.insert(index);
            }
        }
    }
    for (one, other) in &looked.ties {
        for (from, to) in [(one, other), (other, one)] {
            if let Some(set) = neighbours.get_mut(*from) {
                set.insert(*to);
            }
        }
    }
    let mut order = if asked == 0 { vec![0] } else { vec![0, asked] };
    let mut seen = BTreeSet::from([asked]);
    let mut queue = VecDeque::from([asked]);
    while let Some(index) = queue.pop_front() {
        for next in neighbours.get(index).into_iter().flatten() {
            if seen.insert(*next) {
                queue.push_back(*next);
                if *next != 0 {
                    order.push(*next);
                }
            }
        }
    }
    order
}

impl Looked {
    /// Adds ties between namespaces.
    pub fn tie(&mut self, ties: &[(usize, usize)]) {
        self.ties.extend_from_slice(ties);
    }

    /// Keeps these candidates, in this order, and renumbers the owners.
    pub fn keep(&mut self, order: &[usize]) {
        let positions: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let mut kept: Vec<Look> =
            order.iter().map(|old| self.namespaces.get_mut(*old).map(std::mem::take).unwrap_or_default()).collect();
        for look in &mut kept {
            look.owners = std::mem::take(&mut look.owners)
                .into_iter()
                .filter_map(|(nsid, old)| Some((nsid, *positions.get(&old)?)))
                .collect();
        }
        self.namespaces = kept;
    }

    /// The candidates that may not be entered: whoever follows packets must know of them, because they may come through any.
    pub fn closed(&self) -> impl Iterator<Item = usize> {
        self.namespaces.iter().enumerate().filter(|(_, look)| look.closed).map(|(index, _)| index)
    }

    /// That some of the kept ones may not be entered.
    pub fn closed_gap(&self, candidates: &[Candidate]) -> Option<Gap> {
        const NAMED: usize = 4;
        let names: Vec<String> = self.closed().filter_map(|index| Some(candidates.get(index)?.label())).collect();
        let more = if names.len() > NAMED { ", …" } else { "" };
        let listed = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| Gap {
            what: format!("{} other network namespaces of this machine ({listed}{more})", names.len()),
            why: "they may not be entered".into(),
            help: "run as root, or with CAP_SYS_ADMIN".into(),
        })
    }

    /// What could not be seen, of all namespaces.
    pub fn gaps(&self) -> Vec<Gap> {
        self.namespaces.iter().flat_map(|look| look.gaps.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(owners: &[&[usize]]) -> Looked {
        let look = |owners: &&[usize]| Look {
            owners: owners.iter().enumerate().map(|(nsid, owner)| (nsid as i32, *owner)).collect(),
            ..Look::default()
        };
        Looked { namespaces: owners.iter().map(look).collect(), ties: Vec::new() }
    }

    #[test]
    fn follows_ties_in_both_directions_and_no_further() {
        // 2 and 3 are tied to 0, 4 to 3, 5 and 6 to each other.
        let looked = looked(&[&[], &[], &[0], &[0], &[3], &[6], &[5]]);
        assert_eq!(connected(&looked, 0), [0, 2, 3, 4]);
        assert_eq!(connected(&looked, 6), [0, 6, 5]);
        assert_eq!(connected(&looked, 4), [0, 4, 3, 2]);
        let mut looked = looked;
        looked.tie(&[(1, 5)]);
        assert_eq!(connected(&looked, 6), [0, 6, 5, 1]);
    }

    #[test]
    fn keeping_renumbers_owners() {
        let mut looked = looked(&[&[2], &[], &[0]]);
        looked.keep(&[0, 2]);
        assert_eq!(looked.namespaces.len(), 2);
        assert_eq!(looked.namespaces[0].owners[&0], 1);
        assert_eq!(looked.namespaces[1].owners[&0], 0);
    }
}
