//! IPsec policies and the number of states (NETLINK_XFRM).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attribute::{Attribute, Malformed, fixed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::{XfrmPolicy, XfrmTemplate};

/// NETLINK_XFRM.
pub const PROTOCOL: isize = 6;

const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRM_MSG_GETSADINFO: u16 = 0x23;
const XFRMA_TMPL: u16 = 5;
const XFRMA_SAD_CNT: u16 = 1;

/// All policies of the channel's namespace, in the order in which the kernel compares them.
pub fn policies(channel: &mut Channel) -> Result<Dump<XfrmPolicy>, NetlinkError> {
    channel.dump(&Request::new(XFRM_MSG_GETPOLICY, &[0; 64]), parse)
}

/// Number of states of the channel's namespace.
pub fn states(channel: &mut Channel) -> Result<u32, NetlinkError> {
    channel.ask(&Request::new(XFRM_MSG_GETSADINFO, &u32::MAX.to_ne_bytes()), |message| {
        let (_, attributes) = parts::<4>("XFRM_MSG_NEWSADINFO", message)?;
        attributes.find(XFRMA_SAD_CNT).map_or(Ok(0), |count| count.u32())
    })
}

/// One XFRM_MSG_NEWPOLICY message: struct xfrm_userpolicy_info, which starts with the selector.
pub fn parse(message: Message<'_>) -> Result<Option<XfrmPolicy>, Malformed> {
    if message.kind != XFRM_MSG_NEWPOLICY {
        return Ok(None);
    }
    let (info, attributes) = parts::<168>("struct xfrm_userpolicy_info", message)?;
    let family = u16_at(info, 40);
    let prefix = |offset: usize, length: u8| {
        let bytes =
            info.get(offset..offset + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).unwrap_or_default();
        let address = if i32::from(family) == nix::libc::AF_INET {
            let [a, b, c, d, ..] = bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes))
        };
        IpNet::new(address, length).map_err(|_| Malformed {
            layer: "prefix length of struct xfrm_selector",
            offset: 42,
            needed: usize::from(length),
            had: if address.is_ipv4() { 32 } else { 128 },
        })
    };
    Ok(Some(XfrmPolicy {
        dir: match info[160] {
            0 => "in",
            1 => "out",
            2 => "fwd",
            _ => "socket",
        }
        .into(),
        dst: prefix(0, info[42])?,
        src: prefix(16, info[43])?,
        protocol: info[44],
        block: info[161] == 1,
        priority: u32_at(info, 152),
        templates: attributes.find(XFRMA_TMPL).map(templates).transpose()?.unwrap_or_default(),
        ifindex: Some(IfIndex(u32_at(info, 48))).filter(|index| index.0 != 0),
    }))
}

/// XFRMA_TMPL: an array of struct xfrm_user_tmpl, 64 bytes each.
fn templates(attribute: Attribute<'_>) -> Result<Vec<XfrmTemplate>, Malformed> {
    const SIZE: usize = 64;
    let read = |bytes| {
        let (template, _) = fixed::<SIZE>("struct xfrm_user_tmpl", bytes)?;
        Ok(XfrmTemplate {
            protocol: match i32::from(template[20]) {
                nix::libc::IPPROTO_ESP => "esp".into(),
                nix::libc::IPPROTO_AH => "ah".into(),
                nix::libc::IPPROTO_COMP => "comp".into(),
                other => other.to_string(),
            },
            mode: match template[48] {
                0 => "transport",
                1 => "tunnel",
                2 => "ro",
                3 => "in_trigger",
                4 => "beet",
                _ => "unknown",
            }
            .into(),
            optional: template[50] != 0,
        })
    };
    attribute.value.chunks(SIZE).map(read).collect()
}
