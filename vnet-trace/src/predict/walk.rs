//! The state of one prediction: the snapshot, what the packets of this exchange have changed in it (learned
//! entries, connections), and the journeys and faults found so far.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::exchange::{Action, Decision, Journey, Leg, NearMiss, Place, Role, Step};
use crate::model::id::{Device, IfIndex, MacAddr, NetnsId};
use crate::model::question::Question;
use crate::model::snapshot::{Link, Netns, Snapshot};

use super::frame::{Block, Trail};
use super::netfilter::packet::{NatBinding, Tuple};

/// Copies of frames that one prediction may make before it gives up: a guard against exploding floods.
const MOST_BRANCHES: usize = 20_000;

/// Where a neighbour's link-layer address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourSource {
    /// An entry of the snapshot.
    Entry,
    /// Learned from the owner during this exchange.
    Learned,
    /// Given by a bridge that answers in the owner's stead; the port with neigh_suppress.
    Bridge(Device),
    /// The device does not resolve: its own address is used (NOARP).
    NoArp,
}

/// A connection that was seen in a namespace during this exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracked {
    /// Where.
    pub netns: NetnsId,
    /// How it is rewritten.
    pub binding: NatBinding,
    /// Source or destination was rewritten.
    pub snat: bool,
    /// Destination was rewritten.
    pub dnat: bool,
    /// Connection mark.
    pub mark: Option<u32>,
    /// It was begun in a zone of connection tracking: whether an answer is looked for there is not known.
    pub zoned: bool,
}

/// One prediction on its way.
pub struct Walk<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// What is asked.
    pub question: &'a Question,
    /// What bridges learn: (bridge, VLAN, address) → port.
    pub learned: BTreeMap<(Device, Option<u16>, MacAddr), Device>,
    /// What neighbour tables learn.
    pub neighbours: BTreeMap<(Device, IpAddr), (MacAddr, NeighbourSource)>,
    /// Connections.
    pub tracked: Vec<Tracked>,
    /// Journeys, in causal order.
    pub journeys: Vec<Journey>,
    /// Rewriting rules that did not match.
    pub near_misses: Vec<NearMiss>,
    /// Packets that rules refused.
    pub refused: Vec<super::filter::Refused>,
    /// Frames that Open vSwitch bridges could be asked about: bridge and frame, in the words of `ofproto/trace`.
    pub switched: Vec<(String, String)>,
    /// Which leg is walked.
    pub leg: Leg,
    /// Copies left.
    pub budget: usize,
    /// Namespaces and input devices passed at layer 3, for loops: (netns, device).
    pub passed: Vec<Device>,
}

impl<'a> Walk<'a> {
    /// A walk that has not begun.
    pub fn new(question: &'a Question, snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            question,
            learned: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            tracked: Vec::new(),
            journeys: Vec::new(),
            near_misses: Vec::new(),
            refused: Vec::new(),
            switched: Vec::new(),
            leg: Leg::Forward,
            budget: MOST_BRANCHES,
            passed: Vec::new(),
        }
    }

    /// The namespace with this id; an empty one if the snapshot does not know it (a damaged recording).
    pub fn netns(&self, id: NetnsId) -> &'a Netns {
        static EMPTY: std::sync::LazyLock<Netns> = std::sync::LazyLock::new(Netns::default);
        self.snapshot.netns(id).unwrap_or(&EMPTY)
    }

    /// The device.
    pub fn link(&self, device: Device) -> Option<&'a Link> {
        self.snapshot.link(device)
    }

    /// `net.ipv4.conf.{all,DEV}.KEY`, larger of the two (IN_DEV_MAXCONF).
    pub fn conf_max(&self, family: &str, device: Device, key: &str) -> i64 {
        let netns = self.netns(device.netns);
        let own = self.link(device).and_then(|link| netns.conf(family, &link.name, key)).unwrap_or(0);
        netns.conf(family, "all", key).unwrap_or(0).max(own)
    }

    /// `net.ipv4.conf.{all,DEV}.KEY`, either (IN_DEV_ORCONF).
    pub fn conf_or(&self, family: &str, device: Device, key: &str) -> bool {
        self.conf_max(family, device, key) != 0
    }

    /// `net.ipv4.conf.DEV.KEY` alone (IN_DEV_CONF_GET).
    pub fn conf(&self, family: &str, device: Device, key: &str) -> Option<i64> {
        let link = self.link(device)?;
        self.netns(device.netns).conf(family, &link.name, key)
    }

    /// The full name of the sysctl that decides between `all` and the device: the larger one, the device's if equal.
    pub fn deciding_sysctl(&self, family: &str, device: Device, key: &str) -> String {
        let netns = self.netns(device.netns);
        let name = self.link(device).map_or("", |link| link.name.as_str());
        let own = netns.conf(family, name, key).unwrap_or(0);
        let all = netns.conf(family, "all", key).unwrap_or(0);
        if all > own {
            format!("net.{family}.conf.all.{key}")
        } else {
            format!("net.{family}.conf.{}.{key}", name.replace('.', "/"))
        }
    }

    /// The connection that a packet with this tuple answers, in this namespace.
    pub fn answered(&self, netns: NetnsId, tuple: Tuple) -> Option<&Tracked> {
        self.tracked.iter().rev().find(|tracked| tracked.netns == netns && tracked.binding.reply == tuple)
    }
}

impl Trail {
    /// Notes what happened at a device.
    pub fn step(&mut self, device: Device, action: Action) {
        self.steps.push(Step {
            time: None,
            netns: device.netns,
            device: Some(device.ifindex),
            action,
            sources: Vec::new(),
        });
    }

    /// Notes what happened in a namespace.
    pub fn step_in(&mut self, netns: NetnsId, device: Option<IfIndex>, action: Action) {
        self.steps.push(Step { time: None, netns, device, action, sources: Vec::new() });
    }

    /// Notes a reason why the packet ends here. The walk goes on as if it were mended.
    pub fn block(&mut self, place: Place, decision: Decision) {
        let at = self.steps.len();
        self.blocks.push(Block { place, decision, at, underlay: self.depth > 0, role: None });
    }

    /// As [`Trail::block`], for a packet of another role (address resolution for this one).
    pub fn block_as(&mut self, role: Role, place: Place, decision: Decision) {
        self.block(place, decision);
        if let Some(block) = self.blocks.last_mut() {
            block.role = Some(role);
        }
    }

    /// Whether this copy was here before: a circle at layer 2. Notes that it now was.
    pub fn revisits(&mut self, device: Device, ingress: bool, vid: Option<u16>) -> bool {
        let here = (device, ingress, vid);
        if self.visited.contains(&here) {
            return true;
        }
        self.visited.push(here);
        false
    }
}
