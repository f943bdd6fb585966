//! Small networks for the rules' tests: a [`World`] is built in the words of `ip`, predicted, and shown to one rule.
//!
//! Devices are named `NETNS/DEVICE`; the namespace `.` is the one where the command was started. Every builder leaves what
//! the kernel would leave: an address brings its local and its connected route, a device that goes down takes its routes
//! along and its peer's carrier. Ready-made worlds: [`World::cable`], [`World::router`], [`World::switch`],
//! [`World::tunnel`], [`World::loops`].

#![expect(
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "builders for tests, used in chains and failing by a panic"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::collect::iptables::parse_iptables_save;
use crate::diagnose::case::{Case, Check};
use crate::diagnose::rules;
use crate::model::diagnosis::{Finding, Note};
use crate::model::exchange::{Decision, Exchange, Fault, Headers, Leg, Loss, Place, Role};
use crate::model::id::{Device, IfIndex, MacAddr, NetnsId};
use crate::model::netfilter::{Backend, Family};
use crate::model::provenance::{Origin, Provenance};
use crate::model::question::{Protocol, Question};
use crate::model::recording::{PingOutcome, Recording};
use crate::model::snapshot::{
    Address, BridgeInfo, BridgePort, BridgeVlan, FdbEntry, Link, LinkKind, MacvlanMode, Neighbour, Netns, Nexthop,
    OperState, Route, RouteKind, Rule, RuleAction, Snapshot, Socket, VxlanInfo,
};
use crate::predict::predict;

/// IFF_UP, IFF_BROADCAST, IFF_RUNNING, IFF_MULTICAST, IFF_LOWER_UP.
const UP: u32 = 0x1_1043;

const NUD_NOARP: u16 = 0x40;
const NTF_MASTER: u8 = 0x04;
const NTF_STICKY: u8 = 0x40;

/// A network and a question about it.
#[derive(Clone)]
pub struct World {
    snapshot: Snapshot,
    question: Question,
    faults: Vec<Fault>,
    sent: u32,
}

/// What a rule said, in words that are short to compare.
#[derive(Debug)]
pub struct Found {
    /// `b/veth2`, or `b` without a device.
    pub at: String,
    /// What is lost.
    pub role: Role,
    /// The first fix's commands.
    pub commands: Vec<String>,
    /// Everything else.
    pub finding: Finding,
}

impl World {
    /// Only the namespace `.`, with its `lo`.
    pub fn new() -> Self {
        let question = Question { icmp_id: 1, ..Question::echo(NetnsId(0), IpAddr::from([10, 0, 0, 2])) };
        let mut world = Self { snapshot: Snapshot::default(), question, faults: Vec::new(), sent: 0 };
        world.netns(".");
        world
    }

    /// `a/veth1` 10.0.0.1 and `b/veth2` 10.0.0.2 on one cable; a asks for b.
    pub fn cable() -> Self {
        Self::new()
            .veth("a/veth1", "b/veth2")
            .address("a/veth1", "10.0.0.1/24")
            .address("b/veth2", "10.0.0.2/24")
            .ask("a", "10.0.0.2")
    }

    /// Asks for a TCP port instead.
    pub fn connect(self, port: u16) -> Self {
        self.question(|question| question.protocol = Protocol::Tcp { port, sport: 40000 })
    }

    /// What the machine's files say, and whose namespace is the machine's own.
    pub fn files(mut self, netns: &str, files: Provenance) -> Self {
        let id = self.netns(netns);
        let inode = u64::from(id.0) + 4_026_531_840;
        for space in &mut self.snapshot.namespaces {
            space.inode = u64::from(space.id.0) + 4_026_531_840;
        }
        self.snapshot.provenance = Provenance { machine_netns: Some(inode), ..files };
        self
    }

    /// The number of a namespace.
    pub fn id_of(&self, netns: &str) -> NetnsId {
        let found = self.snapshot.namespaces.iter().find(|space| space.name == netns);
        found.map(|space| space.id).expect("a namespace")
    }

    /// What something says of the case.
    pub fn look<T>(&self, look: impl FnOnce(&Case<'_>) -> T) -> T {
        self.judge(look)
    }

    /// Where the settings come from that this rule's finding rests on.
    pub fn origins(&self, check: Check) -> Vec<Origin> {
        self.judge(|case| {
            let fault = case.predicted.faults.iter().find(|fault| check(case, fault).is_some()).expect("a finding");
            let finding = check(case, fault).expect("a finding");
            crate::diagnose::provenance::origins(case, fault, &finding)
        })
    }

    /// Requests that were sent, and that nobody answered.
    pub fn sent(self, sent: u32) -> Self {
        Self { sent, ..self }
    }

    /// A TCP socket that listens.
    pub fn listen(self, netns: &str, local: &str, port: u16) -> Self {
        let socket = Socket {
            protocol: 6,
            local: ip(local),
            port,
            device: None,
            listening: true,
            rx_queue: 0,
            rx_limit: Some(128),
            drops: 0,
            process: None,
            v6only: None,
        };
        self.space(netns, |space| {
            space.sockets_of = Some(6);
            space.sockets.push(socket);
        })
    }

    /// Connections that wait to be accepted, by the last socket that listens, and how many may.
    pub fn waiting(self, netns: &str, waiting: u32, backlog: u32) -> Self {
        self.space(netns, |space| {
            if let Some(socket) = space.sockets.last_mut() {
                (socket.rx_queue, socket.rx_limit) = (waiting, Some(backlog));
            }
        })
    }

    /// The same with fd00::1 and fd00::2.
    pub fn cable6() -> Self {
        Self::new()
            .veth("a/veth1", "b/veth2")
            .address("a/veth1", "fd00::1/64")
            .address("b/veth2", "fd00::2/64")
            .ask("a", "fd00::2")
    }

    /// `a/eth0` 10.0.1.2 – `r/r1` 10.0.1.1, forwarding, `r/r2` 10.0.2.1 – `b/eth0` 10.0.2.2; a asks for b.
    pub fn router() -> Self {
        Self::new()
            .veth("a/eth0", "r/r1")
            .veth("b/eth0", "r/r2")
            .address("a/eth0", "10.0.1.2/24")
            .address("r/r1", "10.0.1.1/24")
            .address("r/r2", "10.0.2.1/24")
            .address("b/eth0", "10.0.2.2/24")
            .route("a", "default via 10.0.1.1")
            .route("b", "default via 10.0.2.1")
            .forwarding("r", 1)
            .ask("a", "10.0.2.2")
    }

    /// Bridge `./br0` with the ports p1, p2, p3 to `a/eth0` 10.0.0.1, `b/eth0` 10.0.0.2, `c/eth0` 10.0.0.3; a asks for b.
    pub fn switch() -> Self {
        let mut world = Self::new().link("./br0", LinkKind::Bridge(BridgeInfo::default()));
        for (at, netns) in ["a", "b", "c"].into_iter().enumerate() {
            let (port, eth0) = (format!("./p{}", at + 1), format!("{netns}/eth0"));
            world = world.veth(&port, &eth0).master(&port, "./br0").address(&eth0, &format!("10.0.0.{}/24", at + 1));
        }
        world.ask("a", "10.0.0.2")
    }

    /// A container `c/eth0` 172.17.0.2 behind `./br0`, whose host leaves by `./eth0` to a server `o/eth0` 192.0.2.2 that
    /// knows only the host; the container asks for the server.
    pub fn container() -> Self {
        Self::new()
            .link("./br0", LinkKind::Bridge(BridgeInfo::default()))
            .veth("./p1", "c/eth0")
            .master("./p1", "./br0")
            .veth("./eth0", "o/eth0")
            .address("./br0", "172.17.0.1/16")
            .address("c/eth0", "172.17.0.2/16")
            .address("./eth0", "192.0.2.1/24")
            .address("o/eth0", "192.0.2.2/24")
            .route("c", "default via 172.17.0.1")
            .forwarding(".", 1)
            .ask("c", "192.0.2.2")
    }

    /// Two cables, `a/a1` 10.0.1.1 – `b/b1` 10.0.1.2 and `a/a2` 10.0.2.1 – `b/b2` 10.0.2.2; b answers 10.0.1.1 by the
    /// second. a asks for 10.0.1.2.
    pub fn two_cables() -> Self {
        Self::new()
            .veth("a/a1", "b/b1")
            .veth("a/a2", "b/b2")
            .address("a/a1", "10.0.1.1/24")
            .address("a/a2", "10.0.2.1/24")
            .address("b/b1", "10.0.1.2/24")
            .address("b/b2", "10.0.2.2/24")
            .route("b", "10.0.1.1 via 10.0.2.1")
            .ask("a", "10.0.1.2")
    }

    /// Two namespaces with a child each on `./up0`, whose cable leads to a switch that reflects or does not.
    pub fn siblings(mode: MacvlanMode, hairpin: bool) -> Self {
        Self::new()
            .veth("./up0", "s/port0")
            .link("s/br0", LinkKind::Bridge(BridgeInfo::default()))
            .master("s/port0", "s/br0")
            .port("s/port0", |port| port.hairpin = hairpin)
            .upper("a/mv1", "./up0", LinkKind::Macvlan(mode))
            .upper("b/mv2", "./up0", LinkKind::Macvlan(mode))
            .address("a/mv1", "10.0.0.1/24")
            .address("b/mv2", "10.0.0.2/24")
            .ask("a", "10.0.0.2")
    }

    /// Both ends of a cable in one namespace, `./veth0` 10.0.0.1 and `./veth1` 10.0.0.2; asked by veth0 for 10.0.0.2.
    pub fn loops() -> Self {
        Self::new()
            .veth("./veth0", "./veth1")
            .address("./veth0", "10.0.0.1/24")
            .address("./veth1", "10.0.0.2/24")
            .ask(".", "10.0.0.2")
            .question(|question| question.iface = Some(crate::model::question::Iface::Device("veth0".to_owned())))
    }

    /// A VXLAN tunnel between `a/vx0` 10.9.0.1 and `b/vx0` 10.9.0.2 over `a/eth0` 192.0.2.1 and `b/eth0` 192.0.2.2, each end
    /// with its VNI, its remote and its port; a asks for b.
    pub fn tunnel(a: (u32, Option<&str>, u16), b: (u32, Option<&str>, u16)) -> Self {
        Self::new()
            .veth("a/eth0", "b/eth0")
            .address("a/eth0", "192.0.2.1/24")
            .address("b/eth0", "192.0.2.2/24")
            .vxlan("a/vx0", a.0, a.1, a.2)
            .vxlan("b/vx0", b.0, b.1, b.2)
            .address("a/vx0", "10.9.0.1/24")
            .address("b/vx0", "10.9.0.2/24")
            .ask("a", "10.9.0.2")
    }

    /// Where and for what is asked.
    pub fn ask(mut self, netns: &str, dst: &str) -> Self {
        self.question.netns = self.netns(netns);
        self.question.dst = ip(dst);
        self
    }

    /// Other details of the question.
    pub fn question(mut self, change: impl FnOnce(&mut Question)) -> Self {
        change(&mut self.question);
        self
    }

    /// `ip link add A type veth peer name B`, both up.
    pub fn veth(self, a: &str, b: &str) -> Self {
        let mut world = self.link(a, LinkKind::Veth).link(b, LinkKind::Veth);
        let (a, b) = (world.device(a), world.device(b));
        for (this, other) in [(a, b), (b, a)] {
            let link = world.link_of(this);
            link.link = Some(other.ifindex);
            link.link_netns = (this.netns != other.netns).then_some(other.netns);
            link.link_nsid = (this.netns != other.netns).then_some(1);
        }
        world
    }

    /// `ip link add DEV type …`, up.
    pub fn link(mut self, device: &str, kind: LinkKind) -> Self {
        let (netns, name) = device.split_once('/').unwrap_or_else(|| panic!("{device} is not NETNS/DEVICE"));
        let netns = self.netns(netns);
        let links = &mut self.snapshot.namespaces[netns.0 as usize].links;
        let index = u32::try_from(links.len()).unwrap_or(0) + 1;
        let mac = MacAddr([2, 0, 0, 0, u8::try_from(netns.0).unwrap_or(0), u8::try_from(index).unwrap_or(0)]);
        links.push(Link {
            index: IfIndex(index),
            name: name.to_owned(),
            kind,
            flags: UP,
            operstate: OperState::Up,
            carrier: true,
            mtu: 1500,
            mac: Some(mac),
            ..Link::default()
        });
        self
    }

    /// `ip link add link LOWER name DEV type …`, up.
    pub fn upper(self, device: &str, lower: &str, kind: LinkKind) -> Self {
        let mut world = self.link(device, kind);
        let (upper, lower) = (world.device(device), world.device(lower));
        let link = world.link_of(upper);
        link.link = Some(lower.ifindex);
        link.link_netns = (upper.netns != lower.netns).then_some(lower.netns);
        link.link_nsid = (upper.netns != lower.netns).then_some(1);
        world
    }

    /// `ip link add DEV type vxlan id VNI remote REMOTE dstport PORT`, up.
    pub fn vxlan(self, device: &str, vni: u32, remote: Option<&str>, port: u16) -> Self {
        let info = VxlanInfo { vni, remote: remote.map(ip), port, learning: true, ..VxlanInfo::default() };
        self.link(device, LinkKind::Vxlan(info)).change(device, |link| link.mtu = 1450)
    }

    /// `ip link set DEV master BRIDGE`.
    pub fn master(mut self, port: &str, bridge: &str) -> Self {
        let (port, bridge) = (self.device(port), self.device(bridge));
        let link = self.link_of(port);
        link.master = Some(bridge.ifindex);
        link.bridge_port = Some(BridgePort::default());
        let mac = link.mac.unwrap_or_default();
        // The bridge has every port's address as its own (br_fdb_add_local).
        let own =
            FdbEntry { ifindex: port.ifindex, mac, master: Some(bridge.ifindex), state: 0x80, ..FdbEntry::default() };
        self.snapshot.namespaces[port.netns.0 as usize].fdb.push(own);
        self
    }

    /// `bridge link set dev PORT …`.
    pub fn port(self, device: &str, change: impl FnOnce(&mut BridgePort)) -> Self {
        self.change(device, |link| change(link.bridge_port.get_or_insert_with(BridgePort::default)))
    }

    /// `bridge vlan add dev PORT vid VID`, with the flags `pvid untagged` where `pvid`.
    pub fn vlan(mut self, port: &str, vid: u16, pvid: bool) -> Self {
        let device = self.device(port);
        let vlan = BridgeVlan { ifindex: device.ifindex, vid, pvid, untagged: pvid };
        self.snapshot.namespaces[device.netns.0 as usize].bridge_vlans.push(vlan);
        self
    }

    /// `bridge fdb add MAC dev PORT master static`: the first frame from the address moves it to where that came in.
    pub fn fdb(self, port: &str, mac: MacAddr) -> Self {
        self.fdb_entry(port, mac, NTF_MASTER)
    }

    /// `bridge fdb add MAC dev PORT master static sticky`.
    pub fn sticky_fdb(self, port: &str, mac: MacAddr) -> Self {
        self.fdb_entry(port, mac, NTF_MASTER | NTF_STICKY)
    }

    fn fdb_entry(mut self, port: &str, mac: MacAddr, flags: u8) -> Self {
        let device = self.device(port);
        let master = self.link_of(device).master;
        let entry = FdbEntry { ifindex: device.ifindex, mac, master, state: NUD_NOARP, flags, ..FdbEntry::default() };
        self.snapshot.namespaces[device.netns.0 as usize].fdb.push(entry);
        self
    }

    /// `ip addr add ADDRESS dev DEV`, with its local and connected routes.
    pub fn address(mut self, device: &str, address: &str) -> Self {
        let at = self.device(device);
        let net: IpNet = address.parse().unwrap_or_else(|_| panic!("{address} is no address with a length"));
        let first =
            self.snapshot.namespaces[at.netns.0 as usize].addresses_of(at.ifindex).all(|entry| entry.address.is_ipv4());
        self.give(at, net);
        if net.addr().is_ipv6() && first {
            let link_local = format!("fe80::{}:{}/64", at.netns.0 + 1, at.ifindex.0);
            self.give(at, link_local.parse().unwrap_or_else(|_| panic!("{link_local}")));
            let all_nodes = route(255, RouteKind::Multicast, "ff00::/8", Some(at.ifindex), None);
            self.snapshot.namespaces[at.netns.0 as usize].routes.push(all_nodes);
        }
        self
    }

    fn give(&mut self, at: Device, net: IpNet) {
        let is_lo = self.link_of(at).is_loopback();
        let space = &mut self.snapshot.namespaces[at.netns.0 as usize];
        let address = net.addr();
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let scope = if is_lo && address.is_loopback() {
            254
        } else if link_local {
            253
        } else {
            0
        };
        space.addresses.push(Address {
            ifindex: at.ifindex,
            address,
            prefix_len: net.prefix_len(),
            peer: None,
            scope,
            flags: 0x80,
        });
        let host = IpNet::from(address).to_string();
        let own =
            Route { scope: 254, prefsrc: Some(address), ..route(255, RouteKind::Local, &host, Some(at.ifindex), None) };
        space.routes.push(own);
        if net.prefix_len() < IpNet::from(address).prefix_len() && !is_lo {
            let metric = if address.is_ipv6() { 256 } else { 0 };
            let prefsrc = address.is_ipv4().then_some(address);
            let subnet = net.trunc().to_string();
            space.routes.push(Route {
                scope: 253,
                metric,
                prefsrc,
                ..route(254, RouteKind::Unicast, &subnet, Some(at.ifindex), None)
            });
        }
    }

    /// `ip route add …`: `[TYPE] PREFIX|default [via GATEWAY] [dev DEV] [table N] [src ADDRESS]`.
    pub fn route(mut self, netns: &str, text: &str) -> Self {
        let id = self.netns(netns);
        let space = &self.snapshot.namespaces[id.0 as usize];
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let kind = match words[0] {
            "blackhole" => RouteKind::Blackhole,
            "unreachable" => RouteKind::Unreachable,
            "prohibit" => RouteKind::Prohibit,
            "throw" => RouteKind::Throw,
            _ => RouteKind::Unicast,
        };
        if kind != RouteKind::Unicast {
            words.remove(0);
        }
        let after =
            |word: &str| words.iter().position(|found| *found == word).and_then(|at| words.get(at + 1)).copied();
        let gateway = after("via").map(ip);
        let dst = match (words[0], gateway.is_some_and(|gateway| gateway.is_ipv6())) {
            ("default", true) => "::/0".to_owned(),
            ("default", false) => "0.0.0.0/0".to_owned(),
            (word, _) if word.contains('/') => word.to_owned(),
            (word, _) => IpNet::from(ip(word)).to_string(),
        };
        let named = after("dev").and_then(|name| space.link_by_name(name)).map(|link| link.index);
        let on_link = gateway.and_then(|gateway| {
            space
                .addresses
                .iter()
                .find(|entry| entry.net().is_some_and(|net| net.contains(&gateway)))
                .map(|entry| entry.ifindex)
        });
        let oif = named.or(on_link);
        let table = after("table").and_then(|table| table.parse().ok()).unwrap_or(254);
        let new = Route { prefsrc: after("src").map(ip), protocol: 3, ..route(table, kind, &dst, oif, gateway) };
        self.snapshot.namespaces[id.0 as usize].routes.push(new);
        self
    }

    /// Removes routes: those for which it holds.
    pub fn without_routes(mut self, netns: &str, which: impl Fn(&Route) -> bool) -> Self {
        let id = self.netns(netns);
        self.snapshot.namespaces[id.0 as usize].routes.retain(|route| !which(route));
        self
    }

    /// `ip rule add priority N …`; the three default rules are there.
    pub fn rule(mut self, netns: &str, rule: Rule) -> Self {
        let id = self.netns(netns);
        let rules = &mut self.snapshot.namespaces[id.0 as usize].rules;
        rules.push(rule);
        rules.sort_by_key(|rule| rule.priority);
        self
    }

    /// `ip neigh add ADDRESS lladdr MAC dev DEV nud permanent`.
    pub fn neighbour(mut self, device: &str, address: &str, lladdr: MacAddr) -> Self {
        let at = self.device(device);
        let entry =
            Neighbour { ifindex: at.ifindex, address: ip(address), lladdr: Some(lladdr), state: 0x80, flags: 0 };
        self.snapshot.namespaces[at.netns.0 as usize].neighbours.push(entry);
        self
    }

    /// `sysctl -w KEY=VALUE`.
    pub fn sysctl(mut self, netns: &str, key: &str, value: i64) -> Self {
        let id = self.netns(netns);
        self.snapshot.namespaces[id.0 as usize].sysctls.insert(key.to_owned(), value.to_string());
        self
    }

    /// Forwarding of both families, for all devices that there are.
    pub fn forwarding(mut self, netns: &str, value: i64) -> Self {
        let id = self.netns(netns);
        let names: Vec<String> =
            self.snapshot.namespaces[id.0 as usize].links.iter().map(|link| link.name.clone()).collect();
        let keys = names.iter().map(|name| format!("net.ipv4.conf.{name}.forwarding"));
        let all =
            ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"].map(str::to_owned);
        for key in keys.chain(all) {
            self.snapshot.namespaces[id.0 as usize].sysctls.insert(key, value.to_string());
        }
        self
    }

    /// `ip link set DEV down`: its routes go, its peer and what is stacked on it lose their carrier.
    pub fn down(mut self, device: &str) -> Self {
        let at = self.device(device);
        let others: Vec<Device> = self.snapshot.peer(at).into_iter().chain(self.snapshot.uppers(at)).collect();
        let link = self.link_of(at);
        link.flags &= !0x1_0041;
        link.carrier = false;
        link.operstate = OperState::Down;
        let space = &mut self.snapshot.namespaces[at.netns.0 as usize];
        space.routes.retain(|route| route.nexthops.iter().all(|hop| hop.oif != Some(at.ifindex)));
        for other in others {
            let link = self.link_of(other);
            link.flags &= !0x1_0040;
            link.carrier = false;
            link.operstate = OperState::LowerLayerDown;
        }
        self
    }

    /// Rules of a namespace as `iptables-save` prints them.
    pub fn iptables(self, netns: &str, text: &str) -> Self {
        self.rules_of(netns, text, Family::Ip, Backend::IptablesNft)
    }

    /// Rules of a namespace as ebtables, arptables or ip6tables print them.
    pub fn rules_of(mut self, netns: &str, text: &str, family: Family, backend: Backend) -> Self {
        let id = self.netns(netns);
        let (tables, gaps) = parse_iptables_save(text, family, backend);
        assert!(gaps.is_empty(), "{gaps:?}");
        self.snapshot.namespaces[id.0 as usize].netfilter.tables.extend(tables);
        self
    }

    /// Any other change of a device.
    pub fn change(mut self, device: &str, change: impl FnOnce(&mut Link)) -> Self {
        let at = self.device(device);
        change(self.link_of(at));
        self
    }

    /// Any other change of a namespace.
    pub fn space(mut self, netns: &str, change: impl FnOnce(&mut Netns)) -> Self {
        let id = self.netns(netns);
        change(&mut self.snapshot.namespaces[id.0 as usize]);
        self
    }

    /// Any other change of the machine.
    pub fn machine(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.snapshot);
        self
    }

    /// A fault that no configuration tells, as a sighting would give it: then it is the only one.
    pub fn fault(mut self, role: Role, device: &str, decision: Decision) -> Self {
        let at = self.device(device);
        self.faults.push(Fault {
            role,
            leg: if role == Role::Reply { Leg::Return } else { Leg::Forward },
            loss: Loss { place: Place::at(at, "here"), decision: Some(decision), certain: true },
            underlay: false,
            headers: Headers::default(),
        });
        self
    }

    /// The device of that name.
    pub fn device(&self, name: &str) -> Device {
        let (netns, dev) = name.split_once('/').unwrap_or_else(|| panic!("{name} is not NETNS/DEVICE"));
        let space = self.snapshot.namespaces.iter().find(|space| space.name == netns);
        let link = space.and_then(|space| Some(Device::new(space.id, space.link_by_name(dev)?.index)));
        link.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Its link-layer address.
    pub fn mac(&self, name: &str) -> MacAddr {
        self.snapshot.link(self.device(name)).and_then(|link| link.mac).unwrap_or_default()
    }

    /// Shows the rule every fault of the prediction; the first that it claims.
    pub fn find(&self, check: Check) -> Option<Found> {
        self.judge(|case| {
            let finding = case.predicted.faults.iter().find_map(|fault| check(case, fault))?;
            let netns = self.snapshot.netns_name(finding.place.netns);
            let at = finding
                .place
                .device()
                .map_or_else(|| netns.to_owned(), |device| format!("{netns}/{}", self.snapshot.device_name(device)));
            let commands = finding.fixes.first().map(|fix| fix.commands.clone()).unwrap_or_default();
            Some(Found { at, role: finding.role, commands, finding })
        })
    }

    /// As [`World::find`], and it must claim one.
    pub fn found(&self, check: Check) -> Found {
        self.find(check).unwrap_or_else(|| panic!("the rule claims none of {:#?}", self.faults()))
    }

    /// Whether the rule claims no fault.
    pub fn is_silent(&self, check: Check) -> bool {
        self.find(check).is_none()
    }

    /// The cause that the rules together give to the first fault.
    pub fn first(&self) -> Option<String> {
        self.judge(|case| {
            let fault = case.predicted.faults.first()?;
            rules::RULES.iter().find_map(|(code, check)| check(case, fault).map(|_| (*code).to_owned()))
        })
    }

    /// What a note's rule says.
    pub fn note(&self, check: fn(&Case<'_>) -> Option<Note>) -> Option<String> {
        self.judge(|case| check(case).map(|note| note.summary))
    }

    /// The decisions of the prediction, for a near miss that must be another fault, and for messages.
    pub fn faults(&self) -> Vec<Option<Decision>> {
        self.judge(|case| case.predicted.faults.iter().map(|fault| fault.loss.decision.clone()).collect())
    }

    fn judge<T>(&self, look: impl FnOnce(&Case<'_>) -> T) -> T {
        let mut prediction = predict(&self.question, &self.snapshot);
        if !self.faults.is_empty() {
            prediction.exchange.faults.clone_from(&self.faults);
        }
        let ping = PingOutcome { sent: self.sent, ..PingOutcome::default() };
        let recording = Recording { ping, ..Recording::of(self.question.clone(), self.snapshot.clone()) };
        let observed = Exchange::default();
        look(&Case {
            recording: &recording,
            observed: &observed,
            predicted: &prediction.exchange,
            refusals: &prediction.refused,
        })
    }

    fn link_of(&mut self, device: Device) -> &mut Link {
        let links = &mut self.snapshot.namespaces[device.netns.0 as usize].links;
        links.iter_mut().find(|link| link.index == device.ifindex).unwrap_or_else(|| panic!("no device"))
    }

    /// The namespace of that name, made if there is none.
    fn netns(&mut self, name: &str) -> NetnsId {
        if let Some(space) = self.snapshot.namespaces.iter().find(|space| space.name == name) {
            return space.id;
        }
        let id = NetnsId(u32::try_from(self.snapshot.namespaces.len()).unwrap_or(0));
        let named = name != ".";
        let lo = Link {
            index: IfIndex(1),
            name: "lo".to_owned(),
            kind: LinkKind::Loopback,
            flags: 0x1_0049,
            carrier: true,
            mtu: 65536,
            mac: Some(MacAddr::default()),
            ..Link::default()
        };
        let rules = [false, true].into_iter().flat_map(|ipv6| {
            [(0, 255), (32766, 254), (32767, 253)].map(|(priority, table)| Rule {
                ipv6,
                priority,
                action: RuleAction::Table(table),
                ..Rule::default()
            })
        });
        self.snapshot.namespaces.push(Netns {
            id,
            inode: 4_026_532_000 + u64::from(id.0),
            name: name.to_owned(),
            path: named.then(|| format!("/run/netns/{name}")),
            named,
            links: vec![lo],
            rules: rules.collect(),
            sysctls: BTreeMap::new(),
            ..Netns::default()
        });
        for address in ["127.0.0.1/8", "::1/128"] {
            let net = address.parse().unwrap_or_else(|_| panic!("{address}"));
            self.give(Device::new(id, IfIndex(1)), net);
        }
        id
    }
}

/// A MAC that nobody has.
pub const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

fn route(table: u32, kind: RouteKind, dst: &str, oif: Option<IfIndex>, gateway: Option<IpAddr>) -> Route {
    let dst = dst.parse().unwrap_or_else(|_| panic!("{dst} is no prefix"));
    let nexthop = Nexthop { oif, gateway, weight: 1, ..Nexthop::default() };
    let refuses =
        matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw);
    Route {
        table,
        kind,
        dst,
        src: None,
        tos: 0,
        scope: 0,
        protocol: 2,
        metric: 0,
        prefsrc: None,
        nexthops: if refuses { Vec::new() } else { vec![nexthop] },
        mtu: None,
        nexthop_id: None,
        pref: 0,
        cached: false,
    }
}

mod tests {
    use super::*;

    #[test]
    fn healthy_worlds_have_no_fault() {
        for world in [World::cable(), World::cable6(), World::router(), World::switch()] {
            assert_eq!(world.faults(), Vec::new());
        }
    }
}
