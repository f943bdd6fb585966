//! The way of the packets that belong to one question: what `reconstruct` makes of what was seen, and
//! what `predict` expects from the configuration. Both speak in the same types, so that they can be compared.
//!
//! An exchange is a list of [`Journey`]s in causal order: at each layer-3 hop address resolution
//! (request, reply) comes before the packet that waits for it. A journey is a list of [`Step`]s in the
//! order of time; hops are a view on steps (see [`Journey::hops`]). Copies (floods, clones) are branches.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::diagnosis::Source;
use super::id::{Device, IfIndex, MacAddr, Nanos, NetnsId};
use super::netfilter::{Hook, RuleRef};

/// Everything that belongs to one question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Exchange {
    /// In causal order.
    pub journeys: Vec<Journey>,
    /// Predictions: every reason why the exchange fails, in causal order. The first is the loss, the others are
    /// what would stop it after that one is mended.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Predictions: the namespace and device at which the request is delivered, if it would be.
    #[serde(default)]
    pub owner: Option<Device>,
    /// Predictions: rules that would have helped and did not match (masquerading for another device, say).
    #[serde(default)]
    pub near_misses: Vec<NearMiss>,
}

/// One reason why an exchange fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Which packet it stops.
    pub role: Role,
    /// On which leg.
    pub leg: Leg,
    /// Where and why.
    pub loss: Loss,
    /// It stops the outer packet of a tunnel.
    pub underlay: bool,
    /// Addresses of the packet that is stopped, as it is there.
    pub headers: Headers,
}

/// A rewriting rule that did not match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    /// Namespace.
    pub netns: NetnsId,
    /// Hook.
    pub hook: Hook,
    /// The rule.
    pub rule: RuleRef,
    /// Device the packet left by.
    pub output: Option<IfIndex>,
    /// Which leg.
    pub leg: Leg,
    /// The conditions that failed, in words of the rule language, with what the packet has instead.
    pub failed: Vec<(String, String)>,
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// ARP request or neighbour solicitation.
    ArpRequest,
    /// ARP reply or neighbour advertisement.
    ArpReply,
    /// The echo request (or TCP SYN, UDP datagram).
    Request,
    /// The echo reply (or its TCP/UDP counterpart).
    Reply,
    /// An ICMP error about one of the others.
    IcmpError,
    /// A TCP RST in answer to the request.
    Reset,
}

/// On which leg of the exchange a packet is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// From the asker to the owner of the address.
    Forward,
    /// Back.
    Return,
}

/// One packet's way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journey {
    /// What it is for.
    pub role: Role,
    /// Whether it helps the request or the reply along: an ARP request for the way back is `Return`.
    pub leg: Leg,
    /// Echo sequence number, where it has one.
    pub seq: Option<u16>,
    /// Addresses as it set out.
    pub headers: Headers,
    /// What happened to it, in order of time.
    pub steps: Vec<Step>,
    /// Copies that took another way (floods to other ports, clones to other sockets).
    pub copies: Vec<Journey>,
    /// How it ended.
    pub fate: Fate,
    /// Predictions of a loss: where it would have gone on to, were that mended. Whoever sees the packet there knows that
    /// the prediction is wrong.
    #[serde(default)]
    pub beyond: Vec<Step>,
}

/// The addresses of a packet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Headers {
    /// Source (ARP: sender protocol address).
    pub src: Option<IpAddr>,
    /// Destination (ARP: target protocol address; ND: the target).
    pub dst: Option<IpAddr>,
    /// Link-layer source.
    pub mac_src: Option<MacAddr>,
    /// Link-layer destination.
    pub mac_dst: Option<MacAddr>,
    /// Bytes of the IP packet; 0 if unknown.
    pub len: u32,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// ICMP identifier, or source port.
    pub id: Option<u16>,
    /// Destination port.
    #[serde(default)]
    pub port: Option<u16>,
}

/// One thing that happened to a packet at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When; None in a prediction.
    pub time: Option<Nanos>,
    /// The namespace.
    pub netns: NetnsId,
    /// The device, where it happened at one.
    pub device: Option<IfIndex>,
    /// What happened.
    pub action: Action,
    /// The sightings that say so, as positions in the recording; empty in a prediction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// What happens to packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A socket handed it to the stack.
    Sent,
    /// Routed: looked up, with this result.
    Routed {
        /// Table of the route that matched; 0 if unknown.
        table: u32,
        /// Output device.
        oif: Option<IfIndex>,
        /// Next hop; None on-link or local.
        gateway: Option<IpAddr>,
        /// Delivered locally.
        local: bool,
    },
    /// Its source was checked and accepted.
    SourceChecked,
    /// A netfilter hook let it pass.
    Hook {
        /// The hook.
        hook: Hook,
        /// Rules that decided, in order.
        rules: Vec<RuleRef>,
    },
    /// Its addresses or ports were rewritten.
    Rewritten {
        /// Before.
        from: (IpAddr, IpAddr),
        /// After.
        to: (IpAddr, IpAddr),
        /// Source and destination port before and after; None where there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<((u16, u16), (u16, u16))>,
        /// The rule, if it is known.
        rule: Option<RuleRef>,
    },
    /// The next hop's link-layer address was known.
    NeighbourKnown {
        /// Next hop.
        address: IpAddr,
        /// Its link-layer address.
        lladdr: Option<MacAddr>,
    },
    /// It waits for address resolution of this next hop.
    NeighbourAsked {
        /// Next hop.
        address: IpAddr,
    },
    /// Queued at the device (net_dev_queue).
    Queued,
    /// Transmitted by the device (net_dev_start_xmit), or seen leaving by capture.
    Transmitted,
    /// Received by the device (netif_receive_skb), or seen arriving by capture.
    Received,
    /// A bridge forwarded it out of the step's device.
    BridgeForwarded {
        /// The bridge.
        bridge: IfIndex,
        /// No entry of the forwarding database named a port: it went to all.
        flooded: bool,
    },
    /// A bridge took it for itself.
    BridgeLocal {
        /// The bridge.
        bridge: IfIndex,
    },
    /// Put into a tunnel.
    Encapsulated {
        /// Outer source.
        src: Option<IpAddr>,
        /// Outer destination.
        dst: IpAddr,
        /// VNI.
        vni: u32,
    },
    /// Taken out of a tunnel; the step's device is the tunnel's.
    Decapsulated,
    /// Forwarded at layer 3, TTL decremented.
    Forwarded,
    /// Delivered to the stack or a socket of this namespace.
    Delivered,
    /// A program or user-space switch had it in hand here, and no model says what it does.
    Opaque(Opaque),
    /// A return value or another sighting without an effect of its own.
    Seen {
        /// The function or tracepoint.
        site: String,
        /// What it said.
        note: String,
    },
    /// The kernel freed it as dropped.
    Dropped {
        /// Reason by name, if the kernel has reasons.
        reason: Option<String>,
        /// Function.
        location: Option<String>,
    },
    /// The kernel freed it as used up.
    Consumed {
        /// Function.
        location: Option<String>,
    },
}

/// Something that judges packets and can't be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opaque {
    /// An XDP program.
    Xdp {
        /// Id.
        id: u32,
        /// Name.
        name: Option<String>,
    },
    /// A tc filter or tcx program, by its position in [`super::snapshot::Netns::filters`].
    Tc {
        /// Position.
        filter: usize,
        /// Ingress rather than egress.
        ingress: bool,
    },
    /// A cgroup program, by its position in [`super::snapshot::Snapshot::cgroup_programs`].
    Cgroup {
        /// Position.
        program: usize,
    },
    /// A queueing discipline that may drop, by its position in [`super::snapshot::Netns::qdiscs`].
    Qdisc {
        /// Position.
        qdisc: usize,
    },
    /// A netfilter rule that the evaluator does not understand.
    Rule {
        /// Where.
        hook: Hook,
        /// Which.
        rules: Vec<RuleRef>,
    },
    /// Open vSwitch or another user-space switch.
    Switch {
        /// Bridge.
        bridge: String,
    },
    /// Hardware or something outside of the snapshot.
    Outside,
}

/// How a packet ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It reached its owner.
    Delivered {
        /// Namespace.
        netns: NetnsId,
        /// The device it came in by.
        device: Option<IfIndex>,
    },
    /// It died here.
    Lost(Loss),
    /// It left what we can see, correctly.
    OutOfSight {
        /// Last device.
        last: Device,
    },
    /// We lost sight of it although it was in our reach.
    Cut {
        /// Last place.
        netns: NetnsId,
        /// Last device.
        device: Option<IfIndex>,
    },
}

/// The end of a lost packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// What decided, in the kernel's terms. None if it was only seen to end.
    pub decision: Option<Decision>,
    /// Other copies of the same packet ended like this; the first is the one that mattered.
    pub certain: bool,
}

/// A place in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Namespace.
    pub netns: NetnsId,
    /// Device: ingress for something refused on arrival, egress for something refused on leaving.
    pub device: Option<IfIndex>,
    /// Kernel function or hook.
    pub function: Option<String>,
}

impl Place {
    /// A place at a device.
    pub fn at(device: Device, function: &str) -> Self {
        Self { netns: device.netns, device: Some(device.ifindex), function: Some(function.to_owned()) }
    }

    /// The device, if the place has one.
    pub fn device(&self) -> Option<Device> {
        Some(Device::new(self.netns, self.device?))
    }
}

/// Why the kernel ends a packet's way: its own decision with what it decided on. Not yet a cause: two decisions can
/// be one cause, and one decision can be several causes depending on the rest of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The device is administratively down.
    DeviceDown,
    /// The device has no carrier; `culprit` is the device whose state is the reason (the peer, the lower device), if known.
    NoCarrier {
        /// The device that is down.
        culprit: Option<Device>,
    },
    /// A frame reached a device that nothing is attached to: no master, no address for it.
    NotAttached {
        /// A bridge that it probably should be a port of.
        bridge: Option<Device>,
    },
    /// The frame's destination MAC is not the receiver's.
    OtherHost {
        /// In the frame.
        frame: MacAddr,
        /// Of the receiver.
        own: Option<MacAddr>,
    },
    /// Too big for a device's MTU.
    TooBig {
        /// Length of the packet.
        len: u32,
        /// MTU that it exceeds.
        mtu: u32,
        /// An ICMP error tells the sender.
        icmp: bool,
    },
    /// A queueing discipline drops it.
    Qdisc {
        /// Position in [`super::snapshot::Netns::qdiscs`].
        qdisc: Option<usize>,
    },
    /// A tc filter drops it.
    Tc {
        /// Position in [`super::snapshot::Netns::filters`].
        filter: Option<usize>,
        /// Ingress rather than egress.
        ingress: bool,
    },
    /// An XDP program drops it.
    Xdp {
        /// Program id.
        id: Option<u32>,
    },
    /// A cgroup program refuses it.
    Cgroup {
        /// Position in [`super::snapshot::Snapshot::cgroup_programs`].
        program: Option<usize>,
    },
    /// A bridge port is not forwarding.
    BridgeState {
        /// The port.
        port: Device,
        /// BR_STATE_*.
        state: u8,
        /// It came in by this port, rather than should have left by it.
        ingress: bool,
    },
    /// Both ports are isolated.
    BridgeIsolated {
        /// Came in by.
        from: Device,
        /// Would leave by.
        to: Device,
    },
    /// VLAN filtering.
    BridgeVlan {
        /// The port that refuses.
        port: Device,
        /// The VLAN; None: untagged and no PVID.
        vid: Option<u16>,
        /// On ingress rather than egress.
        ingress: bool,
    },
    /// Flooding is off on the port that it needed.
    BridgeNoFlood {
        /// The port.
        port: Device,
        /// What kind of frame.
        kind: FloodKind,
    },
    /// The forwarding database names another port, or the bridge itself.
    BridgeFdb {
        /// Where the entry points to.
        to: Device,
        /// The entry says the address is the bridge's own.
        local: bool,
        /// The MAC.
        mac: MacAddr,
        /// The VLAN of the entry.
        vlan: Option<u16>,
        /// Where the owner of the MAC is.
        owner: Option<Device>,
        /// Set by hand rather than learned.
        fixed: bool,
    },
    /// It would leave by the port that it came in by.
    BridgeHairpin {
        /// The port.
        port: Device,
    },
    /// A locked port does not know the source.
    BridgeLocked {
        /// The port.
        port: Device,
        /// The source.
        source: MacAddr,
        /// The VLAN in which it was looked for, if the bridge filters.
        vlan: Option<u16>,
    },
    /// The bridge answers in the owner's stead with an entry that is wrong.
    BridgeSuppressed {
        /// The port whose neigh_suppress is on.
        port: Device,
        /// The bridge's neighbour entry.
        lladdr: MacAddr,
        /// The address.
        address: IpAddr,
    },
    /// macvlan: the frame for a sibling went to the wire and is not reflected.
    MacvlanVepa {
        /// The sender's macvlan.
        child: Device,
        /// Lower device.
        lower: Device,
        /// The bridge port outside that would have to reflect, if it is in sight.
        reflector: Option<Device>,
    },
    /// macvlan private.
    MacvlanPrivate {
        /// The child that may not be reached.
        child: Device,
    },
    /// macvlan or ipvlan: between the lower device itself and a child.
    ParentIsolation {
        /// The lower device.
        lower: Device,
        /// The child.
        child: Device,
    },
    /// ipvlan: the flag or the mode keeps siblings or ARP apart.
    IpvlanIsolation {
        /// The device whose mode or flag it is.
        child: Device,
        /// It is the L3 mode (no ARP) rather than a flag.
        l3: bool,
    },
    /// A tagged frame meets no VLAN device with its tag, or an untagged one should have been tagged.
    VlanUnknown {
        /// Tag in the frame; None is untagged.
        vid: Option<u16>,
        /// What the receiving side knows.
        expected: Vec<u16>,
    },
    /// VXLAN: no remote for this destination.
    VxlanNoRemote {
        /// Inner destination.
        mac: MacAddr,
    },
    /// VXLAN: nobody here has this VNI.
    VxlanVni {
        /// In the packet.
        vni: u32,
        /// VNIs that exist at this port.
        known: Vec<u32>,
    },
    /// VXLAN: no tunnel listens on this UDP port.
    VxlanPort {
        /// In the packet.
        port: u16,
        /// The port the tunnel device here uses.
        expected: Vec<u16>,
    },
    /// Open vSwitch drops it.
    Ovs {
        /// Bridge.
        bridge: String,
        /// The flow or its absence, as ovs-ofctl prints it.
        flow: Option<String>,
        /// It is a VLAN tag of a port that keeps it away: the port.
        vlan_port: Option<String>,
    },
    /// Nobody owns the address that was asked for.
    NoOwner {
        /// The address.
        address: IpAddr,
        /// It is the next hop of a route rather than the destination.
        gateway: bool,
    },
    /// The owner does not answer ARP for this address on this device.
    ArpIgnored {
        /// Which setting: `arp_ignore`, `arp_filter`, or a rule.
        by: ArpRefusal,
    },
    /// ARP is off on the device.
    ArpDisabled {
        /// The device with NOARP.
        device: Device,
    },
    /// The neighbour table is full.
    NeighTableFull,
    /// Two stations own the address.
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// The devices that have it.
        owners: Vec<Device>,
    },
    /// Two stations, or a station and the bridge or tunnel, have one MAC.
    DuplicateMac {
        /// The MAC.
        mac: MacAddr,
        /// The devices that have it.
        owners: Vec<Device>,
    },
    /// The address is on a device that is a port of a bridge.
    AddressOnPort {
        /// The port.
        port: Device,
        /// Its bridge.
        bridge: Device,
    },
    /// IPv6 is disabled.
    Ipv6Disabled {
        /// The sysctl that says so.
        sysctl: String,
    },
    /// The IPv6 address is tentative or failed DAD.
    DadFailed {
        /// The address.
        address: IpAddr,
        /// It failed, rather than being tentative.
        failed: bool,
    },
    /// No route.
    NoRoute {
        /// Destination.
        dst: IpAddr,
        /// A route that exists but can't be used because its device is down, or a prefix that went away with its device.
        dead: Option<Device>,
    },
    /// A route of a type that refuses.
    RouteKind {
        /// Type.
        kind: super::snapshot::RouteKind,
        /// Position in [`super::snapshot::Netns::routes`].
        route: usize,
    },
    /// A policy rule lost it.
    PolicyRule {
        /// Position in [`super::snapshot::Netns::rules`].
        rule: usize,
        /// The route in its table that decided, if it was one.
        route: Option<usize>,
    },
    /// Forwarding is off.
    NotForwarding {
        /// The sysctl that says so.
        sysctl: String,
    },
    /// TTL or hop limit ran out.
    TtlExpired {
        /// Namespaces passed again and again, in order; empty if there is no circle.
        circle: Vec<NetnsId>,
    },
    /// Source validation: the way back does not use the device that it came in by.
    RpFilter {
        /// Source.
        src: IpAddr,
        /// The sysctl that decides (the larger one of `all` and the device).
        sysctl: String,
        /// 1 strict, 2 loose.
        mode: u8,
        /// Where the way back goes; None: no route.
        back: Option<IfIndex>,
    },
    /// Source validation: the source is one of our own addresses.
    LocalSource {
        /// Source.
        src: IpAddr,
    },
    /// A loopback address from the wire.
    MartianLoopback {
        /// The address.
        address: IpAddr,
    },
    /// Another impossible source or destination.
    MartianOther {
        /// The address.
        address: IpAddr,
        /// It is the source rather than the destination.
        source: bool,
    },
    /// The address is configured here, and the local table lacks it.
    LocalRouteMissing {
        /// The address.
        address: IpAddr,
        /// Device that has it.
        device: Device,
    },
    /// The source asked for can't be used.
    SourceUnusable {
        /// The source or device.
        src: String,
        /// Why.
        why: SourceProblem,
    },
    /// A netfilter rule or policy dropped or rejected it.
    Netfilter {
        /// Hook.
        hook: Hook,
        /// The rule or policy.
        rule: RuleRef,
        /// It matched ct state invalid.
        invalid: bool,
        /// Rejected with an answer rather than dropped.
        reject: bool,
        /// The packet was being bridged (br_netfilter).
        bridged: bool,
        /// Other rules might have decided instead: the evaluator was not sure.
        certain: bool,
    },
    /// Connection tracking refuses it: table full, invalid.
    Conntrack {
        /// Why.
        full: bool,
    },
    /// The host ignores ICMP echo.
    EchoIgnored {
        /// The sysctl.
        sysctl: String,
    },
    /// No socket on the port.
    PortClosed {
        /// Port.
        port: u16,
        /// A socket listens, but on this other address only.
        elsewhere: Option<IpAddr>,
    },
    /// The receiving socket's queue is full.
    SocketOverflow,
    /// The waiting socket is bound to another device.
    SocketBound {
        /// The device it is bound to.
        bound: Device,
        /// The device that the packet came in by.
        came: Option<Device>,
    },
    /// The answer does not come from the address and port that were asked: the asker's socket does not take it.
    ForeignReply {
        /// Where it comes from.
        src: IpAddr,
        /// Its port.
        port: u16,
    },
    /// A checksum is wrong.
    Checksum {
        /// `ip` or `icmp`.
        layer: String,
        /// The rule that rewrote bytes without repairing the checksum.
        rule: Option<RuleRef>,
        /// Namespace of that rule.
        netns: Option<NetnsId>,
    },
    /// An IPsec policy.
    Ipsec {
        /// Position in [`super::snapshot::Netns::xfrm_policies`].
        policy: usize,
    },
    /// Nobody answered, and the packet left correctly.
    RemoteSilent,
}

/// What kind of frame needs flooding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodKind {
    /// ff:ff:ff:ff:ff:ff.
    Broadcast,
    /// Multicast.
    Multicast,
    /// A unicast address that no entry names.
    UnknownUnicast,
}

/// What keeps a host from answering ARP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArpRefusal {
    /// arp_ignore: the sysctl and its value.
    Ignore {
        /// Full name.
        sysctl: String,
        /// Value.
        value: i64,
    },
    /// arp_filter: the sysctl; the way back uses another device.
    Filter {
        /// Full name.
        sysctl: String,
        /// That device.
        back: Option<IfIndex>,
    },
    /// A rule of nftables' arp family or arptables.
    Rule(RuleRef),
}

/// Why a source can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceProblem {
    /// No device here has it.
    NotOwn,
    /// A loopback address that may not leave.
    Loopback,
    /// Tentative or failed duplicate address detection.
    Tentative,
    /// Of the wrong scope or device.
    WrongScope,
}

/// A stretch of a journey inside one namespace, from the device it came in by to the device it left by.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop<'a> {
    /// Namespace.
    pub netns: NetnsId,
    /// None where the packet was made.
    pub ingress: Option<IfIndex>,
    /// None where it ended.
    pub egress: Option<IfIndex>,
    /// What happened.
    pub steps: &'a [Step],
}

impl Journey {
    /// The journey cut where it enters another namespace.
    pub fn hops(&self) -> Vec<Hop<'_>> {
        let mut hops = Vec::new();
        let mut start = 0;
        for at in 1..=self.steps.len() {
            let ends = at == self.steps.len()
                || self.steps[at].netns != self.steps[at - 1].netns
                || (matches!(self.steps[at].action, Action::Received)
                    && matches!(last_passage(&self.steps[start..at]), Some(Action::Transmitted)));
            if ends {
                let steps = &self.steps[start..at];
                let ingress =
                    steps.iter().find(|step| matches!(step.action, Action::Received)).and_then(|step| step.device);
                let egress = steps
                    .iter()
                    .rev()
                    .find(|step| matches!(step.action, Action::Transmitted | Action::Queued))
                    .and_then(|step| step.device);
                hops.push(Hop { netns: steps[0].netns, ingress, egress, steps });
                start = at;
            }
        }
        hops
    }

    /// Where it was lost, if it was.
    pub fn loss(&self) -> Option<&Loss> {
        match &self.fate {
            Fate::Lost(loss) => Some(loss),
            _ => None,
        }
    }
}

/// The last of these steps that passes a device.
fn last_passage(steps: &[Step]) -> Option<&Action> {
    steps.iter().rev().map(|step| &step.action).find(|action| matches!(action, Action::Received | Action::Transmitted))
}

#[cfg(test)]
impl Exchange {
    /// A request that was received by these devices, each by its namespace and index, and went out of sight.
    pub fn request_received(passed: &[(u32, u32)]) -> Self {
        let devices = passed.iter().map(|(netns, ifindex)| Device::new(NetnsId(*netns), IfIndex(*ifindex)));
        let step = |device: Device| Step {
            time: None,
            netns: device.netns,
            device: Some(device.ifindex),
            action: Action::Received,
            sources: Vec::new(),
        };
        let last = devices.clone().next_back().unwrap_or(Device::new(NetnsId(0), IfIndex(0)));
        let journey = Journey {
            role: Role::Request,
            leg: Leg::Forward,
            seq: None,
            headers: Headers::default(),
            steps: devices.map(step).collect(),
            copies: Vec::new(),
            fate: Fate::OutOfSight { last },
            beyond: Vec::new(),
        };
        Self { journeys: vec![journey], ..Self::default() }
    }
}

impl Exchange {
    /// Journeys with this role on this leg.
    pub fn with_role(&self, role: Role, leg: Leg) -> impl Iterator<Item = &Journey> {
        self.journeys.iter().filter(move |journey| journey.role == role && journey.leg == leg)
    }

    /// The first loss in causal order.
    pub fn first_loss(&self) -> Option<(&Journey, &Loss)> {
        self.journeys.iter().find_map(|journey| Some((journey, journey.loss()?)))
    }
}
