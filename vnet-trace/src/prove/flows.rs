//! Which flows between the addresses of a network change their verdict, foretold from before and after.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::id::NetnsId;
use crate::model::proof::Effect;
use crate::model::question::{Iface, Protocol, Question};
use crate::model::snapshot::Snapshot;
use crate::predict::predict;

/// Pairs that are compared at most.
const PAIRS: usize = 400;
/// Time for all of them.
const TIME: Duration = Duration::from_millis(700);

/// What changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Flows with another verdict.
    pub effects: Vec<Effect>,
    /// Pairs compared.
    pub pairs: usize,
    /// There were more.
    pub bounded: bool,
}

/// An address that may ask and be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    netns: NetnsId,
    address: IpAddr,
}

/// Compares all ordered pairs of addresses but the one that was asked about.
pub fn changes(asked: &Question, before: &Snapshot, after: &Snapshot) -> Changes {
    let ends = ends(before);
    let began = Instant::now();
    let mut changes = Changes::default();
    for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
        let one_family = from.address.is_ipv4() == to.address.is_ipv4();
        let the_asked = from.netns == asked.netns && to.address == asked.dst;
        if from == to || !one_family || the_asked {
            continue;
        }
        if changes.pairs >= PAIRS || began.elapsed() > TIME {
            changes.bounded = true;
            break;
        }
        changes.pairs += 1;
        let question = question(*from, to.address, asked.protocol);
        let arrives = |snapshot: &Snapshot| predict(&question, snapshot).exchange.faults.is_empty();
        let (was, is) = (arrives(before), arrives(after));
        if was != is {
            changes.effects.push(Effect {
                netns: before.netns_name(from.netns).to_owned(),
                src: from.address,
                dst: to.address,
                arrives: is,
            });
        }
    }
    changes
}

/// Addresses that people give to hosts: none that the kernel made.
fn ends(snapshot: &Snapshot) -> Vec<End> {
    let mut ends = Vec::new();
    for netns in &snapshot.namespaces {
        for entry in &netns.addresses {
            let made = match entry.address {
                IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
                IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
            };
            let end = End { netns: netns.id, address: entry.address };
            if !made && !ends.contains(&end) {
                ends.push(end);
            }
        }
    }
    ends
}

fn question(from: End, dst: IpAddr, protocol: Protocol) -> Question {
    Question { iface: Some(Iface::Address(from.address)), protocol, ..Question::echo(from.netns, dst) }
}
