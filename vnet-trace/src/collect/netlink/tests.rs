//! Every reader against messages that a kernel (6.18, x86-64) really sent, whole, cut at every length, and damaged.
//!
//! What the messages mean is compared with `ip` and its like on the running kernel in `tests/tests/snapshot.rs`; here the
//! point is that no bytes at all make a reader panic or loop.

#![cfg(target_endian = "little")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::attribute::Malformed;
use super::{
    Message, Request, address, conntrack, fdb, filter, link, neigh, parts, qdisc, route, rule, split, vlan, xfrm,
};
use crate::model::snapshot::LinkKind;

/// Says how many objects a message holds.
type Reader = fn(Message<'_>) -> Result<usize, Malformed>;

const CAPTURED: [(&str, &[u8], usize, Reader); 14] = [
    ("link", include_bytes!("captured/link.bin"), 9, |m| Ok(link::parse(m)?.iter().count())),
    ("address", include_bytes!("captured/address.bin"), 16, |m| Ok(address::parse(m)?.iter().count())),
    ("route", include_bytes!("captured/route.bin"), 18, |m| Ok(route::parse(m)?.iter().count())),
    ("route6", include_bytes!("captured/route6.bin"), 19, |m| Ok(route::parse(m)?.iter().count())),
    ("rule", include_bytes!("captured/rule.bin"), 7, |m| Ok(rule::parse(m)?.iter().count())),
    ("neigh", include_bytes!("captured/neigh.bin"), 15, |m| Ok(neigh::parse(m)?.iter().count())),
    ("neightbl", include_bytes!("captured/neightbl.bin"), 21, |m| Ok(neigh::parse_parameters(m)?.iter().count())),
    ("fdb", include_bytes!("captured/fdb.bin"), 28, |m| Ok(fdb::parse(m)?.iter().count())),
    ("vlan", include_bytes!("captured/vlan.bin"), 0, |m| Ok(vlan::parse(m)?.iter().flatten().count())),
    ("qdisc", include_bytes!("captured/qdisc.bin"), 9, |m| Ok(qdisc::parse(m)?.iter().count())),
    ("filter", include_bytes!("captured/filter.bin"), 1, |m| {
        Ok(filter::parse(m, filter::INGRESS, &[])?.iter().count())
    }),
    ("nexthop", include_bytes!("captured/nexthop.bin"), 4, |m| Ok(route::object(m)?.iter().count())),
    ("xfrm", include_bytes!("captured/xfrm.bin"), 1, |m| Ok(xfrm::parse(m)?.iter().count())),
    ("conntrack", include_bytes!("captured/conntrack.bin"), 2, |m| Ok(conntrack::parse(m)?.iter().count())),
];

#[test]
fn a_question_is_padded_and_counted() {
    let bytes = Request::new(18, &[0; 16]).with(29, &9_u32.to_ne_bytes()).with(3, b"a").bytes(super::NLM_F_DUMP, 7);
    assert_eq!(bytes.len() % 4, 0);
    let (message, rest) = split(&bytes).unwrap();
    assert!(rest.is_empty());
    assert_eq!((message.kind, message.flags, message.sequence), (18, 0x301, 7));
    let (_, attributes) = parts::<16>("link", message).unwrap();
    assert_eq!(attributes.find(29).unwrap().u32(), Ok(9));
    assert_eq!(attributes.find(3).unwrap().text(), "a");
}

#[test]
fn truncation_at_every_length_is_an_error() {
    let bytes = Request::new(18, &[0; 16]).bytes(0, 1);
    for length in 0..bytes.len() {
        assert!(split(&bytes[..length]).is_err());
    }
}

#[test]
fn a_length_that_overflows_is_an_error() {
    let mut bytes = Request::new(18, &[0; 16]).bytes(0, 1);
    bytes[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(split(&bytes).is_err());
}

fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (message, rest) = split(bytes).unwrap();
        messages.push(message);
        bytes = rest;
    }
    messages
}

#[test]
fn reads_all_that_a_kernel_sent() {
    for (name, bytes, expected, read) in CAPTURED {
        let count: usize = messages(bytes).into_iter().map(|message| read(message).unwrap()).sum();
        assert_eq!(count, expected, "{name}");
    }
}

#[test]
fn every_truncation_is_an_error_or_less() {
    for (name, bytes, _, read) in CAPTURED {
        for message in messages(bytes) {
            for length in 0..message.payload.len() {
                let payload = &message.payload[..length];
                if let Err(error) = read(Message { payload, ..message }) {
                    assert!(error.needed > error.had, "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_message_of_another_type_is_passed_over() {
    for (name, bytes, _, read) in CAPTURED {
        for message in messages(bytes) {
            assert_eq!(read(Message { kind: 1, ..message }), Ok(0), "{name}");
        }
    }
}

#[test]
fn the_captured_devices_mean_what_was_built() {
    let bytes: &[u8] = include_bytes!("captured/link.bin");
    let links: BTreeMap<String, link::LinkRead> = messages(bytes)
        .into_iter()
        .filter_map(|message| link::parse(message).unwrap())
        .map(|read| (read.link.name.clone(), read))
        .collect();
    let p1 = links["p1"].link.bridge_port.clone().unwrap();
    assert!(p1.hairpin && p1.isolated && !p1.learning && !p1.flood && !p1.mcast_flood && p1.bcast_flood);
    assert_eq!(links["p1"].link.master, Some(links["br0"].link.index));
    assert!(links["q2"].link.is_noarp() && links["q2"].link.group == 9);
    assert!(matches!(&links["vx0"].link.kind, LinkKind::Vxlan(vxlan) if vxlan.vni == 42 && vxlan.port == 8472));
    assert_eq!(links["zz"].link.link_nsid, Some(0));
    assert!(links.values().all(|read| read.conf4.len() >= 31 && read.conf6.len() >= 49));
}

proptest! {
    #[test]
    fn damage_never_panics(which in 0..CAPTURED.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (_, bytes, _, read) = CAPTURED[which];
        for message in messages(bytes) {
            let mut payload = message.payload.to_vec();
            for (index, value) in &changes {
                let index = index.index(payload.len());
                payload[index] = *value;
            }
            let _ = read(Message { payload: &payload, ..message });
        }
    }

    #[test]
    fn noise_never_panics(which in 0..CAPTURED.len(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_, bytes, _, read) = CAPTURED[which];
        let _ = split(&noise);
        let kind = messages(bytes).first().map_or(0, |message| message.kind);
        let _ = read(Message { kind, flags: 0, sequence: 0, payload: &noise });
    }
}
