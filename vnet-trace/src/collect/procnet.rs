//! What only /proc/net tells of the calling thread's namespace: counters, multicast groups, sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::id::IfIndex;
use crate::model::question::Protocol;
use crate::model::snapshot::{ConntrackEntry, Socket};

/// Sockets kept of one file; a machine with more has none worth listing.
const SOCKETS: usize = 4096;
/// Connections kept, as many as over netlink.
const CONNECTIONS: usize = 256;

fn file(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

/// Counters of snmp, snmp6, netstat and xfrm_stat that are not zero, as `Ip.InDiscards`, `Icmp6.InMsgs`,
/// `TcpExt.IPReversePathFilter`, `Xfrm.InNoPols`.
pub fn counters() -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for text in [file("snmp"), file("netstat")] {
        pairs_of_lines(&text, &mut counters);
    }
    for line in file("snmp6").lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        // `Ip6InReceives`: the protocol ends with its 6.
        if let (Some((protocol, counter)), Ok(value @ 1..)) = (name.split_once('6'), value.parse()) {
            counters.insert(format!("{protocol}6.{counter}"), value);
        }
    }
    for line in file("xfrm_stat").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value @ 1..))) = (words.next(), words.next().map(str::parse)) {
            counters.insert(format!("Xfrm.{}", name.trim_start_matches("Xfrm")), value);
        }
    }
    counters
}

/// A line of names, then a line of values, both starting with the protocol.
fn pairs_of_lines(text: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((protocol, names)), Some((again, values))) = (names.split_once(':'), values.split_once(':')) else {
            return;
        };
        if protocol != again {
            return;
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let Ok(value @ 1..) = value.parse() {
                counters.insert(format!("{protocol}.{name}"), value);
            }
        }
    }
}

/// Counters of the machine's IPv4 routing (stat/rt_cache), of all namespaces and processors together, as
/// `RtCache.in_martian_src`.
pub fn routing_counters() -> BTreeMap<String, u64> {
    let text = file("stat/rt_cache");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut sums = BTreeMap::new();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            if let Ok(value @ 1..) = u64::from_str_radix(value, 16) {
                *sums.entry(format!("RtCache.{name}")).or_default() += value;
            }
        }
    }
    sums
}

/// Multicast groups that devices have joined.
pub fn multicast() -> Vec<(IfIndex, IpAddr)> {
    let mut groups = Vec::new();
    let mut device = None;
    for line in file("igmp").lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if line.starts_with(['\t', ' ']) {
            // The group in the byte order of the machine.
            if let (Some(device), Ok(group)) = (device, u32::from_str_radix(first, 16)) {
                groups.push((device, IpAddr::V4(Ipv4Addr::from(group.to_ne_bytes()))));
            }
        } else {
            device = first.parse().ok().map(IfIndex);
        }
    }
    for line in file("igmp6").lines() {
        let mut words = line.split_whitespace();
        let (Some(index), Some(group)) = (words.next(), words.nth(1)) else { continue };
        if let (Ok(index), Ok(group)) = (index.parse(), u128::from_str_radix(group, 16)) {
            groups.push((IfIndex(index), IpAddr::V6(Ipv6Addr::from(group))));
        }
    }
    groups
}

/// Sockets that could take packets of the question: those that see ICMP echoes, or those of the question's protocol
/// that listen on a port. /proc does not tell the device a socket is bound to.
pub fn sockets(protocol: Protocol) -> Vec<Socket> {
    const TCP_LISTEN: u8 = 0x0a;
    const UDP_UNCONNECTED: u8 = 0x07;
    let files: &[(&str, u8)] = match protocol {
        // A raw socket's port is the protocol it wants.
        Protocol::Echo => &[("icmp", 1), ("icmp6", 58), ("raw", 255), ("raw6", 255)],
        Protocol::Tcp { .. } => &[("tcp", 6), ("tcp6", 6)],
        Protocol::Udp { .. } => &[("udp", 17), ("udp6", 17)],
    };
    let mut sockets = Vec::new();
    for (name, number) in files {
        let read = file(name);
        let wanted = |(_, state): &(Socket, u8)| match *number {
            6 => *state == TCP_LISTEN,
            // A connected datagram socket takes nothing from strangers.
            17 => *state == UDP_UNCONNECTED,
            _ => true,
        };
        sockets.extend(
            read.lines()
                .skip(1)
                .filter_map(|line| socket(line, *number))
                .filter(wanted)
                .map(|(socket, state)| Socket { listening: *number == 6 && state == TCP_LISTEN, ..socket })
                .take(SOCKETS),
        );
    }
    sockets
}

/// A line of /proc/net/{tcp,udp,raw,icmp}: slot, local, remote, state, queues, … Raw and datagram files end in drops.
fn socket(line: &str, protocol: u8) -> Option<(Socket, u8)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let (_, waiting) = fields.get(4)?.split_once(':')?;
    let raw = protocol == 255;
    let drops = if protocol == 6 { 0 } else { fields.last()?.parse().unwrap_or(0) };
    let socket = Socket {
        protocol: if raw { port as u8 } else { protocol },
        local: address_of(address)?,
        port: if raw { 0 } else { port },
        device: None,
        listening: false,
        rx_queue: u32::from_str_radix(waiting, 16).ok()?,
        rx_limit: None,
        drops,
        process: None,
        v6only: None,
    };
    Some((socket, state))
}

/// Connection-tracking entries with one of these addresses at either end, from /proc/net/nf_conntrack: for machines
/// where the module that gives them over netlink is not loaded. Empty where the kernel has no such file.
pub fn connections(addresses: &[IpAddr]) -> Vec<ConntrackEntry> {
    let concerns = |entry: &ConntrackEntry| {
        [entry.orig_src, entry.orig_dst, entry.reply_src, entry.reply_dst].iter().any(|end| addresses.contains(end))
    };
    file("nf_conntrack").lines().filter_map(connection).filter(concerns).take(CONNECTIONS).collect()
}

/// A line of nf_conntrack: family and protocol by name and number, seconds left, perhaps a state, then `key=value` of
/// one direction and of the other, and flags in brackets.
fn connection(line: &str) -> Option<ConntrackEntry> {
    let mut words = line.split_whitespace().skip(3);
    let protocol = words.next()?.parse().ok()?;
    let words: Vec<&str> = words.skip(1).collect();
    let pairs: Vec<(&str, &str)> = words.iter().filter_map(|word| word.split_once('=')).collect();
    let values = |key: &'static str| pairs.iter().filter(move |(name, _)| *name == key).map(|(_, value)| *value);
    let ends = |key: &'static str| -> Option<(IpAddr, IpAddr)> {
        let mut both = values(key).map(str::parse);
        Some((both.next()?.ok()?, both.next()?.ok()?))
    };
    // Echoes have one id, for either end.
    let ports = |key: &'static str| {
        let mut both = values(key).chain(values("id")).map(|value| value.parse().unwrap_or(0));
        (both.next().unwrap_or(0), both.next().unwrap_or(0))
    };
    let ((orig_src, reply_src), (orig_dst, reply_dst)) = (ends("src")?, ends("dst")?);
    let (sources, destinations) = (ports("sport"), ports("dport"));
    let mut state: Vec<&str> = words.iter().copied().filter(|word| !word.contains('=')).collect();
    state.extend((reply_dst != orig_src).then_some("SRC_NAT"));
    state.extend((reply_src != orig_dst).then_some("DST_NAT"));
    Some(ConntrackEntry {
        protocol,
        orig_src,
        orig_dst,
        orig_sport: sources.0,
        orig_dport: destinations.0,
        reply_src,
        reply_dst,
        reply_sport: sources.1,
        reply_dport: destinations.1,
        state: state.join(" "),
        mark: values("mark").next().and_then(|mark| mark.parse().ok()).unwrap_or(0),
        zone: values("zone").next().and_then(|zone| zone.parse().ok()).unwrap_or(0),
    })
}

/// 8 or 32 hexadecimal digits: words in the byte order of the machine.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counters_in_pairs_of_lines() {
        let mut counters = BTreeMap::new();
        pairs_of_lines("Ip: Forwarding InDiscards\nIp: 1 0\nIcmp: InMsgs\nIcmp: 7\nbroken\n", &mut counters);
        assert_eq!(counters, BTreeMap::from([("Ip.Forwarding".into(), 1), ("Icmp.InMsgs".into(), 7)]));
    }

    #[test]
    fn reads_a_listening_socket() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1";
        let (socket, state) = socket(line, 6).unwrap();
        assert_eq!((socket.port, socket.rx_queue, state), (8080, 2, 10));
        if cfg!(target_endian = "little") {
            assert_eq!(socket.local, IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
    }

    #[test]
    fn reads_a_connection() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 \
                    src=10.0.0.3 dst=10.0.0.1 sport=8080 dport=40000 [ASSURED] mark=5 zone=0 use=2";
        let entry = connection(line).unwrap();
        assert_eq!((entry.protocol, entry.mark, entry.state.as_str()), (6, 5, "ESTABLISHED [ASSURED] DST_NAT"));
        assert_eq!((entry.orig_dport, entry.reply_sport, entry.reply_src), (80, 8080, IpAddr::from([10, 0, 0, 3])));
        let echo = "ipv6     10 icmpv6   58 29 src=fd00::1 dst=fd00::2 type=128 code=0 id=7 [UNREPLIED] \
                    src=fd00::2 dst=fd00::1 type=129 code=0 id=7 mark=0 use=1";
        let entry = connection(echo).unwrap();
        assert_eq!((entry.orig_sport, entry.reply_dport, entry.state.as_str()), (7, 7, "[UNREPLIED]"));
        for garbage in ["", "ipv4", "ipv4 2 tcp 6 1 src=x dst=y", "a b c d e src=1.1.1.1"] {
            assert_eq!(connection(garbage), None);
        }
    }

    #[test]
    fn garbage_is_no_socket() {
        for line in ["", "a", "0: x:y z 0A", "0: 0100007F:1F90 00000000:0000", "0: 01:1F90 0 0A 0:0 1"] {
            assert!(socket(line, 17).is_none());
        }
    }
}
