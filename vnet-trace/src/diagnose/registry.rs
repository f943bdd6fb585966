//! The list of everything that a diagnosis can say: each cause and note with its code, its family, its
//! title, one line of description and the page that `vnet-trace explain CODE` prints.
//!
//! A code is an interface: scripts match on it, so it is never renamed and never used for something else.
//! The order here is the order of the documentation and the last tie-break of the ranking. One line in
//! the table below is all that a new code needs here: a page missing under `causes/` does not compile.

use std::fmt;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The packet is lost because of it.
    Cause,
    /// Nothing is lost by it, but a person may wonder.
    Note,
}

/// Where in the network stack an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Devices, carrier, MTU, queueing disciplines, programs at devices.
    Link,
    /// Bridges, Open vSwitch, macvlan, ipvlan, overlays.
    Bridge,
    /// ARP and neighbour discovery.
    Arp,
    /// Routing and source checks.
    Route,
    /// Filters, NAT, the hosts themselves.
    Filter,
    /// Notes.
    Note,
}

impl Family {
    /// All families in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Link, Self::Bridge, Self::Arp, Self::Route, Self::Filter, Self::Note];

    /// The heading over its entries.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Link => "Devices and links",
            Self::Bridge => "Bridges, Open vSwitch, macvlan, ipvlan, overlays",
            Self::Arp => "Address resolution",
            Self::Route => "Routing and source checks",
            Self::Filter => "Filters, NAT, hosts",
            Self::Note => "Notes: nothing is lost, a person wonders all the same",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Link => "link",
            Self::Bridge => "bridge",
            Self::Arp => "arp",
            Self::Route => "route",
            Self::Filter => "filter",
            Self::Note => "note",
        })
    }
}

/// One cause or note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its stable name.
    pub code: &'static str,
    /// Cause or note.
    pub kind: Kind,
    /// Its family.
    pub family: Family,
    /// A few words; the heading of its page.
    pub title: &'static str,
    /// One line: why the packet is lost, or what the note says.
    pub brief: &'static str,
    /// Its page, in Markdown.
    pub page: &'static str,
}

/// Every cause and note, in the order of the documentation.
pub fn all() -> &'static [Entry] {
    ENTRIES
}

/// The entry of this code.
pub fn entry(code: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.code == code)
}

/// The position of this code in the list; unknown codes come last.
pub fn position(code: &str) -> usize {
    ENTRIES.iter().position(|entry| entry.code == code).unwrap_or(ENTRIES.len())
}

/// The codes that share the most letters with a mistyped one, best first, at most three.
pub fn similar(typed: &str) -> Vec<&'static str> {
    let mut scored: Vec<(bool, usize, usize, &'static str)> = ENTRIES
        .iter()
        .enumerate()
        .map(|(at, entry)| (!entry.code.starts_with(typed), distance(typed, entry.code), at, entry.code))
        .filter(|(_, distance, _, code)| *distance <= 3.max(code.len() / 3) || code.contains(typed))
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(3).map(|(.., code)| code).collect()
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let kept = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

macro_rules! registry {
    ($($family:ident { $($kind:ident $code:literal $title:literal $brief:literal)* })*) => {
        const ENTRIES: &[Entry] = &[$($(
            Entry {
                code: $code,
                kind: Kind::$kind,
                family: Family::$family,
                title: $title,
                brief: $brief,
                page: include_str!(concat!("../../causes/", $code, ".md")),
            },
        )*)*];
    };
}

registry! {
    Link {
        Cause "link-down" "a device on the way is down"
            "the device it must leave or enter by is administratively down"
        Cause "peer-down" "the other end of the veth pair is down"
            "the device is up, but the other end of its veth pair is down (LOWERLAYERDOWN, NO-CARRIER)"
        Cause "no-carrier" "the device has no carrier"
            "the device is up without a carrier, and it is no veth: a bridge without an active port, a macvlan whose parent is down"
        Cause "not-attached" "a cable end that is plugged into nothing"
            "a veth end that should be a port of a bridge or of Open vSwitch has no master, so frames stop there"
        Cause "mac-mismatch" "the frame is addressed to another MAC"
            "the frame carries another MAC than the receiver's (wrong static neighbour, stale entry), so the receiver ignores it"
        Cause "mtu-exceeded" "the packet is too large for a link"
            "the packet is larger than the MTU of a device on its way and may not be fragmented there"
        Cause "qdisc-drop" "a queueing discipline dropped it"
            "a queueing discipline dropped it (limit reached, netem loss, a bucket too small)"
        Cause "tc-drop" "a tc filter dropped it"
            "a tc filter or action dropped it"
        Cause "xdp-drop" "an XDP program dropped it"
            "an XDP program at the device dropped it before the network stack saw it"
        Cause "cgroup-bpf-drop" "a cgroup's BPF program refused it"
            "a BPF program attached to the cgroup of the process refused it"
    }
    Bridge {
        Cause "bridge-port-blocking" "the bridge port is not forwarding"
            "the bridge port is not in the forwarding state, by STP or because it was set so by hand"
        Cause "bridge-port-isolated" "both bridge ports are isolated"
            "both ports are isolated, and an isolated port may not talk to another isolated port"
        Cause "bridge-vlan-filtered" "the bridge's VLAN filter refused it"
            "VLAN filtering: the frame's VLAN is not allowed on the ingress or egress port, or there is no PVID"
        Cause "bridge-no-flood" "flooding is off on the port it needed"
            "flooding of unknown unicast, multicast or broadcast frames is off on the port that it needed"
        Cause "bridge-fdb-wrong" "the forwarding database points to the wrong port"
            "a forwarding-database entry sends it to the wrong port, or to the bridge itself"
        Cause "bridge-hairpin-off" "it would have to leave by the port it came in by"
            "it would have to leave by the bridge port it came in by, and that port has hairpin off"
        Cause "bridge-netfilter-drop" "an IP firewall rule dropped a bridged packet"
            "br_netfilter hands bridged packets to iptables and nftables `ip`/`inet` rules, and one dropped it"
        Cause "bridge-filter-drop" "a bridge firewall rule dropped it"
            "a rule of nftables family `bridge` or of ebtables dropped it"
        Cause "bridge-neigh-suppress" "the bridge answered with a stale neighbour entry"
            "the bridge answers ARP or ND in the owner's stead, from an entry of its own that is out of date"
        Cause "macvlan-vepa-no-hairpin" "the switch does not reflect VEPA frames"
            "macvlan VEPA: frames between siblings must be reflected by the adjacent switch, and it does not"
        Cause "macvlan-private" "macvlan private mode keeps siblings apart"
            "macvlan private mode: siblings may not talk to each other"
        Cause "macvlan-parent-isolation" "a macvlan or ipvlan and its parent cannot talk"
            "the parent device's own namespace and the macvlan or ipvlan devices on it cannot talk to each other"
        Cause "ipvlan-mode-isolation" "the ipvlan mode or flag keeps it away"
            "ipvlan with the private or VEPA flag, or in an L3 mode, which takes no broadcast and answers no ARP"
        Cause "vlan-mismatch" "nobody there has this VLAN"
            "the tag on the frame (or its absence) matches no VLAN device or port on the receiving side"
        Cause "vxlan-no-remote" "the VXLAN tunnel has nowhere to send it"
            "the tunnel has no default remote and no FDB entry for the destination"
        Cause "vxlan-vni-mismatch" "no tunnel at the far end has this VNI"
            "the outer packet arrives, but no tunnel there has this VNI"
        Cause "vxlan-port-mismatch" "the tunnel ends use different UDP ports"
            "the two ends of the tunnel use different UDP ports, so nobody listens where the outer packet arrives"
        Note "vxlan-underlay-lost" "the tunnel's outer packet was lost"
            "the outer packet was lost on the underlay; the cause named is that of the outer packet"
        Cause "ovs-drop" "Open vSwitch dropped it"
            "an Open vSwitch flow dropped it, or no flow matched"
        Cause "bridge-port-locked" "a locked bridge port does not know the sender"
            "the bridge port is locked (802.1X), and the sender's address has no entry on it"
    }
    Arp {
        Cause "arp-no-owner" "nobody owns the address"
            "the ARP request or neighbour solicitation reached every station, and none owns the address"
        Cause "arp-ignored" "the owner does not answer ARP for it"
            "the owner saw the request, but arp_ignore, arp_filter or an arp rule keeps it from answering"
        Cause "arp-disabled" "ARP is off on the device"
            "the device has ARP off (NOARP), so the address can never be resolved"
        Cause "neigh-table-full" "the neighbour table is full"
            "the neighbour table overflowed, so no entry could be made for the next hop"
        Cause "duplicate-address" "two stations have the address"
            "two stations answer for one address, and the frame went to the other one"
        Cause "duplicate-mac" "two stations have one MAC"
            "two stations, or a station and the bridge or tunnel device itself, have one MAC"
        Cause "address-on-port" "the address is on a bridge port"
            "the address sits on a device that is a port of a bridge: frames for it are taken by the bridge, never answered there"
        Cause "ipv6-disabled" "IPv6 is disabled there"
            "IPv6 is disabled on the device or in the namespace (disable_ipv6)"
        Cause "nd-dad-failed" "the IPv6 address failed duplicate address detection"
            "the IPv6 address is tentative or failed duplicate address detection, so nobody answers for it"
    }
    Route {
        Cause "no-route" "no route to the destination"
            "no route to the destination, at the sender or at a forwarder"
        Cause "route-blackhole" "a blackhole route swallowed it"
            "a route of type blackhole matched: dropped without a word"
        Cause "route-unreachable" "an unreachable route refused it"
            "a route of type unreachable matched: dropped, and the sender is told that the host is unreachable"
        Cause "route-prohibit" "a prohibit route refused it"
            "a route of type prohibit matched: dropped, and the sender is told that it is forbidden"
        Cause "policy-rule" "a policy rule sent the look-up astray"
            "an `ip rule` sent the look-up to a table or verdict that loses it, where the main table would have carried it"
        Cause "forwarding-disabled" "the router does not forward"
            "it arrived at a host that must forward it, and forwarding is off there"
        Cause "ttl-expired" "its TTL ran out"
            "its TTL or hop limit ran out, without a loop"
        Cause "routing-loop" "routers send it in a circle"
            "its TTL or hop limit ran out because two or more nodes send it in a circle"
        Cause "rp-filter" "the reverse-path filter refused its source"
            "reverse-path filter: the route back to its source does not use the device it came in by"
        Cause "martian-local-source" "its source is one of the receiver's own addresses"
            "its source is one of the receiving namespace's own addresses, and accept_local is off"
        Cause "martian-loopback" "a loopback address came in from the wire"
            "a 127/8 address (or ::1) came in from the wire, and route_localnet is off"
        Cause "martian-other" "an address that may not appear there"
            "another source or destination that may not appear here: multicast source, 0/8, class E"
        Cause "no-return-route" "the replier has no route back"
            "the request arrived, but the replier has no route back to its source"
        Cause "reply-misrouted" "the reply takes another way and is lost there"
            "the reply leaves by another way than the request came, and is lost there"
        Cause "local-route-missing" "the address is there, its local route is not"
            "the address is configured, but its entry in the local table is gone, so the namespace asks the network for its own address"
        Cause "source-unusable" "the source address cannot be used"
            "the source address asked for is not one of the sender's, or is unusable (deprecated, tentative, of the wrong device)"
        Cause "wrong-source-address" "a source that the other side cannot answer"
            "the sender picked a source address to which the other side cannot reply"
        Cause "gateway-unreachable" "the gateway does not answer"
            "the next hop of the route does not answer address resolution"
    }
    Filter {
        Cause "netfilter-drop" "a firewall rule dropped it"
            "an iptables or nftables rule, or a chain's policy, dropped or rejected it"
        Cause "conntrack-invalid" "connection tracking refused it"
            "connection tracking found it invalid, or its table is full"
        Cause "nat-missing" "it left without the NAT it needed"
            "it left with a source that its peer cannot answer; masquerading should have applied and did not"
        Cause "echo-ignored" "the host ignores pings"
            "the host ignores ICMP echo (icmp_echo_ignore_all, icmp_echo_ignore_broadcasts)"
        Cause "port-closed" "nobody listens on the port"
            "no socket listens on the destination port"
        Cause "socket-overflow" "the receiving socket is full"
            "the receiving socket's queue is full"
        Cause "socket-bound-elsewhere" "the reply came to a socket bound elsewhere"
            "it arrived, but the waiting socket is bound to another device or address"
        Cause "checksum-error" "a checksum is wrong"
            "the checksum of the IP header or of the ICMP message is wrong, so the receiver drops it"
        Cause "ipsec-policy" "an IPsec policy refused it"
            "an IPsec policy requires what the packet does not have"
        Cause "remote-silent" "it left correctly, and nothing came back"
            "it left this machine correctly, and nothing came back; what happens beyond cannot be seen from here"
    }
    Note {
        Note "loopback-reply" "the reply goes over lo"
            "both ends belong to one namespace, so the reply goes over lo and is never seen on the devices"
        Note "arp-cached" "the neighbour was already known"
            "no ARP request was seen, because the neighbour entry was already resolved"
        Note "local-delivery" "the destination is local"
            "the destination is an address of this namespace, so the packet never left by the device that was asked for"
        Note "nat-rewritten" "addresses were rewritten on the way"
            "addresses or ports were rewritten on the way"
        Note "asymmetric-path" "the reply took another way"
            "the reply took another path than the request"
        Note "duplicate-route" "two equal routes compete"
            "two routes of equal prefix and metric compete, and the first one added wins"
        Note "scope-missing" "a link-local address without a zone"
            "a link-local destination was asked for without a zone (%dev), and the kernel chose a device"
        Note "udp-unanswered" "the datagram arrived, and nobody answered"
            "a socket took the datagram and answered nothing; UDP by itself acknowledges nothing"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_kebab_case() {
        for (at, entry) in all().iter().enumerate() {
            assert_eq!(position(entry.code), at, "{} is listed twice", entry.code);
            assert!(
                entry.code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{} is not kebab-case",
                entry.code
            );
        }
    }

    #[test]
    fn families_are_listed_in_their_order() {
        let families: Vec<Family> = all().iter().map(|entry| entry.family).collect();
        assert!(families.is_sorted(), "an entry stands in the wrong family");
    }

    #[test]
    fn every_page_has_its_title_and_its_sections_in_order() {
        let cause = [
            "What happens",
            "How it looks from outside",
            "How vnet-trace knows",
            "How to see it by hand",
            "Fix",
            "Not to be confused with",
            "Kernel",
            "Lab",
        ];
        let note = [
            "What happens",
            "How it looks from outside",
            "How vnet-trace knows",
            "How to see it by hand",
            "Kernel",
            "Lab",
        ];
        for entry in all() {
            let mut lines = entry.page.lines();
            assert_eq!(
                lines.next(),
                Some(format!("# {}: {}", entry.code, entry.title).as_str()),
                "heading of {}",
                entry.code
            );
            let sections: Vec<&str> = lines.filter_map(|line| line.strip_prefix("## ")).collect();
            let expected: &[&str] = if entry.kind == Kind::Cause { &cause } else { &note };
            assert_eq!(sections, expected, "sections of {}", entry.code);
        }
    }

    #[test]
    fn no_section_is_empty() {
        for entry in all() {
            for section in entry.page.split("\n## ").skip(1) {
                let (heading, body) = section.split_once('\n').unwrap_or((section, ""));
                assert!(!body.trim().is_empty(), "{}: section `{heading}` is empty", entry.code);
            }
        }
    }

    #[test]
    fn pages_fit_eighty_columns_except_for_what_is_typed() {
        for entry in all() {
            let mut in_block = false;
            for line in entry.page.lines() {
                in_block ^= line.starts_with("```");
                assert!(in_block || line.chars().count() <= 80, "{}: {line}", entry.code);
            }
            assert!(!in_block, "{}: a code block is not closed", entry.code);
        }
    }

    #[test]
    fn a_mistyped_code_finds_its_neighbours() {
        assert_eq!(similar("rp-filer").first(), Some(&"rp-filter"));
        assert_eq!(similar("martian-local").first(), Some(&"martian-local-source"));
        assert!(similar("xyzzyxyzzyxyzzyxyzzy").is_empty());
    }
}
