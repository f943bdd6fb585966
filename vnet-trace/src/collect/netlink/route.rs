//! Routes of all tables and both families (RTM_GETROUTE), in the order in which the kernel lists them, which is the
//! order in which it compares routes of equal prefix. Next hop objects (RTM_GETNEXTHOP) are put in where a route only
//! refers to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attribute::{Attribute, Attributes, Malformed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::{Nexthop, Route, RouteKind};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;

/// RTA_DST.
pub const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;

const RTM_F_CLONED: u32 = 0x200;
/// The low bits of rtm_flags are the only next hop's RTNH_F_*.
const RTNH_FLAGS: u32 = 0xff;

/// All routes of the channel's namespace, IPv4 first.
pub fn read(channel: &mut Channel) -> Result<Dump<Route>, NetlinkError> {
    let mut all = Dump::default();
    for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
        let mut header = [0; 12];
        header[0] = family as u8;
        let dump = match channel.dump(&Request::new(RTM_GETROUTE, &header), parse) {
            Err(error) if error.is_unsupported() => continue,
            other => other?,
        };
        all.items.extend(dump.items);
        all.unread = all.unread.or(dump.unread);
        all.interrupted |= dump.interrupted;
    }
    if all.items.iter().any(|route| route.nexthop_id.is_some() && route.nexthops.is_empty()) {
        let objects = objects(channel)?;
        for route in all.items.iter_mut().filter(|route| route.nexthops.is_empty()) {
            if let Some(id) = route.nexthop_id {
                resolve(route, id, &objects);
            }
        }
    }
    Ok(all)
}

/// One RTM_NEWROUTE message of IPv4 or IPv6.
pub fn parse(message: Message<'_>) -> Result<Option<Route>, Malformed> {
    if message.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let (header, attributes) = parts::<12>("struct rtmsg", message)?;
    let [family, dst_len, src_len, tos, table, protocol, scope, kind, ..] = *header;
    let flags = u32_at(header, 8);
    let any = match i32::from(family) {
        nix::libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        nix::libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let prefix = |address: Option<Attribute<'_>>, length: u8| -> Result<IpNet, Malformed> {
        let address = address.map_or(Ok(any), |address| address.ip())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length).map_err(|_| Malformed {
            layer: "prefix length of struct rtmsg",
            offset: 1,
            needed: usize::from(length),
            had: longest,
        })
    };
    let mut route = Route {
        table: u32::from(table),
        kind: route_kind(kind),
        dst: prefix(attributes.find(RTA_DST), dst_len)?,
        src: None,
        tos,
        scope,
        protocol,
        metric: 0,
        prefsrc: None,
        nexthops: Vec::new(),
        mtu: None,
        nexthop_id: None,
        pref: 0,
        cached: flags & RTM_F_CLONED != 0,
    };
    if let Some(source) = attributes.find(RTA_SRC) {
        route.src = Some(prefix(Some(source), src_len)?);
    }
    for attribute in attributes.iter() {
        match attribute.kind {
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_PRIORITY => route.metric = attribute.u32()?,
            RTA_PREFSRC => route.prefsrc = Some(attribute.ip()?),
            RTA_METRICS => {
                route.mtu = attribute.nested("RTA_METRICS")?.find(RTAX_MTU).map(|mtu| mtu.u32()).transpose()?;
            }
            RTA_MULTIPATH => route.nexthops = multipath(attribute.value)?,
            RTA_PREF => route.pref = attribute.u8()?,
            RTA_NH_ID => route.nexthop_id = Some(attribute.u32()?),
            _ => {}
        }
    }
    if route.nexthops.is_empty() {
        let hop = Nexthop { weight: 1, flags: flags & RTNH_FLAGS, ..nexthop(attributes)? };
        route.nexthops.extend((hop.oif.is_some() || hop.gateway.is_some()).then_some(hop));
    }
    // IPv6 lists these with `dev lo`, which says nothing.
    if matches!(route.kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw) {
        route.nexthops.clear();
    }
    Ok(Some(route))
}

/// RTN_*.
fn route_kind(kind: u8) -> RouteKind {
    match kind {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        3 => RouteKind::Broadcast,
        4 => RouteKind::Anycast,
        5 => RouteKind::Multicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        9 => RouteKind::Throw,
        _ => RouteKind::Other,
    }
}

/// Device, gateway and encapsulation, which a route and each part of RTA_MULTIPATH spell alike.
fn nexthop(attributes: Attributes<'_>) -> Result<Nexthop, Malformed> {
    let mut hop = Nexthop::default();
    for attribute in attributes.iter() {
        match attribute.kind {
            RTA_OIF => hop.oif = Some(IfIndex(attribute.u32()?)),
            RTA_GATEWAY => hop.gateway = Some(attribute.ip()?),
            // struct rtvia: the family in two bytes, then the address.
            RTA_VIA => hop.gateway = attribute.value.get(2..).and_then(super::attribute::ip),
            RTA_ENCAP_TYPE => hop.encap = encap(attribute.u16()?),
            _ => {}
        }
    }
    Ok(hop)
}

/// LWTUNNEL_ENCAP_*, as `ip route` spells them.
fn encap(kind: u16) -> Option<String> {
    const KINDS: [&str; 11] = ["none", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm"];
    (kind != 0).then(|| KINDS.get(usize::from(kind)).map_or_else(|| format!("encap {kind}"), |kind| (*kind).into()))
}

/// RTA_MULTIPATH: a list of struct rtnexthop, each with its attributes.
fn multipath(mut bytes: &[u8]) -> Result<Vec<Nexthop>, Malformed> {
    const LAYER: &str = "struct rtnexthop";
    let mut hops = Vec::new();
    while bytes.len() >= 8 {
        let (header, _) = super::attribute::fixed::<8>(LAYER, bytes)?;
        let length = usize::from(u16_at(header, 0));
        let own = bytes.get(8..length).ok_or(Malformed {
            layer: LAYER,
            offset: 0,
            needed: length.max(8),
            had: bytes.len(),
        })?;
        hops.push(Nexthop {
            oif: Some(IfIndex(u32_at(header, 4))).filter(|oif| oif.0 != 0),
            weight: u32::from(header[3]) + 1,
            flags: u32::from(header[2]),
            ..nexthop(Attributes::read(LAYER, own)?)?
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

/// A next hop object.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A device and perhaps a gateway.
    One(Nexthop),
    /// Loses packets.
    Blackhole,
    /// Ids and weights.
    Group(Vec<(u32, u32)>),
}

fn objects(channel: &mut Channel) -> Result<BTreeMap<u32, Object>, NetlinkError> {
    Ok(channel.dump(&Request::new(RTM_GETNEXTHOP, &[0; 8]), object)?.items.into_iter().collect())
}

/// One RTM_NEWNEXTHOP message.
pub fn object(message: Message<'_>) -> Result<Option<(u32, Object)>, Malformed> {
    if message.kind != RTM_NEWNEXTHOP {
        return Ok(None);
    }
    let (header, attributes) = parts::<8>("struct nhmsg", message)?;
    let Some(id) = attributes.find(NHA_ID) else { return Ok(None) };
    let mut hop = Nexthop { weight: 1, flags: u32_at(header, 4) & RTNH_FLAGS, ..Nexthop::default() };
    for attribute in attributes.iter() {
        match attribute.kind {
            NHA_BLACKHOLE => return Ok(Some((id.u32()?, Object::Blackhole))),
            NHA_GROUP => {
                // struct nexthop_grp: id, weight minus one, high byte of the weight, reserved.
                let members = attribute.value.chunks_exact(8).filter_map(<[u8]>::first_chunk::<8>);
                let members = members.map(|member| (u32_at(member, 0), u32::from(member[4]) + 1)).collect();
                return Ok(Some((id.u32()?, Object::Group(members))));
            }
            NHA_OIF => hop.oif = Some(IfIndex(attribute.u32()?)),
            NHA_GATEWAY => hop.gateway = Some(attribute.ip()?),
            NHA_ENCAP_TYPE => hop.encap = encap(attribute.u16()?),
            _ => {}
        }
    }
    Ok(Some((id.u32()?, Object::One(hop))))
}

fn resolve(route: &mut Route, id: u32, objects: &BTreeMap<u32, Object>) {
    match objects.get(&id) {
        Some(Object::One(hop)) => route.nexthops.push(hop.clone()),
        Some(Object::Blackhole) => route.kind = RouteKind::Blackhole,
        Some(Object::Group(members)) => {
            for (member, weight) in members {
                if let Some(Object::One(hop)) = objects.get(member) {
                    route.nexthops.push(Nexthop { weight: *weight, ..hop.clone() });
                }
            }
        }
        None => {}
    }
}
