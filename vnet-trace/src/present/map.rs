//! The network as it is: namespaces, devices, who is wired to whom.
//!
//! [`Map::of`] turns a snapshot into what is drawn, in the interface's own types: [`Map::json`] prints them, [`text`]
//! makes a tree of them, [`drawing`] a picture. With a prediction, the devices on the packets' way are marked. Nothing is
//! decided here but how things are called and in what order they stand.

pub mod drawing;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::model::exchange::{Exchange, Fate};
use crate::model::id::{Device, IfIndex};
use crate::model::sight::Gap;
use crate::model::snapshot::{
    Container, IpvlanMode, Link, LinkKind, MacvlanMode, Netns, OperState, RouteKind, Snapshot,
};

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// The JSON Schema (draft 2020-12) of [`Map::json`].
pub const SCHEMA_TEXT: &str = include_str!("../../schema/map.schema.json");

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Map {
    /// The destination whose way is marked.
    pub destination: Option<IpAddr>,
    /// In the snapshot's order: the command's own first.
    pub namespaces: Vec<Space>,
    /// What could not be read.
    pub gaps: Vec<Unread>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Space {
    /// As in all answers: `.` is the unnamed one where the command was started.
    pub netns: String,
    /// Unique while it lives.
    pub inode: u64,
    /// Container, if it is one.
    pub container: Option<Inhabitant>,
    /// By index.
    pub devices: Vec<Node>,
    /// Of the main table, both families, as they are tried.
    pub default_routes: Vec<DefaultRoute>,
    /// Ports of the host that lead here.
    pub published: Vec<Published>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// `tcp`, `udp`, `sctp`.
    pub proto: String,
    /// The host's address; None is all of them.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The port here.
    pub port: u16,
}

/// The container that a namespace belongs to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inhabitant {
    /// `docker`, `podman`.
    pub engine: String,
    /// Name.
    pub name: String,
    /// Full id.
    pub id: String,
    /// Networks it is attached to.
    pub networks: Vec<String>,
    /// Kubernetes pod as `namespace/name`.
    pub pod: Option<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Name.
    pub dev: String,
    /// Index in its namespace.
    pub ifindex: u32,
    /// iproute2's word for what it is; `physical` for what has none.
    pub kind: String,
    /// What decides about it in few words: `id 10`, `mode private`; empty if nothing.
    pub detail: String,
    /// Administratively up.
    pub up: bool,
    /// Up, but nothing at the other end.
    pub no_carrier: bool,
    /// Bytes.
    pub mtu: u32,
    /// Link-layer address.
    pub lladdr: Option<String>,
    /// With their prefix lengths.
    pub addresses: Vec<String>,
    /// The device it is a port of.
    pub master: Option<String>,
    /// Its ports.
    pub ports: Vec<String>,
    /// The other end of the pair.
    pub peer: Option<End>,
    /// The device it is stacked on.
    pub lower: Option<End>,
    /// A bridge's network, as the container engine calls it.
    pub network: Option<String>,
    /// Whether predicted packets pass here.
    pub way: Option<Mark>,
}

/// A device somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct End {
    /// Namespace.
    pub netns: String,
    /// Device.
    pub dev: String,
    /// The device that this one is a port of there.
    pub master: Option<String>,
    /// Where it stands in [`Map::namespaces`] and [`Space::devices`].
    #[serde(skip)]
    pub at: (usize, usize),
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DefaultRoute {
    /// None: everything is taken to be on the link.
    pub via: Option<IpAddr>,
    /// Output device.
    pub dev: Option<String>,
    /// Lower wins.
    pub metric: u32,
}

/// How a device lies on the predicted way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// A packet passes.
    Passed,
    /// A packet is lost.
    Lost,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

impl Map {
    /// The map of a snapshot, with the way of the packets to a destination if one was asked for.
    pub fn of(snapshot: &Snapshot, way: Option<(IpAddr, &Exchange)>) -> Self {
        let marks = way.map(|(_, exchange)| marks(exchange)).unwrap_or_default();
        let places = Places::of(snapshot);
        Self {
            destination: way.map(|(destination, _)| destination),
            namespaces: snapshot.namespaces.iter().map(|netns| space(snapshot, &places, netns, &marks)).collect(),
            gaps: snapshot.gaps.iter().map(Unread::of).collect(),
        }
    }

    /// One JSON document.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!({
            "schema": SCHEMA,
            "tool": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
        });
        if let (Ok(serde_json::Value::Object(fields)), Some(document)) =
            (serde_json::to_value(self), value.as_object_mut())
        {
            document.extend(fields);
        }
        value
    }

    /// Wires between devices of different namespaces, each once, by position.
    pub fn wires(&self) -> Vec<Wire> {
        let mut wires = BTreeSet::new();
        for (node, at) in self.nodes() {
            if let Some(end) = node.peer.as_ref().or(node.lower.as_ref()).filter(|end| end.at.0 != at.0) {
                wires.insert(Wire { from: at.min(end.at), to: at.max(end.at) });
            }
        }
        wires.into_iter().collect()
    }

    /// The device at this position.
    pub fn node(&self, at: (usize, usize)) -> Option<&Node> {
        self.namespaces.get(at.0)?.devices.get(at.1)
    }

    fn nodes(&self) -> impl Iterator<Item = (&Node, (usize, usize))> {
        self.namespaces.iter().enumerate().flat_map(|(index, space)| {
            space.devices.iter().enumerate().map(move |(device, node)| (node, (index, device)))
        })
    }
}

/// A wire between two devices, by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire {
    /// The end that comes first.
    pub from: (usize, usize),
    /// The other.
    pub to: (usize, usize),
}

impl Space {
    /// For a reader: `.` is called `here`.
    pub fn spoken(&self) -> &str {
        spoken(&self.netns)
    }

    /// What it is besides a namespace: `docker container, network front`.
    pub fn about(&self) -> Option<String> {
        let container = self.container.as_ref()?;
        let mut about = format!("{} container", container.engine);
        if container.name != self.netns {
            about = format!("{about} {}", container.name);
        }
        match &container.networks[..] {
            [] => {}
            [one] => about = format!("{about}, network `{one}`"),
            many => about = format!("{about}, networks `{}`", many.join("`, `")),
        }
        if let Some(pod) = &container.pod {
            about = format!("{about}, pod {pod}");
        }
        Some(about)
    }

    /// The devices worth showing: not a loopback or a tunnel's fallback device that nobody uses.
    pub fn shown(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.devices.iter().enumerate().filter(|(_, node)| node.is_of_interest())
    }
}

impl Node {
    fn is_of_interest(&self) -> bool {
        const FALLBACK: [&str; 10] =
            ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0", "teql0"];
        let idle = self.way.is_none() && self.master.is_none();
        let own = |address: &String| address.starts_with("127.") || address == "::1/128";
        match self.kind.as_str() {
            "loopback" => !(idle && self.addresses.iter().all(own)),
            _ if FALLBACK.contains(&self.dev.as_str()) => !idle || self.up || !self.addresses.is_empty(),
            _ => true,
        }
    }

    /// What it is and how it fares, in few words; empty for a healthy veth with nothing to say.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if !matches!(self.kind.as_str(), "veth" | "physical" | "loopback") {
            words.push(self.kind.clone());
        }
        words.extend((!self.detail.is_empty()).then(|| self.detail.clone()));
        words.extend(self.network.as_ref().map(|network| format!("network `{network}`")));
        if !self.up {
            words.push("down".to_owned());
        } else if self.no_carrier {
            words.push("no carrier".to_owned());
        }
        words.join(", ")
    }

    /// Where its other end is: `↔ web:eth0 on br0`, `on eth0`.
    pub fn wired(&self, home: &str) -> String {
        let name = |end: &End| {
            let place = if end.netns == home { String::new() } else { format!("{}:", spoken(&end.netns)) };
            format!("{place}{}", end.dev)
        };
        match (&self.peer, &self.lower) {
            (Some(peer), _) => {
                let master = peer.master.as_ref().map(|master| format!(" on {master}")).unwrap_or_default();
                format!("↔ {}{master}", name(peer))
            }
            (None, Some(lower)) => format!("on {}", name(lower)),
            (None, None) => String::new(),
        }
    }
}

impl Published {
    /// As `docker ps` prints it, with words: `published: 127.0.0.1:8080 → 80/tcp`.
    pub fn words(&self) -> String {
        let host = match self.host {
            Some(host) => std::net::SocketAddr::new(host, self.host_port).to_string(),
            None => self.host_port.to_string(),
        };
        format!("published: {host} → {}/{}", self.port, self.proto)
    }
}

impl DefaultRoute {
    /// As `ip route` prints it.
    pub fn words(&self) -> String {
        let via = self.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let dev = self.dev.as_ref().map(|dev| format!(" dev {dev}")).unwrap_or_default();
        let metric = if self.metric == 0 { String::new() } else { format!(" metric {}", self.metric) };
        format!("default{via}{dev}{metric}")
    }
}

impl Unread {
    fn of(gap: &Gap) -> Self {
        Self { what: gap.what.clone(), why: gap.why.clone(), help: gap.help.clone() }
    }
}

fn spoken(netns: &str) -> &str {
    if netns == "." { "here" } else { netns }
}

/// Where each device stands.
struct Places<'a> {
    by_device: BTreeMap<Device, ((usize, usize), &'a Link)>,
    ports: BTreeMap<Device, Vec<&'a Link>>,
}

impl<'a> Places<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut places = Self { by_device: BTreeMap::new(), ports: BTreeMap::new() };
        for (space, netns) in snapshot.namespaces.iter().enumerate() {
            for (index, link) in netns.links.iter().enumerate() {
                places.by_device.insert(Device::new(netns.id, link.index), ((space, index), link));
                if let Some(master) = link.master {
                    places.ports.entry(Device::new(netns.id, master)).or_default().push(link);
                }
            }
        }
        places
    }

    fn link(&self, device: Device) -> Option<&'a Link> {
        self.by_device.get(&device).map(|(_, link)| *link)
    }

    fn end(&self, snapshot: &Snapshot, device: Device) -> Option<End> {
        let (at, link) = *self.by_device.get(&device)?;
        let master = link.master.and_then(|master| self.link(Device::new(device.netns, master)));
        Some(End {
            netns: snapshot.netns_name(device.netns).to_owned(),
            dev: link.name.clone(),
            master: master.map(|master| master.name.clone()),
            at,
        })
    }

    /// IFLA_LINK, resolved.
    fn linked(&self, netns: &Netns, link: &Link) -> Option<Device> {
        let there = match (link.link_netns, link.link_nsid) {
            (Some(netns), _) => netns,
            (None, None) => netns.id,
            (None, Some(_)) => return None,
        };
        let device = Device::new(there, link.link?);
        self.by_device.contains_key(&device).then_some(device)
    }

    /// The one network that all containers on the ports of this bridge have in common.
    fn network(&self, snapshot: &Snapshot, netns: &Netns, bridge: IfIndex) -> Option<String> {
        let mut common: Option<BTreeSet<&str>> = None;
        for port in self.ports.get(&Device::new(netns.id, bridge)).into_iter().flatten() {
            let peer = self.linked(netns, port).filter(|peer| peer.netns != netns.id);
            let container = peer.and_then(|peer| snapshot.netns(peer.netns)?.container.as_ref());
            let Some(container) = container else { continue };
            let networks: BTreeSet<&str> = container
                .networks
                .iter()
                .filter(|(_, driver)| driver == "bridge" || driver.is_empty())
                .map(|(name, _)| name.as_str())
                .collect();
            common = Some(match common {
                Some(common) => common.intersection(&networks).copied().collect(),
                None => networks,
            });
        }
        let common = common?;
        match (common.len(), common.first()) {
            (1, Some(network)) => Some((*network).to_owned()),
            _ => None,
        }
    }
}

/// One line for each port: that it is published in both families is one thing to know.
fn published(netns: &Netns) -> Vec<Published> {
    let mut found: Vec<Published> = Vec::new();
    for port in netns.container.iter().flat_map(|container| &container.ports) {
        let host = port.host.filter(|host| !host.is_unspecified());
        let line = Published { proto: port.protocol.clone(), host, host_port: port.host_port, port: port.port };
        if !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

fn space(snapshot: &Snapshot, places: &Places<'_>, netns: &Netns, marks: &BTreeMap<Device, Mark>) -> Space {
    let mut addresses: BTreeMap<IfIndex, Vec<String>> = BTreeMap::new();
    for address in &netns.addresses {
        let text = format!("{}/{}", address.address, address.prefix_len);
        addresses.entry(address.ifindex).or_default().push(text);
    }
    let node = |link: &Link| {
        let device = Device::new(netns.id, link.index);
        let linked = places.linked(netns, link).and_then(|linked| places.end(snapshot, linked));
        let (peer, lower) = match link.kind {
            LinkKind::Veth | LinkKind::Netkit { .. } => (linked, None),
            _ => (None, linked),
        };
        let master = link.master.and_then(|master| places.link(Device::new(netns.id, master)));
        let ports = places.ports.get(&device).into_iter().flatten().map(|port| port.name.clone()).collect();
        let (kind, detail) = kind(&link.kind);
        let is_bridge = matches!(link.kind, LinkKind::Bridge(_));
        Node {
            dev: link.name.clone(),
            ifindex: link.index.0,
            kind,
            detail,
            up: link.is_up(),
            no_carrier: link.is_up()
                && (!link.carrier || matches!(link.operstate, OperState::Down | OperState::LowerLayerDown)),
            mtu: link.mtu,
            lladdr: link.mac.map(|mac| mac.to_string()),
            addresses: addresses.remove(&link.index).unwrap_or_default(),
            master: master.map(|master| master.name.clone()),
            ports,
            peer,
            lower,
            network: if is_bridge { places.network(snapshot, netns, link.index) } else { None },
            way: marks.get(&device).copied(),
        }
    };
    Space {
        netns: netns.name.clone(),
        inode: netns.inode,
        container: netns.container.as_ref().map(Inhabitant::of),
        published: published(netns),
        devices: netns.links.iter().map(node).collect(),
        default_routes: default_routes(netns),
    }
}

impl Inhabitant {
    fn of(container: &Container) -> Self {
        Self {
            engine: container.engine.clone(),
            name: container.name.clone(),
            id: container.id.clone(),
            networks: container.networks.iter().map(|(name, _)| name.clone()).collect(),
            pod: container.pod.clone(),
        }
    }
}

fn default_routes(netns: &Netns) -> Vec<DefaultRoute> {
    const MAIN: u32 = 254;
    let all = netns.routes.iter().filter(|route| {
        route.table == MAIN && route.dst.prefix_len() == 0 && matches!(route.kind, RouteKind::Unicast) && !route.cached
    });
    all.flat_map(|route| {
        route.nexthops.iter().map(|hop| DefaultRoute {
            via: hop.gateway,
            dev: hop.oif.map(|oif| netns.link(oif).map_or_else(|| format!("if{}", oif.0), |link| link.name.clone())),
            metric: route.metric,
        })
    })
    .collect()
}

/// iproute2's word for a device, and what decides about it.
fn kind(kind: &LinkKind) -> (String, String) {
    let (word, detail) = match kind {
        LinkKind::Physical => ("physical", String::new()),
        LinkKind::Loopback => ("loopback", String::new()),
        LinkKind::Veth => ("veth", String::new()),
        LinkKind::Netkit { mode, .. } => ("netkit", mode.clone()),
        LinkKind::Bridge(info) => {
            ("bridge", if info.vlan_filtering { "vlan_filtering".to_owned() } else { String::new() })
        }
        LinkKind::Vlan { id, .. } => ("vlan", format!("id {id}")),
        LinkKind::Macvlan(mode) => ("macvlan", macvlan(*mode).to_owned()),
        LinkKind::Macvtap(mode) => ("macvtap", macvlan(*mode).to_owned()),
        LinkKind::Ipvlan { mode, .. } => {
            let mode = match mode {
                IpvlanMode::L2 => "l2",
                IpvlanMode::L3 => "l3",
                IpvlanMode::L3s => "l3s",
            };
            ("ipvlan", mode.to_owned())
        }
        LinkKind::Vxlan(info) => {
            let remote = info.remote.map(|remote| format!(" to {remote}")).unwrap_or_default();
            ("vxlan", format!("id {}{remote}", info.vni))
        }
        LinkKind::Geneve { vni, remote, .. } => {
            let remote = remote.map(|remote| format!(" to {remote}")).unwrap_or_default();
            ("geneve", format!("id {vni}{remote}"))
        }
        LinkKind::Dummy => ("dummy", String::new()),
        LinkKind::Tun { tap } => (if *tap { "tap" } else { "tun" }, String::new()),
        LinkKind::Vrf { table } => ("vrf", format!("table {table}")),
        LinkKind::Bond { mode, .. } => ("bond", mode.clone()),
        LinkKind::Team => ("team", String::new()),
        LinkKind::Wireguard => ("wireguard", String::new()),
        LinkKind::Tunnel { kind, remote, .. } => {
            return (kind.clone(), remote.map(|remote| format!("to {remote}")).unwrap_or_default());
        }
        LinkKind::Openvswitch => ("openvswitch", String::new()),
        LinkKind::Other(kind) => return (kind.clone(), String::new()),
    };
    (word.to_owned(), detail)
}

fn macvlan(mode: MacvlanMode) -> &'static str {
    match mode {
        MacvlanMode::Private => "private",
        MacvlanMode::Vepa => "vepa",
        MacvlanMode::Bridge => "bridge mode",
        MacvlanMode::Passthru => "passthru",
        MacvlanMode::Source => "source",
    }
}

/// The devices of the journeys. Only the first loss is one: what a prediction says beyond it holds once that is mended.
fn marks(exchange: &Exchange) -> BTreeMap<Device, Mark> {
    let mut marks = BTreeMap::new();
    for journey in &exchange.journeys {
        for step in &journey.steps {
            if let Some(device) = step.device {
                marks.entry(Device::new(step.netns, device)).or_insert(Mark::Passed);
            }
        }
    }
    let loss = exchange.journeys.iter().find_map(|journey| match &journey.fate {
        Fate::Lost(loss) => Some(loss),
        _ => None,
    });
    marks.extend(loss.and_then(|loss| loss.place.device()).map(|device| (device, Mark::Lost)));
    marks
}

#[cfg(test)]
#[path = "map/tests.rs"]
mod tests;
