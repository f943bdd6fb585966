//! Addresses of both families (RTM_GETADDR), in the kernel's order: a device's primary before its secondary ones.

use super::attribute::{Malformed, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::Address;

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

/// All addresses of the channel's namespace.
pub fn read(channel: &mut Channel) -> Result<Dump<Address>, NetlinkError> {
    channel.dump(&Request::new(RTM_GETADDR, &[0; 8]), parse)
}

/// One RTM_NEWADDR message.
pub fn parse(message: Message<'_>) -> Result<Option<Address>, Malformed> {
    if message.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let (header, attributes) = parts::<8>("struct ifaddrmsg", message)?;
    let [_, prefix_len, flags, scope, ..] = *header;
    let address = attributes.find(IFA_ADDRESS).map(|address| address.ip()).transpose()?;
    let local = attributes.find(IFA_LOCAL).map(|address| address.ip()).transpose()?;
    // IFA_ADDRESS is the other end where there is one. IPv4 always gives both, IPv6 gives IFA_LOCAL only with a peer.
    let Some(own) = local.or(address) else { return Ok(None) };
    Ok(Some(Address {
        ifindex: IfIndex(u32_at(header, 4)),
        address: own,
        prefix_len,
        peer: address.filter(|peer| *peer != own),
        scope,
        flags: attributes.find(IFA_FLAGS).map_or(Ok(u32::from(flags)), |flags| flags.u32())?,
    }))
}
