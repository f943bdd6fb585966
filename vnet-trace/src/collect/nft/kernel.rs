//! Whether nftables has any table in this network namespace, asked of the kernel without running a program.
//!
//! One NFT_MSG_GETTABLE dump over NETLINK_NETFILTER (include/uapi/linux/netfilter/nf_tables.h). A namespace without rules is
//! the ordinary case, and there it saves four executions.

use std::io;

use netlink_sys::{Socket, SocketAddr};

use crate::model::netfilter::Family;

const NETLINK_NETFILTER: isize = 12;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// Length of struct nfgenmsg.
const GENERIC: usize = 4;
/// Answers read at most; a table takes well under a hundred bytes.
const MAX_READS: usize = 1024;

/// Family and name of every nftables table of the current thread's network namespace.
pub fn tables() -> io::Result<Vec<(Family, String)>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADER + GENERIC);
    request.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE).to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    // Family unspecified (all), version 0, resource id 0.
    request.extend([0, 0, 0, 0]);
    socket.send(&request, 0)?;
    let mut found = Vec::new();
    for _ in 0..MAX_READS {
        let (answer, _) = socket.recv_from_full()?;
        if read_answer(&answer, &mut found)? == More::No {
            return Ok(found);
        }
    }
    Ok(found)
}

#[derive(PartialEq, Eq)]
enum More {
    Yes,
    No,
}

fn read_answer(mut answer: &[u8], found: &mut Vec<(Family, String)>) -> io::Result<More> {
    while let (Some(length), Some(kind)) = (u32_at(answer, 0), u16_at(answer, 4)) {
        let length = length as usize;
        let Some(message) = answer.get(..length).filter(|_| length >= HEADER) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message shorter than it says"));
        };
        let body = message.get(HEADER..).unwrap_or_default();
        match kind {
            NLMSG_DONE => return Ok(More::No),
            NLMSG_ERROR => {
                return match u32_at(body, 0).unwrap_or(0) as i32 {
                    0 => Ok(More::No),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            kind if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE => {
                if let (Some(family), Some(name)) = (body.first().and_then(|number| family(*number)), table_name(body)) {
                    found.push((family, name));
                }
            }
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(More::Yes)
}

fn table_name(body: &[u8]) -> Option<String> {
    let mut attributes = body.get(GENERIC..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == NFTA_TABLE_NAME {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return Some(String::from_utf8_lossy(&value[..end]).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
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
