//! What the machine looked like: the configuration of every network namespace that can be reached from
//! the question, as rtnetlink, /proc/sys and the rule sets tell it. Words and numbers are the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::id::{Device, IfIndex, MacAddr, Nanos, NetnsId};
use super::netfilter::Ruleset;
use super::ovs::OvsBridge;
use super::provenance::Provenance;
use super::sight::Gap;

/// All namespaces reachable from the question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was finished.
    pub taken: Nanos,
    /// By [`NetnsId`]; the namespace where the command was started is always the first.
    pub namespaces: Vec<Netns>,
    /// Open vSwitch bridges of the machine.
    #[serde(default)]
    pub ovs: Vec<OvsBridge>,
    /// cgroup programs that judge the asker's packets.
    #[serde(default)]
    pub cgroup_programs: Vec<CgroupProgram>,
    /// Networks of container engines, where engines were asked.
    #[serde(default)]
    pub engine_networks: Vec<EngineNetwork>,
    /// What the machine's files say about who sets what.
    #[serde(default)]
    pub provenance: Provenance,
    /// Processes whose network namespaces may not be looked at; 0 if those are only a few among many.
    #[serde(default)]
    pub hidden_processes: usize,
    /// What could not be read.
    #[serde(default)]
    pub gaps: Vec<Gap>,
}

/// A part of a namespace's configuration, as far as it is read on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// All of it.
    Everything,
    /// Addresses.
    Addresses,
    /// Routes.
    Routes,
    /// Policy rules.
    Rules,
    /// Neighbours.
    Neighbours,
    /// Forwarding databases.
    Fdb,
    /// VLANs of bridges.
    Vlans,
    /// Queueing disciplines.
    Qdiscs,
    /// tc filters.
    Filters,
    /// Packet-filter rules; also told by [`Ruleset::gaps`].
    Netfilter,
    /// IPsec policies.
    Ipsec,
    /// Sysctls that belong to no device.
    Settings,
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Netns {
    /// Its position in the snapshot.
    pub id: NetnsId,
    /// Inode of the namespace (`stat -L /proc/self/ns/net`), unique while it lives.
    pub inode: u64,
    /// How people call it: name under /run/netns, container name, `.` for the unnamed one where the
    /// command was started, else `pid:N`.
    pub name: String,
    /// A path that leads into it (`/run/netns/ns1`, `/proc/42/ns/net`); None for the command's own.
    pub path: Option<String>,
    /// Whether `path` is an entry of /run/netns, so that `ip netns exec NAME` works.
    pub named: bool,
    /// Container, if it is one.
    #[serde(default)]
    pub container: Option<Container>,
    /// Processes seen in it: a few, for names.
    #[serde(default)]
    pub pids: Vec<u32>,
    /// Parts that are not all there: what they hold was read up to an error, or not at all.
    #[serde(default)]
    pub unread: BTreeSet<Part>,
    /// Devices, by index.
    pub links: Vec<Link>,
    /// Addresses in the order the kernel lists them (primary before secondary).
    pub addresses: Vec<Address>,
    /// Routes of all tables, both families, in the order the kernel lists them.
    pub routes: Vec<Route>,
    /// Policy rules by priority, both families.
    pub rules: Vec<Rule>,
    /// Neighbour entries.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding database entries of bridges and VXLAN devices.
    pub fdb: Vec<FdbEntry>,
    /// VLANs of bridges and their ports.
    pub bridge_vlans: Vec<BridgeVlan>,
    /// Multicast groups joined by devices, as /proc/net/igmp and if_mcast6 list them.
    #[serde(default)]
    pub multicast: Vec<(IfIndex, IpAddr)>,
    /// Queueing disciplines.
    pub qdiscs: Vec<Qdisc>,
    /// tc filters and BPF programs at tc/tcx hooks.
    pub filters: Vec<TcFilter>,
    /// Sysctls under `net.` that decide, by their dotted name with the device's name as it is
    /// (`net.ipv4.conf.eth0.rp_filter`; a dot in a device name is written `/` as sysctl(8) does).
    pub sysctls: BTreeMap<String, String>,
    /// nftables, iptables, ebtables and arptables rules.
    pub netfilter: Ruleset,
    /// IPsec policies.
    #[serde(default)]
    pub xfrm_policies: Vec<XfrmPolicy>,
    /// Number of IPsec states.
    #[serde(default)]
    pub xfrm_states: u32,
    /// Counters of /proc/net/snmp, snmp6 and netstat: `Ip.InDiscards`, `Icmp6.InMsgs`, `TcpExt.…`.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Listening and bound sockets that could answer, from sock_diag or /proc/net/{tcp,udp,raw}.
    #[serde(default)]
    pub sockets: Vec<Socket>,
    /// The IPPROTO_* whose sockets are all in that list: 1 for those that see echoes. None: nobody looked.
    #[serde(default)]
    pub sockets_of: Option<u8>,
    /// Connection-tracking entries that concern the question's addresses.
    #[serde(default)]
    pub conntrack: Vec<ConntrackEntry>,
}

/// A container, named by its engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Container {
    /// `docker`, `podman`, `containerd`.
    pub engine: String,
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Networks it is attached to: name, driver.
    pub networks: Vec<(String, String)>,
    /// Kubernetes pod as `namespace/name`.
    pub pod: Option<String>,
    /// Ports of the host that the engine leads to it.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// The host's address; unspecified is all.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
}

/// A network as a container engine has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EngineNetwork {
    /// `docker`, `podman`.
    pub engine: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `null`, …
    pub driver: String,
    /// The bridge it is made of, for the driver of that name.
    pub bridge: Option<String>,
    /// It was made with `--internal`.
    pub internal: bool,
    /// Options of the driver, as they were given.
    pub options: BTreeMap<String, String>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// IFF_* flags as the kernel gives them (include/uapi/linux/if.h).
    pub flags: u32,
    /// RFC 2863 operational state.
    pub operstate: OperState,
    /// IFLA_CARRIER.
    pub carrier: bool,
    /// Bytes.
    pub mtu: u32,
    /// Link-layer address; None for devices without one (tun) or of another size.
    pub mac: Option<MacAddr>,
    /// IFLA_MASTER: the bridge, bond, VRF or OVS datapath device it is a port of.
    pub master: Option<IfIndex>,
    /// IFLA_LINK: the other end of a veth pair, or the lower device.
    pub link: Option<IfIndex>,
    /// IFLA_LINK_NETNSID resolved: the namespace of `link` if it is another one.
    pub link_netns: Option<NetnsId>,
    /// IFLA_LINK_NETNSID, unresolved; Some with `link_netns` None is a namespace that we did not find.
    pub link_nsid: Option<i32>,
    /// What it is as a port of its master.
    pub bridge_port: Option<BridgePort>,
    /// XDP programs.
    #[serde(default)]
    pub xdp: Vec<XdpProgram>,
    /// Counters of the device.
    #[serde(default)]
    pub stats: LinkStats,
    /// IFLA_GROUP.
    #[serde(default)]
    pub group: u32,
    /// ip link's `alias`.
    #[serde(default)]
    pub alias: Option<String>,
    /// IFLA_MIN_MTU … kind details that no field knows, as text for people.
    #[serde(default)]
    pub detail: Vec<(String, String)>,
}

impl Link {
    /// IFF_UP: administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// The kernel says itself that it has no carrier; a stacked device says so later than its lower device.
    pub fn lacks_carrier(&self) -> bool {
        !self.carrier || matches!(self.operstate, OperState::LowerLayerDown | OperState::NotPresent)
    }

    /// Its other end or lower device is in a network namespace that was not found.
    pub fn has_hidden_end(&self) -> bool {
        self.link_nsid.is_some() && self.link_netns.is_none()
    }

    /// Wraps what it sends into packets of the network below it.
    pub fn is_tunnel(&self) -> bool {
        matches!(
            self.kind,
            LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. } | LinkKind::Wireguard
        )
    }

    /// IFF_NOARP.
    pub fn is_noarp(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// IFF_LOOPBACK.
    pub fn is_loopback(&self) -> bool {
        self.flags & 0x8 != 0
    }

    /// IFF_POINTOPOINT.
    pub fn is_point_to_point(&self) -> bool {
        self.flags & 0x10 != 0
    }

    /// IFF_PROMISC as configured.
    pub fn is_promisc(&self) -> bool {
        self.flags & 0x100 != 0
    }

    /// IFF_MULTICAST.
    pub fn is_multicast(&self) -> bool {
        self.flags & 0x1000 != 0
    }
}

/// RFC 2863 operational state, as `ip link` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperState {
    /// UNKNOWN: the driver does not say (lo, tun, dummy).
    #[default]
    Unknown,
    /// NOTPRESENT.
    NotPresent,
    /// DOWN.
    Down,
    /// LOWERLAYERDOWN.
    LowerLayerDown,
    /// TESTING.
    Testing,
    /// DORMANT.
    Dormant,
    /// UP.
    Up,
}

/// What a device is (IFLA_INFO_KIND), with what decides about packets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// No kind: hardware, or a virtual device of a hypervisor.
    #[default]
    Physical,
    /// lo.
    Loopback,
    /// One end of a pair; the other is `link` in `link_netns`.
    Veth,
    /// netkit: as veth, with programs.
    Netkit {
        /// `l2` or `l3`.
        mode: String,
        /// Policy when no program is attached: true forwards.
        pass: bool,
    },
    /// A bridge.
    Bridge(BridgeInfo),
    /// 802.1Q/802.1ad device on `link`.
    Vlan {
        /// VLAN id.
        id: u16,
        /// Ethertype of the tag: 0x8100 or 0x88a8.
        protocol: u16,
    },
    /// macvlan on `link`.
    Macvlan(MacvlanMode),
    /// macvtap on `link`.
    Macvtap(MacvlanMode),
    /// ipvlan on `link`.
    Ipvlan {
        /// Mode.
        mode: IpvlanMode,
        /// Flag.
        flag: IpvlanFlag,
    },
    /// VXLAN.
    Vxlan(VxlanInfo),
    /// Geneve.
    Geneve {
        /// VNI.
        vni: u32,
        /// Remote.
        remote: Option<IpAddr>,
        /// UDP port.
        port: u16,
    },
    /// Swallows what is sent.
    Dummy,
    /// tun or tap; a process reads and writes it.
    Tun {
        /// tap (Ethernet frames) rather than tun (IP packets).
        tap: bool,
    },
    /// VRF.
    Vrf {
        /// Its table.
        table: u32,
    },
    /// Bonding.
    Bond {
        /// `active-backup`, `802.3ad`, …
        mode: String,
        /// The active slave, where there is one.
        active: Option<IfIndex>,
    },
    /// Team.
    Team,
    /// WireGuard.
    Wireguard,
    /// gre, gretap, ipip, sit, ip6tnl, ip6gre, vti, …: the kind and its ends.
    Tunnel {
        /// IFLA_INFO_KIND.
        kind: String,
        /// Local end.
        local: Option<IpAddr>,
        /// Remote end.
        remote: Option<IpAddr>,
    },
    /// Open vSwitch internal port or datapath device.
    Openvswitch,
    /// Anything else, by its kind.
    Other(String),
}

/// A bridge's own settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel has these flags, and each decides something else")]
pub struct BridgeInfo {
    /// IFLA_BR_STP_STATE: 0 off, 1 kernel, 2 user space.
    pub stp_state: u32,
    /// Whether VLANs are enforced.
    pub vlan_filtering: bool,
    /// The PVID that new ports get.
    pub vlan_default_pvid: u16,
    /// Ethertype of the tags it looks at: 0x8100 or 0x88a8.
    pub vlan_protocol: u16,
    /// IGMP/MLD snooping.
    pub mcast_snooping: bool,
    /// Whether it queries itself.
    pub mcast_querier: bool,
    /// Hundredths of a second.
    pub ageing_time: u32,
    /// Hundredths of a second.
    pub forward_delay: u32,
    /// Link-local groups that are forwarded.
    pub group_fwd_mask: u16,
    /// br_netfilter switches of this bridge (`nf_call_iptables`), besides the global sysctls.
    pub nf_call_iptables: bool,
    /// As above for IPv6.
    pub nf_call_ip6tables: bool,
    /// As above for ARP.
    pub nf_call_arptables: bool,
}

/// A device as a port of a bridge (IFLA_BRPORT_*).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel has these flags, and each decides something else")]
pub struct BridgePort {
    /// BR_STATE_*: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    pub state: u8,
    /// Hairpin mode: a frame may leave by the port it came in by.
    pub hairpin: bool,
    /// Learns source addresses.
    pub learning: bool,
    /// Floods unknown unicast out of this port.
    pub flood: bool,
    /// Floods multicast out of this port.
    pub mcast_flood: bool,
    /// Floods broadcast out of this port.
    pub bcast_flood: bool,
    /// Isolated from other isolated ports.
    pub isolated: bool,
    /// Answers ARP/ND in the owners' stead.
    pub neigh_suppress: bool,
    /// Answers for addresses by proxy ARP.
    pub proxyarp: bool,
    /// proxyarp as in wireless bridges.
    pub proxyarp_wifi: bool,
    /// Refuses frames whose source is not in the FDB of this port.
    pub locked: bool,
    /// Only unicast of the FDB passes here and nothing else floods (IFLA_BRPORT_BACKUP_PORT when down).
    pub backup_port: Option<IfIndex>,
    /// Root guard, BPDU guard.
    pub guard: bool,
    /// Whether VLAN tunnelling maps VLANs to VNIs here.
    pub vlan_tunnel: bool,
    /// Multicast router setting: 0 never, 1 learned, 2 always.
    pub multicast_router: u8,
}

impl Default for BridgePort {
    /// A port as the kernel makes it: forwarding, learning, flooding everything.
    fn default() -> Self {
        Self {
            state: 3,
            hairpin: false,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            isolated: false,
            neigh_suppress: false,
            proxyarp: false,
            proxyarp_wifi: false,
            locked: false,
            backup_port: None,
            guard: false,
            vlan_tunnel: false,
            multicast_router: 1,
        }
    }
}

/// macvlan and macvtap modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// Siblings may not talk, not even by reflection.
    Private,
    /// Siblings talk by reflection at the switch.
    #[default]
    Vepa,
    /// Siblings talk directly.
    Bridge,
    /// The only child takes the lower device over.
    Passthru,
    /// By source address.
    Source,
}

/// ipvlan modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvlanMode {
    /// Layer 2.
    L2,
    /// Layer 3: no ARP, routing in the parent's namespace.
    #[default]
    L3,
    /// Layer 3 with the parent's netfilter.
    L3s,
}

/// ipvlan flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvlanFlag {
    /// Siblings talk directly.
    #[default]
    Bridge,
    /// Siblings may not talk.
    Private,
    /// Siblings talk by reflection.
    Vepa,
}

/// A VXLAN device's settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel has these flags, and each decides something else")]
pub struct VxlanInfo {
    /// VNI.
    pub vni: u32,
    /// Default remote or multicast group.
    pub remote: Option<IpAddr>,
    /// Source of the outer packets.
    pub local: Option<IpAddr>,
    /// Lower device that outer packets are bound to (IFLA_VXLAN_LINK).
    pub link: Option<IfIndex>,
    /// UDP destination port, host byte order.
    pub port: u16,
    /// TTL of outer packets, 0 inherits or is the default.
    pub ttl: u8,
    /// `df`: 0 unset, 1 set, 2 inherit.
    pub df: u8,
    /// Learns remotes from what arrives.
    pub learning: bool,
    /// Takes the tunnel key from the route or the flow (external).
    pub collect_metadata: bool,
    /// Answers ARP/ND from the neighbour table.
    pub proxy: bool,
    /// Reports missing entries to user space.
    pub l2miss: bool,
    /// As above for layer 3.
    pub l3miss: bool,
    /// Group policy extension.
    pub gbp: bool,
}

/// An XDP program on a device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct XdpProgram {
    /// `native`, `generic`, `offload`.
    pub mode: String,
    /// Program id.
    pub id: u32,
    /// Program name, if it could be read.
    pub name: Option<String>,
}

/// Device counters (struct rtnl_link_stats64).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Dropped before sending.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Transmit errors.
    pub tx_errors: u64,
    /// Carrier changes.
    pub carrier_changes: u64,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// Device.
    pub ifindex: IfIndex,
    /// The address (IFA_LOCAL where there is one).
    pub address: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// The other end of a point-to-point address, if it differs (IFA_ADDRESS).
    pub peer: Option<IpAddr>,
    /// RT_SCOPE_*: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
    /// IFA_F_* flags (include/uapi/linux/if_addr.h).
    pub flags: u32,
}

impl Address {
    /// IFA_F_SECONDARY (IPv4; the same bit is IFA_F_TEMPORARY for IPv6).
    pub fn is_secondary(&self) -> bool {
        self.flags & 0x01 != 0
    }

    /// IFA_F_DADFAILED.
    pub fn is_dad_failed(&self) -> bool {
        self.flags & 0x08 != 0
    }

    /// IFA_F_DEPRECATED.
    pub fn is_deprecated(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// IFA_F_TENTATIVE and not IFA_F_OPTIMISTIC: duplicate address detection still runs.
    pub fn is_tentative(&self) -> bool {
        self.flags & 0x40 != 0 && self.flags & 0x04 == 0
    }

    /// The prefix the address is in.
    pub fn net(&self) -> Option<IpNet> {
        IpNet::new(self.address, self.prefix_len).ok().map(|net| net.trunc())
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Table: 255 local, 254 main, 253 default.
    pub table: u32,
    /// RTN_*.
    pub kind: RouteKind,
    /// Destination prefix (0.0.0.0/0 or ::/0 for a default route).
    pub dst: IpNet,
    /// Source prefix (IPv6 subtrees).
    pub src: Option<IpNet>,
    /// Type of service selector.
    pub tos: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// RTPROT_*: 2 kernel, 3 boot, 4 static, …
    pub protocol: u8,
    /// Metric; lower wins.
    pub metric: u32,
    /// Preferred source.
    pub prefsrc: Option<IpAddr>,
    /// Next hops: one for a plain route, none for blackhole and friends.
    pub nexthops: Vec<Nexthop>,
    /// RTAX_MTU.
    pub mtu: Option<u32>,
    /// RTA_NH_ID.
    pub nexthop_id: Option<u32>,
    /// IPv6 router preference or 0.
    pub pref: u8,
    /// Learned by redirect or PMTU (RTM_F_CLONED), not configured.
    pub cached: bool,
}

/// One next hop of a route.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Nexthop {
    /// Output device.
    pub oif: Option<IfIndex>,
    /// Gateway; None is on-link.
    pub gateway: Option<IpAddr>,
    /// Weight, 1 for plain routes.
    pub weight: u32,
    /// RTNH_F_* (include/uapi/linux/rtnetlink.h): 1 dead, 2 pervasive, 4 onlink, 16 linkdown.
    pub flags: u32,
    /// Lightweight tunnel encapsulation, as text for people.
    pub encap: Option<String>,
}

impl Nexthop {
    /// RTNH_F_DEAD.
    pub fn is_dead(&self) -> bool {
        self.flags & 1 != 0
    }

    /// RTNH_F_ONLINK.
    pub fn is_onlink(&self) -> bool {
        self.flags & 4 != 0
    }

    /// RTNH_F_LINKDOWN.
    pub fn is_linkdown(&self) -> bool {
        self.flags & 16 != 0
    }
}

/// RTN_* (include/uapi/linux/rtnetlink.h), as `ip route` spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// A gateway or direct route.
    #[default]
    Unicast,
    /// Delivered here.
    Local,
    /// Delivered here, sent as broadcast.
    Broadcast,
    /// Delivered here as anycast.
    Anycast,
    /// Multicast.
    Multicast,
    /// Dropped silently.
    Blackhole,
    /// Refused with host unreachable.
    Unreachable,
    /// Refused with administratively prohibited.
    Prohibit,
    /// Look on in the next rule.
    Throw,
    /// Anything else.
    Other,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rule {
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// Priority; lower first.
    pub priority: u32,
    /// `not`.
    pub invert: bool,
    /// `from`.
    pub src: Option<IpNet>,
    /// `to`.
    pub dst: Option<IpNet>,
    /// `iif`, by name.
    pub iif: Option<String>,
    /// `oif`, by name.
    pub oif: Option<String>,
    /// `fwmark` value and mask.
    pub fwmark: Option<(u32, u32)>,
    /// `tos` / `dsfield`.
    pub tos: u8,
    /// `ipproto`.
    pub ip_protocol: Option<u8>,
    /// `sport` range.
    pub sport: Option<(u16, u16)>,
    /// `dport` range.
    pub dport: Option<(u16, u16)>,
    /// `uidrange`.
    pub uid_range: Option<(u32, u32)>,
    /// `l3mdev`: the table of the VRF.
    pub l3mdev: bool,
    /// `suppress_prefixlength`.
    pub suppress_prefix_length: Option<u32>,
    /// `suppress_ifgroup`.
    pub suppress_group: Option<u32>,
    /// What it does.
    pub action: RuleAction,
}

/// FR_ACT_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// `lookup TABLE`.
    Table(u32),
    /// `goto PRIORITY`.
    Goto(u32),
    /// Nothing.
    #[default]
    Nop,
    /// Dropped silently.
    Blackhole,
    /// Network unreachable.
    Unreachable,
    /// Administratively prohibited.
    Prohibit,
}

/// A neighbour entry (ARP or ND), or a proxy entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Device.
    pub ifindex: IfIndex,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address, if known.
    pub lladdr: Option<MacAddr>,
    /// NUD_* bits: 1 incomplete, 2 reachable, 4 stale, 8 delay, 16 probe, 32 failed, 64 noarp, 128 permanent.
    pub state: u16,
    /// NTF_* flags: 8 proxy, 128 router, 16 externally learned.
    pub flags: u8,
}

impl Neighbour {
    /// NUD_VALID: a packet can be sent with it at once.
    pub fn is_valid(&self) -> bool {
        self.state & (0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08) != 0 && !self.is_proxy()
    }

    /// NUD_PERMANENT: set by hand, never asked again.
    pub fn is_permanent(&self) -> bool {
        self.state & 0x80 != 0
    }

    /// NUD_NOARP.
    pub fn is_noarp(&self) -> bool {
        self.state & 0x40 != 0
    }

    /// NTF_PROXY: we answer for it.
    pub fn is_proxy(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// A forwarding database entry of a bridge or of a VXLAN device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The port, or the VXLAN device.
    pub ifindex: IfIndex,
    /// MAC; all zero is the default entry of a VXLAN device.
    pub mac: MacAddr,
    /// VLAN, if the bridge filters.
    pub vlan: Option<u16>,
    /// The bridge, for entries of a bridge (`master`).
    pub master: Option<IfIndex>,
    /// NUD_* bits: 0x80 permanent (local), 0x40 static (noarp), 0x02 reachable (learned).
    pub state: u16,
    /// NTF_* flags: 2 self, 4 master, 16 externally learned, 32 offloaded, 64 sticky.
    pub flags: u8,
    /// VXLAN: remote.
    pub dst: Option<IpAddr>,
    /// VXLAN: VNI if not the device's.
    pub vni: Option<u32>,
    /// VXLAN: UDP port if not the device's.
    pub port: Option<u16>,
    /// VXLAN: lower device.
    pub via: Option<IfIndex>,
}

impl FdbEntry {
    /// `permanent`: an address of the bridge itself; frames for it go up, never out of a port.
    pub fn is_local(&self) -> bool {
        self.state & 0x80 != 0
    }

    /// `static`: set by hand.
    pub fn is_static(&self) -> bool {
        self.state & 0x40 != 0
    }
}

/// A VLAN of a bridge port or of the bridge itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeVlan {
    /// The port, or the bridge (`self`).
    pub ifindex: IfIndex,
    /// VLAN id.
    pub vid: u16,
    /// Untagged frames that come in get it.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

/// A queueing discipline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Qdisc {
    /// Device.
    pub ifindex: IfIndex,
    /// Kind: `noqueue`, `fq_codel`, `netem`, `tbf`, `clsact`, …
    pub kind: String,
    /// TCA handle.
    pub handle: u32,
    /// Parent; 0xffffffff is root, 0xfffffff1 ingress/clsact.
    pub parent: u32,
    /// Packets dropped so far.
    pub drops: u64,
    /// Packets sent so far.
    pub packets: u64,
    /// Packets over limit so far.
    pub overlimits: u64,
    /// Settings in tc's words (`loss 100%`), as far as they are read.
    pub options: Vec<(String, String)>,
}

/// A tc filter, or a BPF program at a tc or tcx hook.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TcFilter {
    /// Device.
    pub ifindex: IfIndex,
    /// Which way packets go through it.
    pub ingress: bool,
    /// Kind: `matchall`, `bpf`, `u32`, `flower`, `tcx`, …
    pub kind: String,
    /// `pref`.
    pub priority: u16,
    /// Ethertype it looks at, host byte order; 3 (ETH_P_ALL) is all.
    pub protocol: u16,
    /// Handle.
    pub handle: u32,
    /// Parent qdisc or class.
    pub parent: u32,
    /// BPF program id.
    pub program: Option<u32>,
    /// BPF program name or the filter's object and section.
    pub name: Option<String>,
    /// Actions in tc's words: `drop`, `redirect`, `mirred egress redirect dev x`, `pass`, …
    pub actions: Vec<String>,
    /// Packets counted by its actions, where there are counters.
    pub packets: Option<u64>,
    /// Packets dropped by its actions.
    pub drops: Option<u64>,
}

/// An IPsec policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XfrmPolicy {
    /// `in`, `out`, `fwd`.
    pub dir: String,
    /// Source prefix.
    pub src: IpNet,
    /// Destination prefix.
    pub dst: IpNet,
    /// IP protocol of the selector, 0 is any.
    pub protocol: u8,
    /// Block rather than allow.
    pub block: bool,
    /// Priority.
    pub priority: u32,
    /// Templates: protocols (`esp`, `ah`) that are required; `level use` ones are optional.
    pub templates: Vec<XfrmTemplate>,
    /// Interface index of the selector.
    pub ifindex: Option<IfIndex>,
}

/// One transformation that a policy asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XfrmTemplate {
    /// `esp`, `ah`, `comp`.
    pub protocol: String,
    /// `transport`, `tunnel`, …
    pub mode: String,
    /// May be left out.
    pub optional: bool,
}

/// A cgroup BPF program that judges packets of processes in the asker's cgroup.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CgroupProgram {
    /// The cgroup it is attached to.
    pub cgroup: String,
    /// `inet_ingress`, `inet_egress`, `inet4_connect`, …
    pub attach: String,
    /// Program id.
    pub id: u32,
    /// Program name.
    pub name: Option<String>,
}

/// A socket that could take packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// IPPROTO_*.
    pub protocol: u8,
    /// Local address.
    pub local: IpAddr,
    /// Local port.
    pub port: u16,
    /// Bound device.
    pub device: Option<IfIndex>,
    /// TCP: listening.
    pub listening: bool,
    /// Bytes or connections waiting.
    pub rx_queue: u32,
    /// Limit of the above, if known.
    pub rx_limit: Option<u32>,
    /// Packets dropped at it.
    pub drops: u64,
    /// Owner: process name, if known.
    pub process: Option<String>,
    /// IPv6: takes no IPv4 (IPV6_V6ONLY); None if that is not known.
    #[serde(default)]
    pub v6only: Option<bool>,
}

/// A connection-tracking entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConntrackEntry {
    /// IPPROTO_*.
    pub protocol: u8,
    /// Source of the original direction.
    pub orig_src: IpAddr,
    /// Destination of the original direction.
    pub orig_dst: IpAddr,
    /// Source port or ICMP id.
    pub orig_sport: u16,
    /// Destination port.
    pub orig_dport: u16,
    /// Source of the reply direction.
    pub reply_src: IpAddr,
    /// Destination of the reply direction.
    pub reply_dst: IpAddr,
    /// Source port or ICMP id of the reply direction.
    pub reply_sport: u16,
    /// Destination port of the reply direction.
    pub reply_dport: u16,
    /// `[UNREPLIED]`, `[ASSURED]`, state names.
    pub state: String,
    /// ct mark.
    pub mark: u32,
    /// zone.
    pub zone: u16,
}

impl Snapshot {
    /// The namespace with this id.
    pub fn netns(&self, id: NetnsId) -> Option<&Netns> {
        self.namespaces.get(id.0 as usize)
    }

    /// Whether something was closed to whoever took it: a namespace, or processes that may live in one.
    pub fn is_restricted(&self) -> bool {
        self.hidden_processes > 0 || self.namespaces.iter().any(Netns::is_closed)
    }

    /// The device, if the snapshot knows it.
    pub fn link(&self, device: Device) -> Option<&Link> {
        self.netns(device.netns)?.link(device.ifindex)
    }

    /// The name of a device, or `ifN` if the snapshot does not know it.
    pub fn device_name(&self, device: Device) -> String {
        self.link(device).map_or_else(|| format!("if{}", device.ifindex.0), |link| link.name.clone())
    }

    /// The name of a namespace.
    pub fn netns_name(&self, id: NetnsId) -> &str {
        self.netns(id).map_or("?", |netns| &netns.name)
    }

    /// The namespace with this inode.
    pub fn netns_by_inode(&self, inode: u64) -> Option<&Netns> {
        self.namespaces.iter().find(|netns| netns.inode == inode)
    }

    /// The other end of a veth or netkit pair, if it is in the snapshot.
    pub fn peer(&self, device: Device) -> Option<Device> {
        let link = self.link(device)?;
        if !matches!(link.kind, LinkKind::Veth | LinkKind::Netkit { .. }) {
            return None;
        }
        let peer = self.lower(device)?;
        self.link(peer).map(|_| peer)
    }

    /// What IFLA_LINK points to: the lower device of vlan, macvlan, ipvlan; the peer of a veth.
    pub fn lower(&self, device: Device) -> Option<Device> {
        let link = self.link(device)?;
        let netns = match (link.link_netns, link.link_nsid) {
            (Some(netns), _) => netns,
            (None, None) => device.netns,
            (None, Some(_)) => return None,
        };
        Some(Device::new(netns, link.link?))
    }

    /// All devices whose IFLA_LINK points to `lower` and that are stacked on it (vlan, macvlan, macvtap, ipvlan), in any namespace.
    pub fn uppers(&self, lower: Device) -> Vec<Device> {
        let mut uppers = Vec::new();
        for netns in &self.namespaces {
            for link in &netns.links {
                let device = Device::new(netns.id, link.index);
                let stacked = matches!(
                    link.kind,
                    LinkKind::Vlan { .. } | LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. }
                );
                if stacked && self.lower(device) == Some(lower) {
                    uppers.push(device);
                }
            }
        }
        uppers
    }

    /// All devices in all namespaces.
    pub fn devices(&self) -> impl Iterator<Item = (Device, &Link)> {
        self.namespaces
            .iter()
            .flat_map(|netns| netns.links.iter().map(|link| (Device::new(netns.id, link.index), link)))
    }
}

impl Netns {
    /// Nothing at all was read of it.
    pub fn is_closed(&self) -> bool {
        self.unread.contains(&Part::Everything)
    }

    /// The device with this index.
    pub fn link(&self, ifindex: IfIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == ifindex)
    }

    /// The device with this name.
    pub fn link_by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Ports of the device `master`.
    pub fn ports(&self, master: IfIndex) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.master == Some(master))
    }

    /// A sysctl as a number; None if it is unknown or no number.
    pub fn sysctl(&self, key: &str) -> Option<i64> {
        self.sysctls.get(key)?.split_whitespace().next()?.parse().ok()
    }

    /// `net.FAMILY.conf.DEV.KEY` for a device.
    pub fn conf(&self, family: &str, device: &str, key: &str) -> Option<i64> {
        self.sysctl(&format!("net.{family}.conf.{}.{key}", device.replace('.', "/")))
    }

    /// Addresses of a device.
    pub fn addresses_of(&self, ifindex: IfIndex) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.ifindex == ifindex)
    }

    /// The address entry, if this address is configured on any device here.
    pub fn owns(&self, address: IpAddr) -> Option<&Address> {
        self.addresses.iter().find(|entry| entry.address == address)
    }
}
