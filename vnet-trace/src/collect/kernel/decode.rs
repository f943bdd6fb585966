//! Records become events of the model, and reports become sight.
//!
//! Takes a [`KernelRecord`] and gives a [`Event`]: inode numbers of namespaces become the snapshot's
//! own numbers, addresses of code become functions. Both mappings are the caller's, so nothing here
//! reads the machine, and a record can be decoded when the snapshot is complete.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nix::errno::Errno;
use vnet_trace_ebpf::ProbeId;

use super::attach;
use super::record::{Detail, DeviceRef, DropReason, KernelRecord};
use super::report::{ProbeReport, WhyNot};
use crate::model::event::{Event, EventKind, MacHeader};
use crate::model::id::{Device, IfIndex, MacAddr, Nanos, NetnsId, SkbId};
use crate::model::sight::{ProbeSight, Tier};

/// What a record refers to and only the caller knows.
pub struct Names<'a> {
    /// The snapshot's number of a namespace, by inode; None for a namespace that is not in it.
    pub netns: &'a dyn Fn(u32) -> Option<NetnsId>,
    /// The function that an address of kernel code is in.
    pub symbol: &'a mut dyn FnMut(u64) -> Option<Arc<str>>,
}

/// Turns a record into an event.
pub fn event(record: &KernelRecord, names: &mut Names<'_>) -> Event {
    let device = record.device.and_then(|device| resolve(device, names));
    let inode = record.inode().filter(|_| device.is_none());
    let netns = inode.map(|inode| (names.netns)(inode).unwrap_or(NetnsId::ELSEWHERE));
    Event {
        time: Nanos(record.time_ns),
        cpu: u32::from(record.cpu),
        skb: skb(record),
        head: (record.head != 0).then_some(record.head),
        device,
        netns,
        mac: record.mac.map(mac_header),
        bytes: record.packet.clone(),
        len: record.len,
        pkt_type: record.pkt_type,
        mark: record.mark,
        kind: kind(record, names),
    }
}

/// Turns the report of a probe into sight.
pub fn sight(report: &ProbeReport) -> ProbeSight {
    let attached = report.tier != Tier::Capture;
    ProbeSight {
        name: attach::place(report.probe).to_owned(),
        tier: attached.then_some(report.tier),
        target: attached.then(|| report.place.to_owned()),
        why: (!attached).then(|| reasons(report)),
        blind: report.blind.to_owned(),
    }
}

/// Why a probe is not attached: what the last resort failed for, or the best way if no other says more.
fn reasons(report: &ProbeReport) -> String {
    let mut reasons: Vec<String> = Vec::new();
    for failure in &report.failures {
        let text = format!("{}: {}", failure.tier.name(), why(&failure.why));
        if !reasons.contains(&text) {
            reasons.push(text);
        }
    }
    reasons.join("; ")
}

/// Why a way to attach failed, in words.
pub fn why(why: &WhyNot) -> String {
    match why {
        WhyNot::OtherTier => "another tier was asked for".to_owned(),
        WhyNot::Absent => "the kernel has no such function or tracepoint".to_owned(),
        WhyNot::Arguments { found, expected } => {
            format!("the function has {found} arguments, not {expected}")
        }
        WhyNot::Unsupported => "the kernel does not support it".to_owned(),
        WhyNot::Denied => "not permitted".to_owned(),
        WhyNot::Waits => "attached when a packet was lost".to_owned(),
        WhyNot::NoBtf { what } | WhyNot::Refused { what } => what.clone(),
    }
}

fn skb(record: &KernelRecord) -> Option<SkbId> {
    match record.detail {
        Detail::Clone { skb } => Some(SkbId(skb)),
        _ => (record.skb != 0).then_some(SkbId(record.skb)),
    }
}

fn kind(record: &KernelRecord, names: &mut Names<'_>) -> EventKind {
    match &record.detail {
        Detail::Seen => passed(record.probe),
        Detail::Drop { reason, location } => drop_event(record.probe, reason.as_ref(), *location, names),
        Detail::Consume { location } => {
            EventKind::Consume { location: location.and_then(|address| symbol(address, names)) }
        }
        Detail::Clone { .. } => EventKind::Clone { of: SkbId(record.skb) },
        Detail::FibLookup(lookup) => EventKind::FibLookup {
            table: lookup.table,
            src: lookup.source.unwrap_or_else(|| unspecified(lookup.destination)),
            dst: lookup.destination,
            iif: IfIndex(lookup.iif),
            oif: IfIndex(lookup.oif),
            error: lookup.error,
            nexthop: record.other.and_then(|device| resolve(device, names)),
            gateway: lookup.gateway,
        },
        Detail::ValidateSource { value, reason, .. } | Detail::RouteInput { value, reason, .. } => EventKind::Return {
            function: attach::place(record.probe).to_owned(),
            value: i64::from(*value),
            meaning: reason_text(reason.as_ref()).or_else(|| errno(*value)),
        },
        Detail::IcmpSend { kind, code } => EventKind::IcmpSend { kind: *kind, code: *code },
        Detail::Neigh(neigh) => EventKind::Neigh {
            address: neigh.address,
            lladdr: neigh.lladdr.map(MacAddr),
            state: u16::from(neigh.new_state.unwrap_or(neigh.state)),
        },
        Detail::NfHook { value, hook, family } => EventKind::Netfilter { pf: *family, hook: *hook, verdict: *value },
        Detail::OvsAction { .. } | Detail::SocketRead { .. } => {
            EventKind::Enter { function: attach::place(record.probe).to_owned() }
        }
    }
}

fn passed(probe: ProbeId) -> EventKind {
    match probe {
        ProbeId::NetDevQueue => EventKind::Queue,
        ProbeId::NetDevStartXmit => EventKind::Xmit,
        ProbeId::NetifRx => EventKind::NetifRx,
        ProbeId::NetifReceiveSkb => EventKind::Receive,
        _ => EventKind::Enter { function: attach::place(probe).to_owned() },
    }
}

/// A queueing discipline says why before the drop itself is reported; only the latter ends the packet.
fn drop_event(probe: ProbeId, reason: Option<&DropReason>, location: u64, names: &mut Names<'_>) -> EventKind {
    if probe == ProbeId::QdiscDrop {
        return EventKind::Return {
            function: attach::place(probe).to_owned(),
            value: reason.map_or(0, |reason| i64::from(reason.number)),
            meaning: reason_text(reason),
        };
    }
    EventKind::Drop { reason: reason_text(reason), location: symbol(location, names) }
}

/// The name of a reason, or its number where the kernel has no name for it.
fn reason_text(reason: Option<&DropReason>) -> Option<String> {
    let reason = reason?;
    Some(match &reason.name {
        Some(name) => name.to_string(),
        None => reason.number.to_string(),
    })
}

fn errno(value: i32) -> Option<String> {
    (-4095..0).contains(&value).then(|| format!("{:?}", Errno::from_raw(-value)))
}

fn symbol(address: u64, names: &mut Names<'_>) -> Option<String> {
    (names.symbol)(address).map(|name| name.to_string())
}

fn resolve(device: DeviceRef, names: &Names<'_>) -> Option<Device> {
    let netns = device.netns.and_then(names.netns)?;
    Some(Device { netns, ifindex: IfIndex(device.ifindex) })
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn mac_header(bytes: [u8; 14]) -> MacHeader {
    let address = |from: usize| {
        let mut address = [0; 6];
        address.copy_from_slice(&bytes[from..from + 6]);
        MacAddr(address)
    };
    MacHeader { dst: address(0), src: address(6), ethertype: u16::from_be_bytes([bytes[12], bytes[13]]) }
}

#[cfg(test)]
pub(crate) mod tests {
    use vnet_trace_ebpf::Role;

    use super::*;

    pub fn record(probe: ProbeId, detail: Detail) -> KernelRecord {
        KernelRecord {
            time_ns: 7,
            cpu: 1,
            probe,
            role: Role::ArpRequest,
            skb: 0x10,
            head: 0x20,
            origin: 1,
            first: true,
            by_head: false,
            cloned: false,
            context: false,
            device: Some(DeviceRef { netns: Some(4000), ifindex: 2 }),
            device_of_route: false,
            netns: Some(4000),
            other: None,
            len: 42,
            mark: 0,
            iif: None,
            protocol: 0x0806,
            pkt_type: 1,
            vlan: None,
            mac: None,
            packet: vec![0; 28].into(),
            detail,
        }
    }

    fn decode(record: &KernelRecord) -> Event {
        event(
            record,
            &mut Names {
                netns: &|inode| (inode == 4000).then_some(NetnsId(3)),
                symbol: &mut |_| Some(Arc::from("arp_process")),
            },
        )
    }

    #[test]
    fn a_device_is_known_by_the_snapshots_namespace() {
        let event = decode(&record(ProbeId::NetDevQueue, Detail::Seen));
        assert_eq!(event.device, Some(Device { netns: NetnsId(3), ifindex: IfIndex(2) }));
        assert_eq!(event.kind, EventKind::Queue);
    }

    #[test]
    fn a_device_in_an_unknown_namespace_is_no_device() {
        let mut record = record(ProbeId::NetDevQueue, Detail::Seen);
        record.device = Some(DeviceRef { netns: Some(5000), ifindex: 2 });
        record.netns = Some(5000);
        let event = decode(&record);
        assert_eq!((event.device, event.netns), (None, Some(NetnsId::ELSEWHERE)));
    }

    #[test]
    fn a_return_value_is_an_errno_unless_the_kernel_calls_it_a_reason() {
        let returned = |reason| Detail::ValidateSource {
            value: -22,
            reason,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
        };
        let meaning = |detail| match decode(&record(ProbeId::FibValidateSource, detail)).kind {
            EventKind::Return { meaning, function, .. } => {
                assert_eq!(function, "fib_validate_source");
                meaning
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(meaning(returned(None)).as_deref(), Some("EINVAL"));
        let reason = DropReason { number: 22, name: Some(Arc::from("IP_LOCAL_SOURCE")) };
        assert_eq!(meaning(returned(Some(reason))).as_deref(), Some("IP_LOCAL_SOURCE"));
    }

    #[test]
    fn a_clone_is_the_new_skb() {
        let event = decode(&record(ProbeId::SkbClone, Detail::Clone { skb: 0x30 }));
        assert_eq!(event.skb, Some(SkbId(0x30)));
        assert_eq!(event.kind, EventKind::Clone { of: SkbId(0x10) });
    }
}
