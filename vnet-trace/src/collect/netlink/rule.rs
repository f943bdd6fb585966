//! Policy rules of both families (RTM_GETRULE).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attribute::{Attribute, Malformed, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::snapshot::{Rule, RuleAction};

const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;

const FIB_RULE_INVERT: u32 = 2;

/// All rules of the channel's namespace: IPv4 by priority, then IPv6 by priority.
pub fn read(channel: &mut Channel) -> Result<Dump<Rule>, NetlinkError> {
    let mut dump = channel.dump(&Request::new(RTM_GETRULE, &[0; 12]), parse)?;
    dump.items.sort_by_key(|rule| (rule.ipv6, rule.priority));
    Ok(dump)
}

/// One RTM_NEWRULE message of IPv4 or IPv6.
pub fn parse(message: Message<'_>) -> Result<Option<Rule>, Malformed> {
    if message.kind != RTM_NEWRULE {
        return Ok(None);
    }
    let (header, attributes) = parts::<12>("struct fib_rule_hdr", message)?;
    let [family, dst_len, src_len, tos, table, _, _, action, ..] = *header;
    let flags = u32_at(header, 8);
    let ipv6 = match i32::from(family) {
        nix::libc::AF_INET => false,
        nix::libc::AF_INET6 => true,
        _ => return Ok(None),
    };
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    // A prefix of length 0 is sent as a length without an address: `from all`.
    let prefix = |length: u8, address: Option<Attribute<'_>>| -> Result<Option<IpNet>, Malformed> {
        let Some(address) = address else {
            return Ok((length > 0).then(|| IpNet::new(any, length).ok()).flatten());
        };
        Ok(IpNet::new(address.ip()?, length).ok())
    };
    let mut rule = Rule {
        ipv6,
        invert: flags & FIB_RULE_INVERT != 0,
        src: prefix(src_len, attributes.find(FRA_SRC))?,
        dst: prefix(dst_len, attributes.find(FRA_DST))?,
        tos,
        ..Rule::default()
    };
    let mut table = u32::from(table);
    let mut target = 0;
    let mut fwmark = (None, None);
    for attribute in attributes.iter() {
        match attribute.kind {
            FRA_IIFNAME => rule.iif = Some(attribute.text()),
            FRA_OIFNAME => rule.oif = Some(attribute.text()),
            FRA_PRIORITY => rule.priority = attribute.u32()?,
            FRA_FWMARK => fwmark.0 = Some(attribute.u32()?),
            FRA_FWMASK => fwmark.1 = Some(attribute.u32()?),
            FRA_TABLE => table = attribute.u32()?,
            FRA_GOTO => target = attribute.u32()?,
            // All ones is "none".
            FRA_SUPPRESS_IFGROUP => rule.suppress_group = Some(attribute.u32()?).filter(|group| *group != u32::MAX),
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefix_length = Some(attribute.u32()?).filter(|length| *length != u32::MAX);
            }
            FRA_L3MDEV => rule.l3mdev = attribute.bool()?,
            FRA_UID_RANGE => rule.uid_range = Some(uid_range(attribute)?),
            FRA_IP_PROTO => rule.ip_protocol = Some(attribute.u8()?).filter(|protocol| *protocol != 0),
            FRA_SPORT_RANGE => rule.sport = ports(attribute)?,
            FRA_DPORT_RANGE => rule.dport = ports(attribute)?,
            _ => {}
        }
    }
    rule.fwmark = match fwmark {
        (None, None) => None,
        (value, bits) => Some((value.unwrap_or(0), bits.unwrap_or(u32::MAX))),
    };
    // FR_ACT_*.
    rule.action = match action {
        1 => RuleAction::Table(table),
        2 => RuleAction::Goto(target),
        6 => RuleAction::Blackhole,
        7 => RuleAction::Unreachable,
        8 => RuleAction::Prohibit,
        _ => RuleAction::Nop,
    };
    Ok(Some(rule))
}

/// struct fib_rule_port_range: first and last port in host order; zero is none.
fn ports(attribute: Attribute<'_>) -> Result<Option<(u16, u16)>, Malformed> {
    let [a, b, c, d] = attribute.u32()?.to_ne_bytes();
    let range = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    Ok((range != (0, 0)).then_some(range))
}

/// struct fib_rule_uid_range: first and last uid.
fn uid_range(attribute: Attribute<'_>) -> Result<(u32, u32), Malformed> {
    let bytes = attribute.u64()?.to_ne_bytes();
    Ok((u32_at(&bytes, 0), u32_at(&bytes, 4)))
}
