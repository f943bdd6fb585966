//! Neighbours of both families (RTM_GETNEIGH), proxy entries, and the settings of the neighbour tables
//! (RTM_GETNEIGHTBL), which are `net.ipv4.neigh` and `net.ipv6.neigh` without a file for each value and device.

use std::collections::BTreeMap;

use super::attribute::{Attributes, Malformed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::Neighbour;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWNEIGHTBL: u16 = 64;
const RTM_GETNEIGHTBL: u16 = 66;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_PROXY: u8 = 8;

const NDTA_THRESH: [(u16, &str); 3] = [(2, "gc_thresh1"), (3, "gc_thresh2"), (4, "gc_thresh3")];
const NDTA_CONFIG: u16 = 5;
const NDTA_PARMS: u16 = 6;
const NDTA_STATS: u16 = 7;
const NDTPA_IFINDEX: u16 = 1;
/// Attributes of NDTA_PARMS that are 32-bit numbers, by the name of their sysctl.
const COUNTS: [(u16, &str); 4] = [(8, "unres_qlen"), (9, "app_solicit"), (10, "ucast_solicit"), (11, "mcast_solicit")];
/// Those that are milliseconds.
const TIMES: [(u16, &str); 2] = [(4, "base_reachable_time_ms"), (5, "retrans_time_ms")];
const NDTPA_LOCKTIME: u16 = 15;

/// All neighbour entries of the channel's namespace, proxy entries last.
pub fn read(channel: &mut Channel) -> Result<Dump<Neighbour>, NetlinkError> {
    let mut dump = channel.dump(&Request::new(RTM_GETNEIGH, &[0; 12]), parse)?;
    let mut proxies = [0; 12];
    proxies[10] = NTF_PROXY;
    let proxies = channel.dump(&Request::new(RTM_GETNEIGH, &proxies), parse)?;
    dump.interrupted |= proxies.interrupted;
    dump.items.extend(proxies.items.into_iter().filter(Neighbour::is_proxy));
    Ok(dump)
}

/// One RTM_NEWNEIGH message of ARP or ND.
pub fn parse(message: Message<'_>) -> Result<Option<Neighbour>, Malformed> {
    if message.kind != RTM_NEWNEIGH {
        return Ok(None);
    }
    let (header, attributes) = parts::<12>("struct ndmsg", message)?;
    let family = i32::from(header[0]);
    if family != nix::libc::AF_INET && family != nix::libc::AF_INET6 {
        return Ok(None);
    }
    let Some(address) = attributes.find(NDA_DST) else { return Ok(None) };
    Ok(Some(Neighbour {
        ifindex: IfIndex(u32_at(header, 4)),
        address: address.ip()?,
        lladdr: attributes.find(NDA_LLADDR).and_then(|lladdr| lladdr.mac()),
        state: u16_at(header, 8),
        flags: header[10],
    }))
}

/// Settings of one neighbour table, or of one device in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// None is `default`.
    pub ifindex: Option<IfIndex>,
    /// Sysctl name (`mcast_solicit`) and value.
    pub values: BTreeMap<&'static str, u64>,
    /// Entries in the table, of all namespaces, where the message tells.
    pub entries: Option<u32>,
    /// How often an entry found no place (`table_fulls`), in all namespaces.
    pub table_fulls: Option<u64>,
}

/// The settings of both neighbour tables.
pub fn read_parameters(channel: &mut Channel) -> Result<Dump<Parameters>, NetlinkError> {
    channel.dump(&Request::new(RTM_GETNEIGHTBL, &[0; 4]), parse_parameters)
}

/// One RTM_NEWNEIGHTBL message.
pub fn parse_parameters(message: Message<'_>) -> Result<Option<Parameters>, Malformed> {
    if message.kind != RTM_NEWNEIGHTBL {
        return Ok(None);
    }
    let (header, attributes) = parts::<4>("struct ndtmsg", message)?;
    let family = match i32::from(header[0]) {
        nix::libc::AF_INET => "ipv4",
        nix::libc::AF_INET6 => "ipv6",
        _ => return Ok(None),
    };
    let mut read = Parameters { family, ifindex: None, values: BTreeMap::new(), entries: None, table_fulls: None };
    for attribute in attributes.iter() {
        match attribute.kind {
            NDTA_PARMS => parameters(&mut read, attribute.nested("NDTA_PARMS")?)?,
            // struct ndt_config: two 16-bit lengths, then the number of entries.
            NDTA_CONFIG => {
                read.entries = attribute.value.get(4..).and_then(<[u8]>::first_chunk).map(|n| u32::from_ne_bytes(*n));
            }
            // struct ndt_stats: its eleventh number.
            NDTA_STATS => {
                read.table_fulls =
                    attribute.value.get(80..).and_then(<[u8]>::first_chunk).map(|n| u64::from_ne_bytes(*n));
            }
            kind => {
                if let Some((_, name)) = NDTA_THRESH.iter().find(|(thresh, _)| *thresh == kind) {
                    read.values.insert(name, u64::from(attribute.u32()?));
                }
            }
        }
    }
    Ok(Some(read))
}

fn parameters(read: &mut Parameters, parameters: Attributes<'_>) -> Result<(), Malformed> {
    for attribute in parameters.iter() {
        let kind = attribute.kind;
        let named =
            |table: &[(u16, &'static str)]| table.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name);
        if kind == NDTPA_IFINDEX {
            read.ifindex = Some(IfIndex(attribute.u32()?)).filter(|index| index.0 != 0);
        } else if let Some(name) = named(&COUNTS) {
            read.values.insert(name, u64::from(attribute.u32()?));
        } else if let Some(name) = named(&TIMES) {
            read.values.insert(name, attribute.u64()?);
        } else if kind == NDTPA_LOCKTIME {
            // The file counts in USER_HZ, the attribute in milliseconds.
            read.values.insert("locktime", attribute.u64()? / 10);
        }
    }
    Ok(())
}
