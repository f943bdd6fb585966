//! Captures as other programs write them, whole, cut and damaged.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgBlock;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use proptest::prelude::*;

use super::*;
use crate::correlate::tests::echo;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

/// Two interfaces, `veth0` with microseconds and `ns1/eth0` with nanoseconds, one echo seen on both.
fn pcapng() -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    for (name, resolution) in [("veth0", None), ("ns1/eth0", Some(9))] {
        let mut options = vec![InterfaceDescriptionOption::IfName(Cow::Borrowed(name))];
        options.extend(resolution.map(InterfaceDescriptionOption::IfTsResol));
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
        writer.write_block(&block.into_block()).unwrap();
    }
    let bytes = echo(false, 1, 64, A, B);
    for (interface_id, ticks, flags) in [(0, 1_000_000, 2), (1, 1_000_000_500, 1)] {
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(ticks),
            original_len: bytes.len() as u32,
            data: Cow::Borrowed(&bytes),
            options: vec![EnhancedPacketOption::Flags(flags)],
        };
        writer.write_block(&block.into_block()).unwrap();
    }
    writer.into_inner()
}

fn read(bytes: &[u8]) -> Option<(Capture, Vec<Frame>, Option<ForeignError>)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let mut capture = match Capture::open(file.path()) {
        Ok(capture) => capture?,
        Err(_) => return None,
    };
    let mut frames = Vec::new();
    loop {
        match capture.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return Some((capture, frames, None)),
            Err(error) => return Some((capture, frames, Some(error))),
        }
    }
}

#[test]
fn interfaces_are_devices_and_times_are_nanoseconds() {
    let (capture, frames, error) = read(&pcapng()).unwrap();
    assert!(error.is_none(), "{error:?}");
    let names: Vec<String> = capture
        .snapshot()
        .devices()
        .map(|(device, link)| format!("{} {}", capture.snapshot().netns_name(device.netns), link.name))
        .collect();
    assert_eq!(names, [". veth0", "ns1 eth0"]);
    let times: Vec<_> = frames.iter().map(|frame| (frame.time.0, frame.direction)).collect();
    assert_eq!(times, [(1_000_000_000, Direction::Out), (1_000_000_500, Direction::In)]);
}

#[test]
fn cooked_captures_tell_interface_and_direction() {
    let mut cooked = vec![8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 4, 6, 2, 2, 2, 2, 2, 2, 0, 0];
    cooked.extend(&echo(false, 1, 64, A, B)[14..]);
    let header = pcap_file::pcap::PcapHeader { datalink: DataLink::LINUX_SLL2, ..Default::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    writer.write_packet(&PcapPacket::new(Duration::from_micros(7), cooked.len() as u32, &cooked)).unwrap();
    let (capture, frames, error) = read(&writer.into_writer()).unwrap();
    assert!(error.is_none());
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].direction, frames[0].link, frames[0].time), (Direction::Out, LinkLayer::Ip, Nanos(7000)));
    assert_eq!(capture.snapshot().device_name(frames[0].device), "if7");
}

#[test]
fn what_is_something_else_is_left_to_others() {
    assert!(read(b"\x89vtr\r\n\x1a\n").is_none());
    assert!(read(b"").is_none());
}

#[test]
fn a_cut_capture_is_read_as_far_as_it_goes() {
    let whole = pcapng();
    let mut most = 0;
    for len in 4..whole.len() {
        if let Some((_, frames, _)) = read(&whole[..len]) {
            assert!(frames.len() >= most && frames.len() < 2);
            most = frames.len();
        }
    }
    assert_eq!(most, 1);
}

proptest! {
    #[test]
    fn damage_never_panics(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut file = pcapng();
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        let _ = read(&file);
    }
}
