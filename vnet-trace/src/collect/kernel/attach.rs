//! The table of attach points: which probe sits where, in order of preference, and what we are blind
//! to without it.
//!
//! A probe is one place that we want to watch; a [`Target`] is one way to get there. The best that
//! the kernel allows is taken, and which one it was is reported. The order is always: entry and return
//! of the function (`fentry`/`fexit`), the same by `kprobe`/`kretprobe`, then a tracepoint; a place
//! that has a tracepoint with the same information has no other target, since a tracepoint is the
//! cheapest and exists on every kernel.
//!
//! Known limits (see the notes of each kernel's documentation on BPF trampolines): functions of
//! modules can be reached by `kprobe` only; `fexit` on a function with more than six arguments cannot
//! be attached before 6.6, a `kretprobe` can.

use vnet_trace_ebpf::ProbeId;

pub use crate::model::sight::Tier;

/// One way to attach a probe: a program of the object, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tracepoint whose arguments have types: reading a field is a plain load. For those on every
    /// packet's way.
    TpBtf {
        /// The program.
        program: &'static str,
        /// The tracepoint.
        tracepoint: &'static str,
    },
    /// A tracepoint without types: also those of modules, and quicker to load, since the kernel (6.16
    /// and later) searches its BTF by name for each program that has types.
    RawTp {
        /// The program.
        program: &'static str,
        /// The tracepoint.
        tracepoint: &'static str,
    },
    /// The entry of a function of vmlinux.
    Fentry {
        /// The program.
        program: &'static str,
        /// The function.
        function: &'static str,
        /// How many arguments the program expects; it reads them by position.
        arguments: usize,
    },
    /// The return of a function of vmlinux.
    Fexit {
        /// The program.
        program: &'static str,
        /// The function.
        function: &'static str,
        /// How many arguments the program expects; the return value follows them.
        arguments: usize,
    },
    /// Entry and return of a function of vmlinux, joined by the program.
    FentryFexit {
        /// The program at the entry.
        entry: &'static str,
        /// The program at the return.
        exit: &'static str,
        /// The function.
        function: &'static str,
        /// How many arguments the program expects.
        arguments: usize,
    },
    /// The entry of any function.
    Kprobe {
        /// The program.
        program: &'static str,
        /// The function.
        function: &'static str,
    },
    /// Entry and return of any function, joined by the program.
    KprobeKretprobe {
        /// The program at the entry.
        entry: &'static str,
        /// The program at the return.
        exit: &'static str,
        /// The function.
        function: &'static str,
    },
}

impl Target {
    /// By what means it attaches.
    pub const fn tier(&self) -> Tier {
        match self {
            Self::TpBtf { .. } | Self::RawTp { .. } => Tier::Tracepoint,
            Self::Fentry { .. } | Self::Fexit { .. } | Self::FentryFexit { .. } => Tier::Fentry,
            Self::Kprobe { .. } | Self::KprobeKretprobe { .. } => Tier::Kprobe,
        }
    }

    /// The programs of the object that it takes, the entry's before the return's.
    pub fn programs(&self) -> Vec<&'static str> {
        match *self {
            Self::TpBtf { program, .. }
            | Self::RawTp { program, .. }
            | Self::Fentry { program, .. }
            | Self::Fexit { program, .. }
            | Self::Kprobe { program, .. } => vec![program],
            Self::FentryFexit { entry, exit, .. } | Self::KprobeKretprobe { entry, exit, .. } => {
                vec![entry, exit]
            }
        }
    }

    /// The function or tracepoint.
    pub const fn place(&self) -> &'static str {
        match *self {
            Self::TpBtf { tracepoint, .. } | Self::RawTp { tracepoint, .. } => tracepoint,
            Self::Fentry { function, .. }
            | Self::Fexit { function, .. }
            | Self::FentryFexit { function, .. }
            | Self::Kprobe { function, .. }
            | Self::KprobeKretprobe { function, .. } => function,
        }
    }
}

/// Which part of the kernel must be there for a probe to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Always there.
    Core,
    /// A module (or built in); without it no packet can come this way.
    Module(&'static str),
    /// A kernel that has this tracepoint or function, which came later or will go.
    Version,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct AttachPoint {
    /// Which records come from it.
    pub probe: ProbeId,
    /// Ways to attach, best first.
    pub targets: &'static [Target],
    /// Which part of the kernel it belongs to.
    pub needs: Needs,
    /// What cannot be seen without it.
    pub blind: &'static str,
}

/// What a question is about, as far as it decides which places its packets can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of packets, or of what is said about them")]
pub struct Scope {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
    /// ARP.
    pub arp: bool,
    /// ICMP and ICMPv6.
    pub icmp: bool,
    /// Entries of the neighbour tables, which belong to addresses and not to packets.
    pub neighbours: bool,
    /// What the packets are wrapped in, of whatever family.
    pub tunnels: bool,
    /// What happens to packets on their way, and not only that they are lost.
    pub way: bool,
    /// The moment between a device and its peer, which each other packet of the machine would pay for as well.
    pub handing: bool,
}

impl Scope {
    /// Everything.
    pub const ALL: Self = Self {
        ipv4: true,
        ipv6: true,
        arp: true,
        icmp: true,
        neighbours: true,
        tunnels: true,
        way: true,
        handing: true,
    };
}

impl AttachPoint {
    /// Whether a packet of the question can come here, and whether it is to be told.
    pub fn concerns(&self, scope: &Scope) -> bool {
        use ProbeId as Id;
        let kind = match self.probe {
            // ARP asks for a route, and is refused by its source, as an IPv4 packet is.
            Id::FibTableLookup | Id::FibValidateSource | Id::IpRouteInput => scope.ipv4 || scope.arp,
            Id::IpForward | Id::IpLocalDeliver | Id::IcmpSend => scope.ipv4,
            Id::IcmpRcv | Id::IcmpEcho => scope.ipv4 && scope.icmp,
            Id::Fib6TableLookup => scope.ipv6 || scope.tunnels,
            Id::Ip6Forward | Id::Icmp6Send => scope.ipv6,
            Id::Icmpv6Rcv | Id::NdiscRcv => scope.ipv6 && scope.icmp,
            Id::ArpProcess => scope.arp,
            // The reception that follows shows it as well.
            Id::NetifRx => scope.handing,
            Id::NeighUpdate | Id::NeighEventSend | Id::NeighTimer => scope.neighbours,
            _ => true,
        };
        // Where packets begin to be followed, are changed into others, and end.
        let is_needed = matches!(
            self.probe,
            Id::KfreeSkb | Id::ConsumeSkb | Id::SkbClone | Id::QdiscDrop | Id::NetDevQueue | Id::NetifReceiveSkb
        );
        kind && (scope.way || is_needed)
    }

    /// Whether the way of a packet from device to device, and its end, can be told without it.
    pub const fn can_wait(&self) -> bool {
        use ProbeId as Id;
        !matches!(self.probe, Id::KfreeSkb | Id::ConsumeSkb | Id::QdiscDrop | Id::NetDevStartXmit | Id::NetifReceiveSkb)
    }
}

const fn tp(program: &'static str, tracepoint: &'static str) -> Target {
    Target::TpBtf { program, tracepoint }
}

const fn raw(program: &'static str, tracepoint: &'static str) -> Target {
    Target::RawTp { program, tracepoint }
}

const fn fentry(program: &'static str, function: &'static str, arguments: usize) -> Target {
    Target::Fentry { program, function, arguments }
}

const fn kprobe(program: &'static str, function: &'static str) -> Target {
    Target::Kprobe { program, function }
}

/// The row of a probe's records.
pub fn row(probe: ProbeId) -> Option<&'static AttachPoint> {
    TABLE.iter().find(|row| row.probe == probe)
}

/// The function or tracepoint that stands for a probe, whichever way it is attached.
pub fn place(probe: ProbeId) -> &'static str {
    row(probe).and_then(|row| row.targets.first()).map_or("", Target::place)
}

/// Every attach point.
pub const TABLE: &[AttachPoint] = &[
    AttachPoint {
        probe: ProbeId::KfreeSkb,
        targets: &[raw("raw_kfree_skb", "kfree_skb")],
        needs: Needs::Core,
        blind: "where the kernel drops a packet, and the reason that it gives",
    },
    AttachPoint {
        probe: ProbeId::ConsumeSkb,
        targets: &[raw("raw_consume_skb", "consume_skb")],
        needs: Needs::Core,
        blind: "the end of packets that are taken without complaint, such as an unanswered ARP request",
    },
    AttachPoint {
        probe: ProbeId::SkbClone,
        targets: &[Target::Fexit { program: "fexit_skb_clone", function: "skb_clone", arguments: 2 }],
        needs: Needs::Core,
        blind: "copies whose headers are changed before any other probe sees them",
    },
    AttachPoint {
        probe: ProbeId::NetDevQueue,
        targets: &[tp("tp_net_dev_queue", "net_dev_queue")],
        needs: Needs::Core,
        blind: "packets that reach a device but not its driver, because of the queueing discipline or a filter",
    },
    AttachPoint {
        probe: ProbeId::NetDevStartXmit,
        targets: &[tp("tp_net_dev_start_xmit", "net_dev_start_xmit")],
        needs: Needs::Core,
        blind: "transmission by a device",
    },
    AttachPoint {
        probe: ProbeId::NetifRx,
        targets: &[tp("tp_netif_rx", "netif_rx")],
        needs: Needs::Core,
        blind: "the moment when a virtual device hands a packet to its peer",
    },
    AttachPoint {
        probe: ProbeId::NetifReceiveSkb,
        targets: &[tp("tp_netif_receive_skb", "netif_receive_skb")],
        needs: Needs::Core,
        blind: "reception by a device, and which route look-up belongs to which packet",
    },
    AttachPoint {
        probe: ProbeId::VethXmit,
        targets: &[fentry("fentry_veth_xmit", "veth_xmit", 2), kprobe("kprobe_veth_xmit", "veth_xmit")],
        needs: Needs::Module("veth"),
        blind: "nothing that net_dev_start_xmit does not show",
    },
    AttachPoint {
        probe: ProbeId::QdiscDrop,
        targets: &[raw("raw_qdisc_drop", "qdisc_drop")],
        needs: Needs::Version,
        blind: "why a queueing discipline dropped a packet, beyond that it did",
    },
    AttachPoint {
        probe: ProbeId::FibTableLookup,
        targets: &[raw("raw_fib_table_lookup", "fib_table_lookup")],
        needs: Needs::Core,
        blind: "which IPv4 route was looked up and found",
    },
    AttachPoint {
        probe: ProbeId::Fib6TableLookup,
        targets: &[raw("raw_fib6_table_lookup", "fib6_table_lookup")],
        needs: Needs::Module("ipv6"),
        blind: "which IPv6 route was looked up and found",
    },
    AttachPoint {
        probe: ProbeId::FibValidateSource,
        targets: &[
            Target::Fexit { program: "fexit_fib_validate_source", function: "fib_validate_source", arguments: 8 },
            Target::KprobeKretprobe {
                entry: "kprobe_fib_validate_source",
                exit: "kretprobe_fib_validate_source",
                function: "fib_validate_source",
            },
        ],
        needs: Needs::Core,
        blind: "the verdict on a packet's source address; for ARP, whose refusal is silent, it must be deduced",
    },
    AttachPoint {
        probe: ProbeId::IpRouteInput,
        targets: &[
            Target::Fexit { program: "fexit_ip_route_input_noref", function: "ip_route_input_noref", arguments: 5 },
            Target::KprobeKretprobe {
                entry: "kprobe_ip_route_input_noref",
                exit: "kretprobe_ip_route_input_noref",
                function: "ip_route_input_noref",
            },
        ],
        needs: Needs::Core,
        blind: "the outcome of routing a packet that came in, where no drop reports it",
    },
    AttachPoint {
        probe: ProbeId::IpForward,
        targets: &[fentry("fentry_ip_forward", "ip_forward", 1), kprobe("kprobe_ip_forward", "ip_forward")],
        needs: Needs::Core,
        blind: "that an IPv4 packet is being forwarded; it shows when it is transmitted",
    },
    AttachPoint {
        probe: ProbeId::Ip6Forward,
        targets: &[fentry("fentry_ip6_forward", "ip6_forward", 1), kprobe("kprobe_ip6_forward", "ip6_forward")],
        needs: Needs::Module("ipv6"),
        blind: "that an IPv6 packet is being forwarded; it shows when it is transmitted",
    },
    AttachPoint {
        probe: ProbeId::IpLocalDeliver,
        targets: &[
            fentry("fentry_ip_local_deliver", "ip_local_deliver", 1),
            kprobe("kprobe_ip_local_deliver", "ip_local_deliver"),
        ],
        needs: Needs::Core,
        blind: "that an IPv4 packet is for this machine; the route look-up shows it",
    },
    AttachPoint {
        probe: ProbeId::IcmpRcv,
        targets: &[fentry("fentry_icmp_rcv", "icmp_rcv", 1), kprobe("kprobe_icmp_rcv", "icmp_rcv")],
        needs: Needs::Core,
        blind: "that ICMP got the packet past the input rules",
    },
    AttachPoint {
        probe: ProbeId::IcmpEcho,
        targets: &[fentry("fentry_icmp_echo", "icmp_echo", 1), kprobe("kprobe_icmp_echo", "icmp_echo")],
        needs: Needs::Core,
        blind: "that an echo request is about to be answered",
    },
    AttachPoint {
        probe: ProbeId::IcmpSend,
        targets: &[
            raw("raw_icmp_send", "icmp_send"),
            fentry("fentry_icmp_send", "__icmp_send", 5),
            kprobe("kprobe_icmp_send", "__icmp_send"),
        ],
        needs: Needs::Core,
        blind: "which packet an ICMP error is about, before the error itself is seen",
    },
    AttachPoint {
        probe: ProbeId::Icmpv6Rcv,
        targets: &[fentry("fentry_icmpv6_rcv", "icmpv6_rcv", 1), kprobe("kprobe_icmpv6_rcv", "icmpv6_rcv")],
        needs: Needs::Module("ipv6"),
        blind: "that ICMPv6 got the packet past the input rules",
    },
    AttachPoint {
        probe: ProbeId::Icmp6Send,
        targets: &[fentry("fentry_icmp6_send", "icmp6_send", 6), kprobe("kprobe_icmp6_send", "icmp6_send")],
        needs: Needs::Module("ipv6"),
        blind: "which packet an ICMPv6 error is about, before the error itself is seen",
    },
    AttachPoint {
        probe: ProbeId::ArpProcess,
        targets: &[fentry("fentry_arp_process", "arp_process", 3), kprobe("kprobe_arp_process", "arp_process")],
        needs: Needs::Core,
        blind: "that an ARP packet got past the device's flags and the ARP rules",
    },
    AttachPoint {
        probe: ProbeId::NdiscRcv,
        targets: &[fentry("fentry_ndisc_rcv", "ndisc_rcv", 1), kprobe("kprobe_ndisc_rcv", "ndisc_rcv")],
        needs: Needs::Module("ipv6"),
        blind: "that a neighbour discovery packet got past the input rules",
    },
    AttachPoint {
        probe: ProbeId::NeighUpdate,
        targets: &[raw("raw_neigh_update", "neigh_update")],
        needs: Needs::Core,
        blind: "when a neighbour's link-layer address was learned",
    },
    AttachPoint {
        probe: ProbeId::NeighEventSend,
        targets: &[raw("raw_neigh_event_send_done", "neigh_event_send_done")],
        needs: Needs::Core,
        blind: "when a packet began to wait for a neighbour's link-layer address",
    },
    AttachPoint {
        probe: ProbeId::NeighTimer,
        targets: &[raw("raw_neigh_timer_handler", "neigh_timer_handler")],
        needs: Needs::Core,
        blind: "when the kernel gave a neighbour up; the neighbour table shows it afterwards",
    },
    AttachPoint {
        probe: ProbeId::BrHandleFrame,
        targets: &[
            fentry("fentry_br_handle_frame", "br_handle_frame", 1),
            kprobe("kprobe_br_handle_frame", "br_handle_frame"),
        ],
        needs: Needs::Module("bridge"),
        blind: "that a bridge port got the frame; its reception shows it",
    },
    AttachPoint {
        probe: ProbeId::BrHandleFrameFinish,
        targets: &[
            fentry("fentry_br_handle_frame_finish", "br_handle_frame_finish", 3),
            kprobe("kprobe_br_handle_frame_finish", "br_handle_frame_finish"),
        ],
        needs: Needs::Module("bridge"),
        blind: "that a frame got past its bridge port's state and the bridge's rules",
    },
    AttachPoint {
        probe: ProbeId::BrForward,
        targets: &[fentry("fentry_br_forward", "br_forward", 4), kprobe("kprobe_br_forward", "br_forward")],
        needs: Needs::Module("bridge"),
        blind: "which port the forwarding database chose, when the port then refuses",
    },
    AttachPoint {
        probe: ProbeId::BrForwardPort,
        targets: &[
            fentry("fentry_br_forward_port", "__br_forward", 3),
            kprobe("kprobe_br_forward_port", "__br_forward"),
        ],
        needs: Needs::Module("bridge"),
        blind: "which ports a frame was flooded to; transmission by the port shows it",
    },
    AttachPoint {
        probe: ProbeId::NfHookSlow,
        targets: &[
            Target::FentryFexit {
                entry: "fentry_nf_hook_slow",
                exit: "fexit_nf_hook_slow",
                function: "nf_hook_slow",
                arguments: 4,
            },
            Target::KprobeKretprobe {
                entry: "kprobe_nf_hook_slow",
                exit: "kretprobe_nf_hook_slow",
                function: "nf_hook_slow",
            },
        ],
        needs: Needs::Core,
        blind: "at which netfilter hook a packet was accepted, dropped, queued or stolen",
    },
    AttachPoint {
        probe: ProbeId::MacvlanStartXmit,
        targets: &[
            fentry("fentry_macvlan_start_xmit", "macvlan_start_xmit", 2),
            kprobe("kprobe_macvlan_start_xmit", "macvlan_start_xmit"),
        ],
        needs: Needs::Module("macvlan"),
        blind: "nothing that net_dev_start_xmit does not show",
    },
    AttachPoint {
        probe: ProbeId::MacvlanHandleFrame,
        targets: &[
            fentry("fentry_macvlan_handle_frame", "macvlan_handle_frame", 1),
            kprobe("kprobe_macvlan_handle_frame", "macvlan_handle_frame"),
        ],
        needs: Needs::Module("macvlan"),
        blind: "that a macvlan's lower device offered it the frame; its reception shows it",
    },
    AttachPoint {
        probe: ProbeId::IpvlanStartXmit,
        targets: &[
            fentry("fentry_ipvlan_start_xmit", "ipvlan_start_xmit", 2),
            kprobe("kprobe_ipvlan_start_xmit", "ipvlan_start_xmit"),
        ],
        needs: Needs::Module("ipvlan"),
        blind: "nothing that net_dev_start_xmit does not show",
    },
    AttachPoint {
        probe: ProbeId::IpvlanHandleFrame,
        targets: &[
            fentry("fentry_ipvlan_handle_frame", "ipvlan_handle_frame", 1),
            kprobe("kprobe_ipvlan_handle_frame", "ipvlan_handle_frame"),
        ],
        needs: Needs::Module("ipvlan"),
        blind: "that an ipvlan's lower device offered it the packet; its reception shows it",
    },
    AttachPoint {
        probe: ProbeId::VxlanXmit,
        targets: &[fentry("fentry_vxlan_xmit", "vxlan_xmit", 2), kprobe("kprobe_vxlan_xmit", "vxlan_xmit")],
        needs: Needs::Module("vxlan"),
        blind: "nothing that net_dev_start_xmit does not show",
    },
    AttachPoint {
        probe: ProbeId::VxlanRcv,
        targets: &[fentry("fentry_vxlan_rcv", "vxlan_rcv", 2), kprobe("kprobe_vxlan_rcv", "vxlan_rcv")],
        needs: Needs::Module("vxlan"),
        blind: "that a VXLAN socket got the outer packet",
    },
    AttachPoint {
        probe: ProbeId::OvsUpcall,
        targets: &[raw("raw_ovs_dp_upcall", "ovs_dp_upcall")],
        needs: Needs::Module("openvswitch"),
        blind: "that Open vSwitch asked its daemon about a packet",
    },
    AttachPoint {
        probe: ProbeId::OvsAction,
        targets: &[raw("raw_ovs_do_execute_action", "ovs_do_execute_action")],
        needs: Needs::Module("openvswitch"),
        blind: "which actions Open vSwitch carried out on a packet",
    },
    AttachPoint {
        probe: ProbeId::SocketRead,
        targets: &[raw("raw_skb_copy_datagram_iovec", "skb_copy_datagram_iovec")],
        needs: Needs::Core,
        blind: "that a program has read the packet",
    },
    AttachPoint {
        probe: ProbeId::SocketFull,
        targets: &[raw("raw_sock_rcvqueue_full", "sock_rcvqueue_full")],
        needs: Needs::Core,
        blind: "that a socket had no room for the packet; the drop shows it",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_probe_has_one_row_and_every_row_says_what_we_are_blind_to() {
        let rows: Vec<ProbeId> = TABLE.iter().map(|row| row.probe).collect();
        let distinct: HashSet<ProbeId> = rows.iter().copied().collect();
        assert_eq!(rows.len(), distinct.len());
        assert_eq!(distinct, ProbeId::ALL.into_iter().collect());
        assert!(TABLE.iter().all(|row| !row.blind.is_empty() && !row.targets.is_empty()));
    }

    #[test]
    fn no_program_is_used_twice() {
        let programs: Vec<_> = TABLE.iter().flat_map(|row| row.targets).flat_map(Target::programs).collect();
        let distinct: HashSet<_> = programs.iter().collect();
        assert_eq!(programs.len(), distinct.len());
    }

    #[test]
    fn function_targets_are_ordered_best_first() {
        for row in TABLE {
            let tiers: Vec<Tier> =
                row.targets.iter().map(Target::tier).filter(|tier| *tier < Tier::Tracepoint).collect();
            assert!(tiers.is_sorted(), "{:?}", row.probe);
        }
    }
}
