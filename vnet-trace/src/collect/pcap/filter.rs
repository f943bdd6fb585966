//! The filter that the kernel runs on every frame before anything is copied, in tcpdump's language.
//!
//! It lets through what may belong to an exchange: ARP, ICMP and ICMPv6 (neighbour discovery, echo, errors), the
//! question's own connections and datagrams, all of that with up to two VLAN tags, and in tunnels where there are any. Which of these packets are
//! ours is decided on the parsed packet; the filter only has to be cheap and to miss nothing.

use crate::model::question::Protocol;

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// What is asked with.
    pub protocol: Protocol,
    /// There are VXLAN or Geneve devices on the way.
    pub udp_tunnels: bool,
    /// There are GRE, ipip, sit or ip6tnl devices on the way.
    pub ip_tunnels: bool,
}

/// Why libpcap does not take an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libpcap does not understand `{expression}`: {said}")]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// libpcap's words.
    pub said: String,
}

/// VXLAN and Geneve without options both have 8 bytes between the UDP header and the inner Ethernet header, so the inner
/// ethertype stands at UDP byte 28, the inner protocol of IPv4 at 39, that of IPv6 at 36. This goes by shape, not by
/// port, because a port that differs from what is expected is one of the faults to be found.
fn in_udp_v4(asked: u8) -> String {
    format!(
        "udp[28:2] = 0x0806 or udp[28:2] = 0x8100 or (udp[28:2] = 0x0800 and (udp[39] = 1 or udp[39] = {asked})) \
         or (udp[28:2] = 0x86dd and (udp[36] = 58 or udp[36] = 44 or udp[36] = {asked}))"
    )
}

/// The same behind an IPv6 header without extensions.
fn in_udp_v6(asked: u8) -> String {
    format!(
        "ip6[6] = 17 and (ip6[68:2] = 0x0806 or ip6[68:2] = 0x8100 \
         or (ip6[68:2] = 0x0800 and (ip6[79] = 1 or ip6[79] = {asked})) \
         or (ip6[68:2] = 0x86dd and (ip6[76] = 58 or ip6[76] = 44 or ip6[76] = {asked})))"
    )
}

/// SYN or RST: what opens, accepts or refuses a connection. Ports are no guide, because NAT rewrites them.
const OPENING: &str = "tcp[13] & 6 != 0 or (ip6[6] = 6 and ip6[53] & 6 != 0)";

/// What our datagrams begin with (`vtra`, behind 8 bytes of UDP header), for where NAT has rewritten both ports.
const COOKIE: &str = "udp[8:4] = 0x76747261 or (ip6[6] = 17 and ip6[48:4] = 0x76747261)";

impl Filter {
    /// The expression, for frames of a link layer with or without VLAN tags.
    pub fn expression(&self, tags: Tags) -> String {
        let mut parts = match tags {
            Tags::Possible => vec!["arp".to_owned()],
            Tags::Impossible => Vec::new(),
        };
        parts.extend(["icmp".to_owned(), "icmp6".to_owned()]);
        let number = match self.protocol {
            Protocol::Echo => 1,
            Protocol::Tcp { .. } => {
                parts.push(OPENING.to_owned());
                6
            }
            // Later fragments have no ports.
            Protocol::Udp { port, sport } => {
                parts.push(format!(
                    "udp port {port} or udp port {sport} or {COOKIE} or (ip[6:2] & 0x1fff != 0 and ip proto 17)"
                ));
                17
            }
        };
        if self.udp_tunnels {
            parts.push(in_udp_v4(number));
            parts.push(in_udp_v6(number));
        }
        if self.ip_tunnels {
            parts.push(
                "ip proto 4 or ip proto 41 or ip proto 47 or ip6 proto 4 or ip6 proto 41 or ip6 proto 47".to_owned(),
            );
        }
        let plain = parts.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" or ");
        match tags {
            // `vlan` moves all offsets behind it, so the tagged alternatives come last.
            Tags::Possible => format!("{plain} or (vlan and ({plain} or (vlan and ({plain}))))"),
            Tags::Impossible => plain,
        }
    }
}

/// Whether frames can have VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// Ethernet.
    Possible,
    /// Bare IP packets.
    Impossible,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form must be something that libpcap can compile.
    #[test]
    fn libpcap_takes_every_form() {
        let protocols = [Protocol::Echo, Protocol::Tcp { port: 80, sport: 0 }, Protocol::Udp { port: 53, sport: 0 }];
        for protocol in protocols {
            for (udp_tunnels, ip_tunnels) in [(false, false), (true, false), (true, true)] {
                let filter = Filter { protocol, udp_tunnels, ip_tunnels };
                for (linktype, tags) in
                    [(::pcap::Linktype::ETHERNET, Tags::Possible), (::pcap::Linktype(12), Tags::Impossible)]
                {
                    let dead = ::pcap::Capture::dead(linktype).unwrap();
                    let expression = filter.expression(tags);
                    if let Err(error) = dead.compile(&expression, true) {
                        panic!("{expression}: {error}");
                    }
                }
            }
        }
    }
}
