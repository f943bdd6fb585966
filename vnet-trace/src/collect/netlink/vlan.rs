//! VLANs of bridges and their ports: RTM_GETLINK, AF_BRIDGE, with ranges compressed.

use super::attribute::{Malformed, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::{BridgeVlan, Link, LinkKind};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const AF_BRIDGE: u8 = 7;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 4;

const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

/// The VLANs of all bridges and ports among `links`; does not ask if there is no bridge.
pub fn read(channel: &mut Channel, links: &[Link]) -> Result<Dump<BridgeVlan>, NetlinkError> {
    if !links.iter().any(|link| matches!(link.kind, LinkKind::Bridge(_))) {
        return Ok(Dump::default());
    }
    let mut header = [0; 16];
    header[0] = AF_BRIDGE;
    let request = Request::new(RTM_GETLINK, &header).with(IFLA_EXT_MASK, &RTEXT_FILTER_BRVLAN_COMPRESSED.to_ne_bytes());
    let dump = channel.dump(&request, parse)?;
    Ok(Dump { items: dump.items.into_iter().flatten().collect(), unread: dump.unread, interrupted: dump.interrupted })
}

/// One RTM_NEWLINK message of AF_BRIDGE: all VLANs of one device.
pub fn parse(message: Message<'_>) -> Result<Option<Vec<BridgeVlan>>, Malformed> {
    if message.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attributes) = parts::<16>("struct ifinfomsg", message)?;
    let Some(spec) = attributes.find(IFLA_AF_SPEC) else { return Ok(None) };
    let ifindex = IfIndex(u32_at(header, 4));
    let mut vlans = Vec::new();
    let mut first = None;
    for info in spec.nested("IFLA_AF_SPEC")?.iter().filter(|info| info.kind == IFLA_BRIDGE_VLAN_INFO) {
        // struct bridge_vlan_info: flags, vid.
        let flags = info.u16()?;
        let vid = info.u32().map(u32::to_ne_bytes).map(|[_, _, low, high]| u16::from_ne_bytes([low, high]))?;
        if flags & RANGE_BEGIN != 0 {
            first = Some(vid);
            continue;
        }
        let first = if flags & RANGE_END != 0 { first.take().unwrap_or(vid) } else { vid };
        vlans.extend((first..=vid.min(4094)).map(|vid| BridgeVlan {
            ifindex,
            vid,
            pvid: flags & PVID != 0,
            untagged: flags & UNTAGGED != 0,
        }));
    }
    Ok(Some(vlans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfolds_ranges() {
        // struct ifinfomsg of device 3, IFLA_AF_SPEC with VLAN 1 (PVID, untagged) and the range 10 to 12.
        let mut payload = vec![AF_BRIDGE, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        payload[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        let mut attribute = |length: u16, kind: u16, values: &[u16]| {
            for value in [&[length, kind], values].concat() {
                payload.extend(value.to_ne_bytes());
            }
        };
        attribute(4 + 3 * 8, IFLA_AF_SPEC, &[]);
        attribute(8, IFLA_BRIDGE_VLAN_INFO, &[PVID | UNTAGGED, 1]);
        attribute(8, IFLA_BRIDGE_VLAN_INFO, &[RANGE_BEGIN, 10]);
        attribute(8, IFLA_BRIDGE_VLAN_INFO, &[RANGE_END, 12]);
        let message = Message { kind: RTM_NEWLINK, flags: 0, sequence: 0, payload: &payload };
        let vlans = parse(message).unwrap().unwrap();
        assert!(vlans.iter().all(|vlan| vlan.ifindex == IfIndex(3)));
        let read: Vec<_> = vlans.iter().map(|vlan| (vlan.vid, vlan.pvid, vlan.untagged)).collect();
        assert_eq!(read, [(1, true, true), (10, false, false), (11, false, false), (12, false, false)]);
    }
}
