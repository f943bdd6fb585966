//! One sighting of a packet by a probe in the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{Device, IfIndex, MacAddr, Nanos, NetnsId, SkbId};

/// One record of one probe, decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Nanos,
    /// On which CPU.
    pub cpu: u32,
    /// The socket buffer; None for events that carry none (neighbour updates, lookups).
    pub skb: Option<SkbId>,
    /// The start of its data buffer: clones share it.
    pub head: Option<u64>,
    /// The device the packet was at; None before routing, or if its namespace is not in the snapshot.
    pub device: Option<Device>,
    /// The namespace, when it is known and the device is not; [`NetnsId::ELSEWHERE`] for one that is not in the snapshot.
    pub netns: Option<NetnsId>,
    /// Link-layer header, if it was valid where the event was taken: destination, source, type.
    pub mac: Option<MacHeader>,
    /// The packet from its network header on, as many bytes as the probe copied. Sightings of one packet may share them.
    #[serde(with = "shared_bytes")]
    pub bytes: Arc<[u8]>,
    /// Length of the packet in bytes, from the network header or the MAC header depending on the site.
    pub len: u32,
    /// `skb->pkt_type`: 0 host, 1 broadcast, 2 multicast, 3 other host, 4 outgoing.
    pub pkt_type: u8,
    /// fwmark.
    pub mark: u32,
    /// What the probe saw.
    pub kind: EventKind,
}

/// An Ethernet header as it was in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacHeader {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// Ethertype, host byte order.
    pub ethertype: u16,
}

/// What a probe saw. The variant says where in the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// `net_dev_queue`: handed to the device for transmission, before its qdisc.
    Queue,
    /// `net_dev_start_xmit`: handed to the driver, after the qdisc.
    Xmit,
    /// `netif_rx`: put on a backlog.
    NetifRx,
    /// `netif_receive_skb`: the device received it.
    Receive,
    /// `kfree_skb`: dropped.
    Drop {
        /// Reason by name (`NETFILTER_DROP`), without prefix; None before Linux 5.17.
        reason: Option<String>,
        /// The function that freed it, by symbol.
        location: Option<String>,
    },
    /// `consume_skb`: freed without complaint. The normal end, and the end of silent losses.
    Consume {
        /// The function that freed it, by symbol, where the kernel says so.
        location: Option<String>,
    },
    /// `fib_table_lookup`, `fib6_table_lookup`.
    FibLookup {
        /// Routing table.
        table: u32,
        /// Source of the flow.
        src: IpAddr,
        /// Destination of the flow.
        dst: IpAddr,
        /// Input interface of the flow: 1 (lo) for output look-ups, 0 for address-type checks.
        iif: IfIndex,
        /// Output interface demanded by the flow, 0 if none.
        oif: IfIndex,
        /// 0 or a negative errno.
        error: i32,
        /// Device of the next hop that was found.
        nexthop: Option<Device>,
        /// The gateway that was found; None on-link.
        #[serde(default)]
        gateway: Option<IpAddr>,
    },
    /// The return value of a function that judges a packet (`fib_validate_source`, `nf_hook_slow`, …).
    Return {
        /// The function.
        function: String,
        /// What it returned: 0 or positive is usually success.
        value: i64,
        /// The drop reason or errno by name, if `value` is one.
        meaning: Option<String>,
    },
    /// A function was entered with the packet.
    Enter {
        /// The function.
        function: String,
    },
    /// A netfilter hook ended with this verdict.
    Netfilter {
        /// NFPROTO_*.
        pf: u8,
        /// Hook number.
        hook: u8,
        /// 1 accepted, -1 (-EPERM) or other negative dropped, 0 stolen or queued.
        verdict: i32,
    },
    /// `neigh_update`.
    Neigh {
        /// The neighbour's address.
        address: IpAddr,
        /// The new link-layer address, if any.
        lladdr: Option<MacAddr>,
        /// NUD_* bits after the update.
        state: u16,
    },
    /// `icmp_send`: the kernel answers this packet with an ICMP error.
    IcmpSend {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// `skb_clone`: `skb` is the new one.
    Clone {
        /// The original.
        of: SkbId,
    },
}

/// Shared packet bytes, written as by [`serde_bytes_vec`].
pub mod shared_bytes {
    use std::sync::Arc;

    use serde::{Deserializer, Serializer};

    use super::serde_bytes_vec;

    /// Writes the bytes as one byte string.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes_vec::serialize(bytes, serializer)
    }

    /// Reads a byte string or a sequence of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        serde_bytes_vec::deserialize(deserializer).map(Arc::from)
    }
}

/// Packet bytes as a CBOR byte string (compact) rather than an array of numbers.
pub mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de};

    /// Writes the bytes as one byte string.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads a byte string or a sequence of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Whether a function belongs to packet sockets (net/packet/af_packet.c). What ends there is the copy of a capture, ours or
/// somebody's, and never the packet.
pub fn is_capture(function: &str) -> bool {
    matches!(function, "tpacket_rcv" | "packet_rcv" | "packet_rcv_spkt" | "packet_rcv_fanout" | "packet_recvmsg")
}
