//! Recordings written, cut, damaged and made up.

use std::net::IpAddr;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::model::event::{Event, EventKind};
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::question::Question;
use crate::model::recording::PingOutcome;
use crate::model::snapshot::{Netns, Snapshot};

fn event(at: u64) -> Event {
    Event {
        time: Nanos(at),
        cpu: 1,
        skb: None,
        head: None,
        device: Some(Device::new(NetnsId(0), IfIndex(2))),
        netns: None,
        mac: None,
        bytes: vec![0x45; 40].into(),
        len: 84,
        pkt_type: 0,
        mark: 0,
        kind: EventKind::Drop { reason: Some("IP_RPFILTER".into()), location: None },
    }
}

fn frame(at: u64) -> Frame {
    Frame {
        time: Nanos(at),
        device: Device::new(NetnsId(0), IfIndex(2)),
        direction: Direction::Out,
        bytes: vec![0xff; 42],
        len: 42,
        link: LinkLayer::Ethernet,
    }
}

pub fn sample(events: u64, frames: u64) -> Recording {
    let question = Question { icmp_id: 7, ..Question::echo(NetnsId(0), IpAddr::from([10, 0, 0, 2])) };
    let before = Snapshot { namespaces: vec![Netns { name: ".".into(), ..Netns::default() }], ..Snapshot::default() };
    Recording {
        tool: "vnet-trace 0.1.0".into(),
        kernel: "6.1.0".into(),
        events: (0..events).map(event).collect(),
        frames: (0..frames).map(frame).collect(),
        ping: PingOutcome { sent: 1, ..PingOutcome::default() },
        ..Recording::of(question, before)
    }
}

fn bytes(recording: &Recording) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(recording, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_written_is_read() {
    for (events, frames) in [(0, 0), (3, 2), (2500, 1100)] {
        let recording = sample(events, frames);
        assert_eq!(read(bytes(&recording).as_slice()).unwrap(), recording);
    }
}

#[test]
fn truncation_at_every_length_tells_how_far_it_went() {
    let recording = sample(3, 2);
    let whole = bytes(&recording);
    let mut furthest = Readable::default();
    for len in 0..whole.len() {
        let (salvaged, error) = salvage(&whole[..len], Limits::default());
        match error.expect("a cut recording is not whole") {
            RecordingError::CutOff { readable } => {
                assert!(readable.bytes >= furthest.bytes && readable.bytes <= len as u64);
                assert_eq!(readable.head, salvaged.is_some());
                furthest = readable;
            }
            RecordingError::Foreign { .. } if len < 8 => {}
            other => panic!("at {len}: {other}"),
        }
    }
    assert!(furthest.head && furthest.events == 3 && furthest.frames == 2);
}

#[test]
fn a_cut_recording_keeps_what_was_there() {
    let recording = sample(2500, 10);
    let mut cut = bytes(&recording);
    cut.truncate(cut.len() - 60);
    let (salvaged, error) = salvage(cut.as_slice(), Limits::default());
    assert_eq!(salvaged.unwrap().events.len(), 2500);
    let text = error.unwrap().to_string();
    assert!(text.contains("cut off") && text.contains("2500 events"), "{text}");
}

#[test]
fn foreign_files_are_named() {
    let says = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(says(&[]), "not a recording of vnet-trace: it looks like an empty file");
    assert_eq!(
        says(b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a"),
        "not a recording of vnet-trace: it looks like a pcapng capture"
    );
    assert_eq!(says(b"{\"schema\": 1}   "), "not a recording of vnet-trace: it looks like JSON");
    assert_eq!(says(b"Hello, world, what is this?"), "not a recording of vnet-trace");
}

#[test]
fn a_newer_format_is_refused_by_number() {
    let mut newer = bytes(&sample(1, 1));
    newer[8] = 9;
    let error = read(newer.as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "the recording has format 9, this program reads up to 2");
}

#[test]
fn unknown_blocks_and_fields_are_skipped() {
    #[derive(Serialize, Deserialize)]
    struct Later {
        #[serde(flatten)]
        known: End,
        not_yet_thought_of: Vec<String>,
    }
    let recording = sample(1, 0);
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    block::write(&mut out, Tag::HEAD, &head(&recording)).unwrap();
    let whole = bytes(&recording);
    // A block of a later version between those that are known.
    let mut strange = Vec::new();
    block::write(&mut strange, Tag::END, &"whatever").unwrap();
    strange[..4].copy_from_slice(b"new!");
    out.extend(strange);
    block::write(&mut out, Tag::EVENTS, &recording.events).unwrap();
    let later = Later { known: End { events: 1, frames: 0 }, not_yet_thought_of: vec!["x".into()] };
    block::write(&mut out, Tag::END, &later).unwrap();
    assert_eq!(read(out.as_slice()).unwrap(), read(whole.as_slice()).unwrap());
}

#[test]
fn a_lie_about_lengths_costs_nothing() {
    let mut lie = bytes(&sample(1, 1));
    lie[16..24].copy_from_slice(&[0xff; 8]);
    let error = read(lie.as_slice()).unwrap_err();
    assert!(matches!(error, RecordingError::Damaged { source: BlockError::TooLarge { .. }, .. }), "{error}");
    let tight = Limits { block: 64 << 20, total: 4000 };
    let (salvaged, error) = salvage(bytes(&sample(2500, 0)).as_slice(), tight);
    assert!(salvaged.is_some() && error.unwrap().to_string().contains("0 events"));
}

#[test]
fn a_changed_byte_is_noticed_or_does_not_matter() {
    let recording = sample(30, 20);
    let whole = bytes(&recording);
    for at in (12..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        // A changed tag makes a block unknown, which the counts at the end give away.
        if let (salvaged, None) = salvage(changed.as_slice(), Limits::default()) {
            assert!(salvaged.is_some_and(|salvaged| salvaged == recording), "byte {at}");
        }
    }
}

#[test]
fn files_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.vtr");
    save(&sample(1, 1), &path, Access::Private).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    save(&sample(2, 2), &path, Access::Umask).unwrap();
    assert_eq!(load(&path).unwrap(), sample(2, 2));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let failed = replace(&path, Access::Umask, |_| Err(io::Error::other("full")));
    assert!(failed.is_err() && load(&path).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(load(folder.path()).unwrap_err().to_string().starts_with("cannot read"));
    save(&sample(1, 1), Path::new("/dev/null"), Access::Umask).unwrap();
}

#[test]
fn what_version_1_wrote_is_read() {
    let recording = sample(30, 20);
    let mut old = Vec::new();
    old.extend(MAGIC);
    old.extend(1u32.to_le_bytes());
    block::write(&mut old, Tag::HEAD, &head(&recording)).unwrap();
    block::write(&mut old, Tag::EVENTS, &recording.events).unwrap();
    block::write(&mut old, Tag::FRAMES, &recording.frames).unwrap();
    block::write(&mut old, Tag::END, &End { events: 30, frames: 20 }).unwrap();
    assert_eq!(read(old.as_slice()).unwrap(), recording);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(bytes.as_slice());
        let _ = read([&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat().as_slice());
    }

    /// Past the compression, into CBOR.
    #[test]
    fn random_cbor_never_panics(content in proptest::collection::vec(any::<u8>(), 0..300), tag in 0..4usize) {
        let packed = zstd::bulk::compress(&content, 1).unwrap();
        let tag = [b"head", b"evts", b"frms", b"end."][tag];
        let lens = [(packed.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
        let file = [&MAGIC[..], &VERSION.to_le_bytes(), tag, &lens, &packed].concat();
        prop_assert!(read(file.as_slice()).is_err());
    }

    #[test]
    fn damaged_recordings_never_panic(damage in proptest::collection::vec((0..2000usize, any::<u8>()), 1..5)) {
        let mut file = bytes(&sample(5, 5));
        for (at, value) in damage {
            let at = at % file.len();
            file[at] = value;
        }
        let _ = salvage(file.as_slice(), Limits::default());
    }
}
