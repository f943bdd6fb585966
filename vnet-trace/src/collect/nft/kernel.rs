//! What nftables' own netlink family says without running a program: which tables there are, and three things that
//! `nft -j` leaves out (as of 1.0.6): whether a table is dormant, the devices of ingress and egress chains, and whether a
//! rule that writes to a header mends the checksum (`@nh,64,8 set 63` and `ip ttl set 63` are listed alike).
//!
//! NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN and NFT_MSG_GETRULE dumps over NETLINK_NETFILTER (include/uapi/linux/netfilter/nf_tables.h). A namespace
//! without rules is the ordinary case, and there one small dump saves several executions.

use std::io;

use netlink_sys::{Socket, SocketAddr};

use crate::model::netfilter::Family;

const NETLINK_NETFILTER: isize = 12;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_DORMANT: u32 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_HOOK_DEVS: u16 = 4;
const NFTA_DEVICE_NAME: u16 = 1;
const NFTA_DEVICE_PREFIX: u16 = 2;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_PAYLOAD_CSUM_TYPE: u16 = 6;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// Length of struct nfgenmsg.
const GENERIC: usize = 4;
/// Answers read at most; the kernel packs many tables or chains into each.
const MAX_READS: usize = 65_536;

/// A table as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Whether its chains are unhooked.
    pub dormant: bool,
}

/// A base chain on devices, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChain {
    /// Family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Names of its devices; one that ends in `*` stands for all that begin so.
    pub devices: Vec<String>,
}

/// Every nftables table of the current thread's network namespace.
pub fn tables() -> io::Result<Vec<TableEntry>> {
    let entries = dump(NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE, |family, body| {
        let name = text(attribute(body, NFTA_TABLE_NAME)?);
        let flags =
            attribute(body, NFTA_TABLE_FLAGS).and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes);
        Some(TableEntry { family, name, dormant: flags & NFT_TABLE_F_DORMANT != 0 })
    })?;
    Ok(entries)
}

/// Every base chain that hangs on devices.
pub fn device_chains() -> io::Result<Vec<DeviceChain>> {
    dump(NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN, |family, body| {
        let hook = attribute(body, NFTA_CHAIN_HOOK)?;
        let mut devices = Vec::new();
        if let Some(list) = attribute(hook, NFTA_HOOK_DEVS) {
            for (kind, value) in attributes(list) {
                match kind {
                    NFTA_DEVICE_NAME => devices.push(text(value)),
                    NFTA_DEVICE_PREFIX => devices.push(format!("{}*", text(value))),
                    _ => {}
                }
            }
        } else if let Some(device) = attribute(hook, NFTA_HOOK_DEV) {
            devices.push(text(device));
        }
        if devices.is_empty() {
            return None;
        }
        let table = text(attribute(body, NFTA_CHAIN_TABLE)?);
        Some(DeviceChain { family, table, chain: text(attribute(body, NFTA_CHAIN_NAME)?), devices })
    })
}

/// Writes to headers by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderWrites {
    /// Family of the rule's table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The rule.
    pub handle: u64,
    /// For each write, in order, whether the kernel mends the checksum over it.
    pub mends: Vec<bool>,
}

/// Every rule that writes to headers.
pub fn header_writes() -> io::Result<Vec<HeaderWrites>> {
    dump(NFT_MSG_GETRULE, NFT_MSG_NEWRULE, |family, body| {
        let mut mends = Vec::new();
        for (_, expression) in attributes(attribute(body, NFTA_RULE_EXPRESSIONS)?) {
            let name = attribute(expression, NFTA_EXPR_NAME).map(text);
            let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
            if name.as_deref() == Some("payload") && attribute(data, NFTA_PAYLOAD_SREG).is_some() {
                let kind = attribute(data, NFTA_PAYLOAD_CSUM_TYPE).and_then(|value| value.try_into().ok());
                mends.push(kind.map_or(0, u32::from_be_bytes) != 0);
            }
        }
        if mends.is_empty() {
            return None;
        }
        let table = text(attribute(body, NFTA_RULE_TABLE)?);
        let handle = u64::from_be_bytes(attribute(body, NFTA_RULE_HANDLE)?.try_into().ok()?);
        Some(HeaderWrites { family, table, handle, mends })
    })
}

/// Asks for everything of a kind; `read` makes of each answer's family and attributes what it wants.
fn dump<T>(request: u16, answer: u16, read: impl Fn(Family, &[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = Vec::with_capacity(HEADER + GENERIC);
    message.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    message.extend((NFNL_SUBSYS_NFTABLES << 8 | request).to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    // Family unspecified (all), version 0, resource id 0.
    message.extend([0, 0, 0, 0]);
    socket.send(&message, 0)?;
    let mut found = Vec::new();
    for _ in 0..MAX_READS {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
            let length = length as usize;
            let Some(message) = rest.get(..length).filter(|_| length >= HEADER) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message shorter than it says"));
            };
            let body = message.get(HEADER..).unwrap_or_default();
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    return match u32_at(body, 0).unwrap_or(0) as i32 {
                        0 => Ok(found),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                kind if kind == NFNL_SUBSYS_NFTABLES << 8 | answer => {
                    let family = body.first().and_then(|number| family(*number));
                    let attributes = body.get(GENERIC..).unwrap_or_default();
                    found.extend(family.and_then(|family| read(family, attributes)));
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Type and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two highest bits say how the value is laid out.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Text up to its terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// NFPROTO_* in include/uapi/linux/netfilter.h.
fn family(number: u8) -> Option<Family> {
    Some(match number {
        1 => Family::Inet,
        2 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        10 => Family::Ip6,
        _ => return None,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
