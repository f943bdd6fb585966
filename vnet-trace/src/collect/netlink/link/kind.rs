//! What a device is: IFLA_INFO_KIND and the part of IFLA_INFO_DATA that decides about packets.

use std::net::IpAddr;

use crate::collect::netlink::attribute::{Attributes, Malformed};
use crate::model::id::IfIndex;
use crate::model::snapshot::{BridgeInfo, IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode, VxlanInfo};

const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VRF_TABLE: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_NETKIT_POLICY: u16 = 3;
const IFLA_NETKIT_MODE: u16 = 5;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_ACTIVE_SLAVE: u16 = 2;

/// The kind called `name`. `ethernet` tells tap from tun where the kernel is too old to say.
pub fn parse(name: &str, data: Option<Attributes<'_>>, ethernet: bool) -> Result<LinkKind, Malformed> {
    let Some(data) = data else { return Ok(without_data(name, ethernet)) };
    let u32_of = |kind| data.find(kind).map(|attribute| attribute.u32()).transpose();
    let u16_of = |kind| data.find(kind).map(|attribute| attribute.u16()).transpose();
    Ok(match name {
        "bridge" => LinkKind::Bridge(bridge(data)?),
        "vlan" => LinkKind::Vlan {
            id: u16_of(IFLA_VLAN_ID)?.unwrap_or(0),
            protocol: data.find(IFLA_VLAN_PROTOCOL).map_or(Ok(0x8100), |protocol| protocol.be16())?,
        },
        "macvlan" => LinkKind::Macvlan(macvlan(u32_of(IFLA_MACVLAN_MODE)?)),
        "macvtap" => LinkKind::Macvtap(macvlan(u32_of(IFLA_MACVLAN_MODE)?)),
        "ipvlan" | "ipvtap" => LinkKind::Ipvlan {
            mode: match u16_of(IFLA_IPVLAN_MODE)? {
                Some(0) => IpvlanMode::L2,
                Some(2) => IpvlanMode::L3s,
                _ => IpvlanMode::L3,
            },
            flag: match u16_of(IFLA_IPVLAN_FLAGS)?.unwrap_or(0) {
                flags if flags & 1 != 0 => IpvlanFlag::Private,
                flags if flags & 2 != 0 => IpvlanFlag::Vepa,
                _ => IpvlanFlag::Bridge,
            },
        },
        "vxlan" => LinkKind::Vxlan(vxlan(data)?),
        "geneve" => LinkKind::Geneve {
            vni: u32_of(1)?.unwrap_or(0),
            remote: ip_of(data, &[2, 7])?,
            port: data.find(5).map_or(Ok(0), |port| port.be16())?,
        },
        "vrf" => LinkKind::Vrf { table: u32_of(IFLA_VRF_TABLE)?.unwrap_or(0) },
        "tun" => match data.find(IFLA_TUN_TYPE).map(|kind| kind.u8()).transpose()? {
            Some(kind) => LinkKind::Tun { tap: kind == 2 },
            None => LinkKind::Tun { tap: ethernet },
        },
        "netkit" => LinkKind::Netkit {
            mode: if u32_of(IFLA_NETKIT_MODE)? == Some(0) { "l2" } else { "l3" }.into(),
            pass: u32_of(IFLA_NETKIT_POLICY)?.is_none_or(|policy| policy == 0),
        },
        "bond" => LinkKind::Bond {
            mode: bond_mode(data.find(IFLA_BOND_MODE).map_or(Ok(0), |mode| mode.u8())?).into(),
            active: u32_of(IFLA_BOND_ACTIVE_SLAVE)?.filter(|index| *index != 0).map(IfIndex),
        },
        "ipip" | "sit" | "ip6tnl" => tunnel(name, ip_of(data, &[2])?, ip_of(data, &[3])?),
        "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" => {
            tunnel(name, ip_of(data, &[6])?, ip_of(data, &[7])?)
        }
        "vti" | "vti6" => tunnel(name, ip_of(data, &[4])?, ip_of(data, &[5])?),
        _ => without_data(name, ethernet),
    })
}

fn without_data(name: &str, ethernet: bool) -> LinkKind {
    match name {
        "veth" => LinkKind::Veth,
        "dummy" => LinkKind::Dummy,
        "tun" => LinkKind::Tun { tap: ethernet },
        "team" => LinkKind::Team,
        "wireguard" => LinkKind::Wireguard,
        "openvswitch" => LinkKind::Openvswitch,
        "bridge" => LinkKind::Bridge(BridgeInfo::default()),
        "vxlan" => LinkKind::Vxlan(VxlanInfo::default()),
        other => LinkKind::Other(other.into()),
    }
}

/// The first of these attributes that is an address and not the unspecified one.
fn ip_of(data: Attributes<'_>, kinds: &[u16]) -> Result<Option<IpAddr>, Malformed> {
    for kind in kinds {
        if let Some(attribute) = data.find(*kind) {
            let address = attribute.ip()?;
            if !address.is_unspecified() {
                return Ok(Some(address));
            }
        }
    }
    Ok(None)
}

fn tunnel(kind: &str, local: Option<IpAddr>, remote: Option<IpAddr>) -> LinkKind {
    LinkKind::Tunnel { kind: kind.into(), local, remote }
}

/// MACVLAN_MODE_*.
fn macvlan(mode: Option<u32>) -> MacvlanMode {
    match mode {
        Some(1) => MacvlanMode::Private,
        Some(4) => MacvlanMode::Bridge,
        Some(8) => MacvlanMode::Passthru,
        Some(16) => MacvlanMode::Source,
        _ => MacvlanMode::Vepa,
    }
}

/// BOND_MODE_*, as `ip link` spells them.
fn bond_mode(mode: u8) -> &'static str {
    const MODES: [&str; 7] =
        ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
    MODES.get(usize::from(mode)).copied().unwrap_or("unknown")
}

/// IFLA_BR_*.
fn bridge(data: Attributes<'_>) -> Result<BridgeInfo, Malformed> {
    let mut bridge = BridgeInfo::default();
    for attribute in data.iter() {
        match attribute.kind {
            1 => bridge.forward_delay = attribute.u32()?,
            4 => bridge.ageing_time = attribute.u32()?,
            5 => bridge.stp_state = attribute.u32()?,
            7 => bridge.vlan_filtering = attribute.bool()?,
            8 => bridge.vlan_protocol = attribute.be16()?,
            9 => bridge.group_fwd_mask = attribute.u16()?,
            23 => bridge.mcast_snooping = attribute.bool()?,
            25 => bridge.mcast_querier = attribute.bool()?,
            36 => bridge.nf_call_iptables = attribute.bool()?,
            37 => bridge.nf_call_ip6tables = attribute.bool()?,
            38 => bridge.nf_call_arptables = attribute.bool()?,
            39 => bridge.vlan_default_pvid = attribute.u16()?,
            _ => {}
        }
    }
    Ok(bridge)
}

/// IFLA_VXLAN_*.
fn vxlan(data: Attributes<'_>) -> Result<VxlanInfo, Malformed> {
    let mut vxlan = VxlanInfo { remote: ip_of(data, &[2, 16])?, local: ip_of(data, &[4, 17])?, ..VxlanInfo::default() };
    for attribute in data.iter() {
        match attribute.kind {
            1 => vxlan.vni = attribute.u32()?,
            3 => vxlan.link = Some(IfIndex(attribute.u32()?)).filter(|index| index.0 != 0),
            5 => vxlan.ttl = attribute.u8()?,
            7 => vxlan.learning = attribute.bool()?,
            11 => vxlan.proxy = attribute.bool()?,
            13 => vxlan.l2miss = attribute.bool()?,
            14 => vxlan.l3miss = attribute.bool()?,
            15 => vxlan.port = attribute.be16()?,
            23 => vxlan.gbp = true,
            25 => vxlan.collect_metadata = attribute.bool()?,
            29 => vxlan.df = attribute.u32().map(|df| df as u8).or_else(|_| attribute.u8())?,
            _ => {}
        }
    }
    Ok(vxlan)
}
