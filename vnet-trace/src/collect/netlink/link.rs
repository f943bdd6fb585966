//! Devices (RTM_GETLINK): flags, kind, master, peer or lower device, port settings, XDP, counters, and the values of
//! `net.ipv4.conf.DEV` and `net.ipv6.conf.DEV`, which the kernel sends along as two arrays.

use super::attribute::{Attribute, Attributes, Malformed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::{BridgePort, Link, LinkKind, LinkStats, OperState, XdpProgram};

pub mod kind;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PROTO_DOWN: u16 = 39;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;

const ARPHRD_ETHER: u16 = 1;
const IFF_LOOPBACK: u32 = 0x8;

/// A device and its share of /proc/sys/net.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkRead {
    /// The device; `link_netns` is still unresolved.
    pub link: Link,
    /// `net.ipv4.conf.DEV`: IPV4_DEVCONF_* minus one is the index. Empty if IPv4 is off for the device.
    pub conf4: Vec<i32>,
    /// `net.ipv6.conf.DEV`: DEVCONF_* is the index. Empty if IPv6 is off altogether.
    pub conf6: Vec<i32>,
}

/// All devices of the channel's namespace, by index.
pub fn read(channel: &mut Channel) -> Result<Dump<LinkRead>, NetlinkError> {
    let mut dump = channel.dump(&Request::new(RTM_GETLINK, &[0; 16]), parse)?;
    dump.items.sort_by_key(|read| read.link.index);
    Ok(dump)
}

/// One RTM_NEWLINK message.
pub fn parse(message: Message<'_>) -> Result<Option<LinkRead>, Malformed> {
    if message.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attributes) = parts::<16>("struct ifinfomsg", message)?;
    let hardware = u16_at(header, 2);
    let mut read = LinkRead {
        link: Link { index: IfIndex(u32_at(header, 4)), flags: u32_at(header, 8), ..Link::default() },
        conf4: Vec::new(),
        conf6: Vec::new(),
    };
    let mut info = None;
    for attribute in attributes.iter() {
        let link = &mut read.link;
        match attribute.kind {
            IFLA_ADDRESS => link.mac = attribute.mac(),
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_LINK => link.link = device(attribute.u32()?),
            IFLA_MASTER => link.master = device(attribute.u32()?),
            IFLA_OPERSTATE => link.operstate = operstate(attribute.u8()?),
            IFLA_LINKINFO => info = Some(attribute.nested("IFLA_LINKINFO")?),
            IFLA_IFALIAS => link.alias = Some(attribute.text()),
            IFLA_STATS64 => stats(&mut link.stats, attribute.value),
            IFLA_AF_SPEC => conf(&mut read, attribute)?,
            IFLA_GROUP => link.group = attribute.u32()?,
            IFLA_CARRIER => link.carrier = attribute.bool()?,
            IFLA_CARRIER_CHANGES => link.stats.carrier_changes = u64::from(attribute.u32()?),
            IFLA_LINK_NETNSID => link.link_nsid = Some(attribute.i32()?),
            IFLA_XDP => link.xdp = xdp(attribute)?,
            IFLA_PROTO_DOWN if attribute.bool()? => link.detail.push(("protodown".into(), "on".into())),
            IFLA_TXQLEN => link.detail.push(("qlen".into(), attribute.u32()?.to_string())),
            IFLA_PROP_LIST => {
                for name in attribute.nested("IFLA_PROP_LIST")?.iter().filter(|name| name.kind == IFLA_ALT_IFNAME) {
                    link.detail.push(("altname".into(), name.text()));
                }
            }
            _ => {}
        }
    }
    // A device that points to itself says that there is nothing below it, unless what it points to is in another namespace,
    // where the same index is another device.
    if read.link.link == Some(read.link.index) && read.link.link_nsid.is_none() {
        read.link.link = None;
    }
    read.link.kind = match info {
        Some(info) => link_info(&mut read.link, info, hardware == ARPHRD_ETHER)?,
        None => LinkKind::Physical,
    };
    if read.link.kind == LinkKind::Physical && read.link.flags & IFF_LOOPBACK != 0 {
        read.link.kind = LinkKind::Loopback;
    }
    Ok(Some(read))
}

fn device(index: u32) -> Option<IfIndex> {
    (index != 0).then_some(IfIndex(index))
}

fn link_info(link: &mut Link, info: Attributes<'_>, ethernet: bool) -> Result<LinkKind, Malformed> {
    let slave = info.find(IFLA_INFO_SLAVE_KIND).map(|kind| kind.text());
    if slave.as_deref() == Some("bridge") {
        let data = info.find(IFLA_INFO_SLAVE_DATA).map(|data| data.nested("IFLA_BRPORT")).transpose()?;
        link.bridge_port = data.map(bridge_port).transpose()?;
    }
    let Some(name) = info.find(IFLA_INFO_KIND) else { return Ok(LinkKind::Physical) };
    let data = info.find(IFLA_INFO_DATA).map(|data| data.nested("IFLA_INFO_DATA")).transpose()?;
    kind::parse(&name.text(), data, ethernet)
}

/// IFLA_BRPORT_*.
fn bridge_port(data: Attributes<'_>) -> Result<BridgePort, Malformed> {
    let mut port = BridgePort::default();
    for attribute in data.iter() {
        match attribute.kind {
            1 => port.state = attribute.u8()?,
            4 => port.hairpin = attribute.bool()?,
            5 | 6 => port.guard |= attribute.bool()?,
            8 => port.learning = attribute.bool()?,
            9 => port.flood = attribute.bool()?,
            10 => port.proxyarp = attribute.bool()?,
            12 => port.proxyarp_wifi = attribute.bool()?,
            25 => port.multicast_router = attribute.u8()?,
            27 => port.mcast_flood = attribute.bool()?,
            29 => port.vlan_tunnel = attribute.bool()?,
            30 => port.bcast_flood = attribute.bool()?,
            32 => port.neigh_suppress = attribute.bool()?,
            33 => port.isolated = attribute.bool()?,
            34 => port.backup_port = device(attribute.u32()?),
            39 => port.locked = attribute.bool()?,
            _ => {}
        }
    }
    Ok(port)
}

/// RFC 2863's numbers, as include/uapi/linux/if.h has them.
fn operstate(state: u8) -> OperState {
    match state {
        1 => OperState::NotPresent,
        2 => OperState::Down,
        3 => OperState::LowerLayerDown,
        4 => OperState::Testing,
        5 => OperState::Dormant,
        6 => OperState::Up,
        _ => OperState::Unknown,
    }
}

/// struct rtnl_link_stats64: packets, bytes, errors, dropped, each received and sent.
fn stats(stats: &mut LinkStats, bytes: &[u8]) {
    let at = |index: usize| {
        bytes.get(index * 8..).and_then(<[u8]>::first_chunk).map_or(0, |value| u64::from_ne_bytes(*value))
    };
    stats.rx_packets = at(0);
    stats.tx_packets = at(1);
    stats.rx_errors = at(4);
    stats.tx_errors = at(5);
    stats.rx_dropped = at(6);
    stats.tx_dropped = at(7);
}

/// IFLA_AF_SPEC: one nest per address family, each with its array of values.
fn conf(read: &mut LinkRead, spec: Attribute<'_>) -> Result<(), Malformed> {
    let values = |array: Attribute<'_>| {
        array.value.chunks_exact(4).filter_map(|value| value.try_into().ok()).map(i32::from_ne_bytes).collect()
    };
    for family in spec.nested("IFLA_AF_SPEC")?.iter() {
        match i32::from(family.kind) {
            nix::libc::AF_INET => {
                read.conf4 = family.nested("AF_INET")?.find(IFLA_INET_CONF).map(values).unwrap_or_default();
            }
            nix::libc::AF_INET6 => {
                read.conf6 = family.nested("AF_INET6")?.find(IFLA_INET6_CONF).map(values).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(())
}

/// IFLA_XDP: how many programs, and the id of each by mode.
fn xdp(attribute: Attribute<'_>) -> Result<Vec<XdpProgram>, Malformed> {
    const ATTACHED: u16 = 2;
    const PROGRAM: u16 = 4;
    const BY_MODE: [(u16, u8, &str); 3] = [(5, 1, "native"), (6, 2, "generic"), (7, 3, "offload")];

    let nested = attribute.nested("IFLA_XDP")?;
    let mut programs = Vec::new();
    for (kind, _, mode) in BY_MODE {
        if let Some(id) = nested.find(kind) {
            programs.push(XdpProgram { mode: mode.into(), id: id.u32()?, name: None });
        }
    }
    // Before 4.20 there was only one id, and its mode apart.
    if let (true, Some(attached), Some(id)) = (programs.is_empty(), nested.find(ATTACHED), nested.find(PROGRAM)) {
        let attached = attached.u8()?;
        let mode = BY_MODE.iter().find(|(_, mode, _)| *mode == attached).map_or("", |(_, _, name)| *name);
        programs.push(XdpProgram { mode: mode.into(), id: id.u32()?, name: None });
    }
    Ok(programs)
}
