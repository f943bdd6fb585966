//! A packet in one phrase, in the words of tcpdump(8).

use std::fmt::Write;
use std::net::IpAddr;

use crate::follow::Followed;
use crate::packet::skim::{self, Ip, Net, Skim, Transport};
use crate::packet::{Arp, TunnelKind};

/// The packet as it was seen first: `IP 10.0.0.1.40000 > 10.0.0.2.53: UDP, length 24`.
pub fn headline(followed: &Followed) -> String {
    let Some((link, bytes)) = followed.first_bytes() else { return "packet without bytes".to_owned() };
    of(&link.map_or_else(|| skim::network(bytes), |link| skim::frame(link, bytes)))
}

fn of(skim: &Skim<'_>) -> String {
    let mut text = String::with_capacity(96);
    if let Some(vlan) = skim.vlan {
        let _ = write!(text, "vlan {vlan}, ");
    }
    if let Some(outer) = &skim.outer {
        let kind = match outer.kind {
            TunnelKind::Vxlan => "VXLAN",
            TunnelKind::Geneve => "Geneve",
            TunnelKind::Gre => "GRE",
            TunnelKind::IpInIp => "IPIP",
        };
        let _ = write!(text, "{kind} {} > {}", outer.src, outer.dst);
        if outer.vni != 0 {
            let _ = write!(text, " vni {}", outer.vni);
        }
        text.push_str(": ");
    }
    match &skim.net {
        Net::Arp(arp) => self::arp(&mut text, arp),
        Net::Ip(packet) => ip(&mut text, packet),
        Net::Other { ethertype, bytes } => {
            let name = match ethertype {
                0x88cc => "LLDP".to_owned(),
                0x8863 | 0x8864 => "PPPoE".to_owned(),
                0x8847 | 0x8848 => "MPLS".to_owned(),
                0..=1500 => "802.3".to_owned(),
                other => format!("ethertype 0x{other:04x}"),
            };
            let _ = write!(text, "{name}, length {}", bytes.len());
        }
    }
    text
}

fn arp(text: &mut String, arp: &Arp) {
    let _ = match arp.operation {
        1 => write!(text, "ARP, Request who-has {} tell {}", arp.target, arp.sender),
        2 => write!(text, "ARP, Reply {} is-at {}", arp.sender, arp.sender_mac),
        other => write!(text, "ARP, operation {other}, {} > {}", arp.sender, arp.target),
    };
}

fn ip(text: &mut String, ip: &Ip<'_>) {
    text.push_str(if ip.src.is_ipv6() { "IP6 " } else { "IP " });
    match ip.ports() {
        Some(ports) => {
            let _ = write!(text, "{}.{} > {}.{}: ", ip.src, ports.src, ip.dst, ports.dst);
        }
        None => {
            let _ = write!(text, "{} > {}: ", ip.src, ip.dst);
        }
    }
    if let Some((offset, more)) = ip.fragment {
        let _ = write!(text, "frag (0x{:x}|{offset}{}) ", ip.id, if more { "+" } else { "" });
    }
    let length = ip.payload_len;
    match ip.transport {
        Transport::Tcp { seq, ack, flags: bits, window, .. } => {
            let _ = write!(text, "Flags [{}], ", flags(bits));
            if length > 0 || bits & 7 != 0 {
                let _ = write!(text, "seq {seq}, ");
            }
            if bits & 16 != 0 {
                let _ = write!(text, "ack {ack}, ");
            }
            let _ = write!(text, "win {window}, length {length}");
        }
        Transport::Udp(_) => {
            let _ = write!(text, "UDP, length {length}");
        }
        Transport::Icmp { kind, code, rest: [id, seq] } => {
            let what = icmp(ip, kind, code);
            let six = if ip.src.is_ipv6() { "6" } else { "" };
            let _ = write!(text, "ICMP{six}, {what}");
            if what.starts_with("echo") {
                let _ = write!(text, ", id {id}, seq {seq}");
            }
            let _ = write!(text, ", length {}", length + 8);
        }
        Transport::Other => {
            let name = match ip.protocol {
                2 => "IGMP".to_owned(),
                4 | 41 => "IP in IP".to_owned(),
                47 => "GRE".to_owned(),
                50 => "ESP".to_owned(),
                51 => "AH".to_owned(),
                89 => "OSPF".to_owned(),
                112 => "VRRP".to_owned(),
                132 => "SCTP".to_owned(),
                other => format!("proto {other}"),
            };
            let _ = write!(text, "{name}, length {length}");
        }
    }
}

/// The flags as tcpdump writes them: `S.`, `P.`, `.`, `none`.
fn flags(bits: u8) -> String {
    let letters = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (32, 'U'), (128, 'W'), (64, 'E'), (16, '.')];
    let text: String = letters.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| *letter).collect();
    if text.is_empty() { "none".to_owned() } else { text }
}

fn icmp(ip: &Ip<'_>, kind: u8, code: u8) -> String {
    let name = match (ip.src, kind) {
        (IpAddr::V4(_), 8) | (IpAddr::V6(_), 128) => "echo request",
        (IpAddr::V4(_), 0) | (IpAddr::V6(_), 129) => "echo reply",
        (IpAddr::V4(_), 3) => {
            return unreachable(ip, code, &["net", "host", "protocol", "port", "fragmentation needed"]);
        }
        (IpAddr::V6(_), 1) => {
            return unreachable(ip, code, &["no route", "prohibited", "beyond scope", "address", "port"]);
        }
        (IpAddr::V6(_), 2) => "packet too big",
        (IpAddr::V4(_), 11) | (IpAddr::V6(_), 3) => "time exceeded in-transit",
        (IpAddr::V4(_), 12) | (IpAddr::V6(_), 4) => "parameter problem",
        (IpAddr::V4(_), 5) | (IpAddr::V6(_), 137) => "redirect",
        (IpAddr::V6(_), 130) => "multicast listener query",
        (IpAddr::V6(_), 131 | 143) => "multicast listener report",
        (IpAddr::V6(_), 133) => "router solicitation",
        (IpAddr::V6(_), 134) => "router advertisement",
        (IpAddr::V6(_), 135 | 136) => {
            let target = ip.payload.first_chunk::<16>().map(|target| IpAddr::from(*target));
            let target = target.map_or_else(|| "?".to_owned(), |target| target.to_string());
            return if kind == 135 {
                format!("neighbor solicitation, who has {target}")
            } else {
                format!("neighbor advertisement, tgt is {target}")
            };
        }
        _ => return format!("type {kind} code {code}"),
    };
    name.to_owned()
}

/// What is unreachable, by the packet that the error quotes.
fn unreachable(ip: &Ip<'_>, code: u8, words: &[&str]) -> String {
    let word = words.get(usize::from(code)).map_or_else(|| format!("code {code}"), |word| (*word).to_owned());
    match skim::network(ip.payload).ip() {
        Some(quoted) => match quoted.ports() {
            Some(ports) => {
                format!("{} {} port {} unreachable: {word}", quoted.dst, transport(quoted.protocol), ports.dst)
            }
            None => format!("{} unreachable: {word}", quoted.dst),
        },
        None => format!("unreachable: {word}"),
    }
}

fn transport(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        _ => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::frame::LinkLayer;
    use etherparse::PacketBuilder;

    fn said(bytes: &[u8]) -> String {
        of(&skim::frame(LinkLayer::Ethernet, bytes))
    }

    #[test]
    fn packets_are_called_as_tcpdump_calls_them() {
        let start = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let mut udp = Vec::new();
        start().udp(40000, 53).write(&mut udp, &[0; 24]).unwrap();
        assert_eq!(said(&udp), "IP 10.0.0.1.40000 > 10.0.0.2.53: UDP, length 24");
        let mut tcp = Vec::new();
        start().tcp(40000, 80, 7, 64240).syn().write(&mut tcp, &[]).unwrap();
        assert_eq!(said(&tcp), "IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 7, win 64240, length 0");
        let mut echo = Vec::new();
        start().icmpv4_echo_request(3, 1).write(&mut echo, &[0; 56]).unwrap();
        assert_eq!(said(&echo), "IP 10.0.0.1 > 10.0.0.2: ICMP, echo request, id 3, seq 1, length 64");
        let mut error = Vec::new();
        start().icmpv4_raw(3, 3, [0; 4]).write(&mut error, &udp[14..42]).unwrap();
        assert_eq!(said(&error), "IP 10.0.0.1 > 10.0.0.2: ICMP, 10.0.0.2 udp port 53 unreachable: port, length 36");
        let arp = crate::correlate::tests::arp(1, [10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(said(&arp), "ARP, Request who-has 10.0.0.2 tell 10.0.0.1");
    }
}
