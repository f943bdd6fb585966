//! Connection-tracking entries that concern the question (ctnetlink). The kernel walks its whole table for that, so it
//! is asked only where the namespace has entries, and no more are kept than a person would read.

use std::net::IpAddr;

use super::attribute::{Attributes, Malformed};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::snapshot::ConntrackEntry;

/// NETLINK_NETFILTER.
pub const PROTOCOL: isize = 12;
/// More entries than this in a namespace are not looked through.
pub const LARGEST: u64 = 200_000;
/// Entries kept.
const KEPT: usize = 256;

/// NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_MARK: u16 = 8;
const CTA_ZONE: u16 = 18;

/// IPS_* and their words in conntrack(8).
const STATUS: [(u32, bool, &str); 5] = [
    (1 << 1, false, "[UNREPLIED]"),
    (1 << 2, true, "[ASSURED]"),
    (1 << 4, true, "SRC_NAT"),
    (1 << 5, true, "DST_NAT"),
    (1 << 9, true, "DYING"),
];
/// TCP_CONNTRACK_*.
const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// The entries of the channel's namespace with one of these addresses at either end, in either direction.
pub fn read(channel: &mut Channel, addresses: &[IpAddr]) -> Result<Dump<ConntrackEntry>, NetlinkError> {
    let mut kept = 0;
    channel.dump(&Request::new(CT_GET, &[0; 4]), |message| {
        let entry = parse(message)?.filter(|entry| {
            let ends = [entry.orig_src, entry.orig_dst, entry.reply_src, entry.reply_dst];
            kept < KEPT && ends.iter().any(|end| addresses.contains(end))
        });
        kept += usize::from(entry.is_some());
        Ok(entry)
    })
}

/// One ctnetlink message.
pub fn parse(message: Message<'_>) -> Result<Option<ConntrackEntry>, Malformed> {
    if message.kind != CT_NEW {
        return Ok(None);
    }
    let (_, attributes) = parts::<4>("struct nfgenmsg", message)?;
    let tuple = |kind| attributes.find(kind).map(|tuple| tuple.nested("CTA_TUPLE").and_then(Tuple::read)).transpose();
    let (Some(orig), Some(reply)) = (tuple(CTA_TUPLE_ORIG)?.flatten(), tuple(CTA_TUPLE_REPLY)?.flatten()) else {
        return Ok(None);
    };
    let status = attributes.find(CTA_STATUS).map_or(Ok(0), |status| status.be32())?;
    let mut words: Vec<&str> = Vec::new();
    // CTA_PROTOINFO holds CTA_PROTOINFO_TCP, which holds CTA_PROTOINFO_TCP_STATE.
    if let (Some(info), 6) = (attributes.find(CTA_PROTOINFO), orig.protocol)
        && let Some(tcp) = info.nested("CTA_PROTOINFO")?.find(1)
    {
        let state = tcp.nested("CTA_PROTOINFO_TCP")?.find(1).map_or(Ok(0), |state| state.u8())?;
        words.extend(TCP_STATES.get(usize::from(state)));
    }
    words.extend(STATUS.iter().filter(|(bit, set, _)| (status & bit != 0) == *set).map(|(_, _, word)| *word));
    Ok(Some(ConntrackEntry {
        protocol: orig.protocol,
        orig_src: orig.src,
        orig_dst: orig.dst,
        orig_sport: orig.sport,
        orig_dport: orig.dport,
        reply_src: reply.src,
        reply_dst: reply.dst,
        reply_sport: reply.sport,
        reply_dport: reply.dport,
        state: words.join(" "),
        mark: attributes.find(CTA_MARK).map_or(Ok(0), |mark| mark.be32())?,
        zone: attributes.find(CTA_ZONE).map_or(Ok(0), |zone| zone.be16())?,
    }))
}

struct Tuple {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: u16,
    dport: u16,
}

impl Tuple {
    fn read(tuple: Attributes<'_>) -> Result<Option<Self>, Malformed> {
        const CTA_TUPLE_IP: u16 = 1;
        const CTA_TUPLE_PROTO: u16 = 2;

        let (Some(ip), Some(proto)) = (tuple.find(CTA_TUPLE_IP), tuple.find(CTA_TUPLE_PROTO)) else { return Ok(None) };
        let (ip, proto) = (ip.nested("CTA_TUPLE_IP")?, proto.nested("CTA_TUPLE_PROTO")?);
        // Numbers 1 and 2 are the IPv4 ends, 3 and 4 the IPv6 ones.
        let (Some(src), Some(dst)) = (ip.find(1).or(ip.find(3)), ip.find(2).or(ip.find(4))) else { return Ok(None) };
        // Ports, or the id of an echo in either family.
        let port = |kinds: [u16; 3]| kinds.iter().find_map(|kind| proto.find(*kind)).map_or(Ok(0), |port| port.be16());
        Ok(Some(Self {
            src: src.ip()?,
            dst: dst.ip()?,
            protocol: proto.find(1).map_or(Ok(0), |number| number.u8())?,
            sport: port([2, 4, 7])?,
            dport: port([3, 4, 7])?,
        }))
    }
}
