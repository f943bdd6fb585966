//! Forwarding databases of bridges and VXLAN devices (RTM_GETNEIGH, AF_BRIDGE). The same dump also lists the address
//! filters of every other device, which decide nothing here and are left out.

use super::attribute::{Malformed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::{IfIndex, MacAddr};
use crate::model::snapshot::{FdbEntry, Link, LinkKind};

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const AF_BRIDGE: u8 = 7;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
const NDA_MASTER: u16 = 9;

/// The entries of all bridges and VXLAN devices among `links`; does not ask if there are none.
pub fn read(channel: &mut Channel, links: &[Link]) -> Result<Dump<FdbEntry>, NetlinkError> {
    let holds = |link: &Link| matches!(link.kind, LinkKind::Bridge(_) | LinkKind::Vxlan(_));
    if !links.iter().any(holds) {
        return Ok(Dump::default());
    }
    let mut request = [0; 16];
    request[0] = AF_BRIDGE;
    let mut dump = channel.dump(&Request::new(RTM_GETNEIGH, &request), parse)?;
    dump.items
        .retain(|entry| entry.master.is_some() || links.iter().any(|link| link.index == entry.ifindex && holds(link)));
    Ok(dump)
}

/// One RTM_NEWNEIGH message of AF_BRIDGE.
pub fn parse(message: Message<'_>) -> Result<Option<FdbEntry>, Malformed> {
    if message.kind != RTM_NEWNEIGH {
        return Ok(None);
    }
    let (header, attributes) = parts::<12>("struct ndmsg", message)?;
    if header[0] != AF_BRIDGE {
        return Ok(None);
    }
    let mut entry = FdbEntry {
        ifindex: IfIndex(u32_at(header, 4)),
        state: u16_at(header, 8),
        flags: header[10],
        ..FdbEntry::default()
    };
    for attribute in attributes.iter() {
        match attribute.kind {
            NDA_LLADDR => entry.mac = attribute.mac().unwrap_or(MacAddr::default()),
            NDA_DST => entry.dst = Some(attribute.ip()?),
            NDA_VLAN => entry.vlan = Some(attribute.u16()?).filter(|vlan| *vlan != 0),
            NDA_PORT => entry.port = Some(attribute.be16()?),
            NDA_VNI => entry.vni = Some(attribute.u32()?),
            NDA_IFINDEX => entry.via = Some(IfIndex(attribute.u32()?)),
            NDA_MASTER => entry.master = Some(IfIndex(attribute.u32()?)),
            _ => {}
        }
    }
    Ok(Some(entry))
}
