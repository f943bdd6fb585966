//! A small recording written and read back by the crate's own reader; Wireshark's tools are asked in the package's tests.

use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::prelude::*;

use super::*;
use crate::model::id::{IfIndex, Nanos, NetnsId};
use crate::present::sample;

fn recording() -> Recording {
    let mut recording = sample::all().remove(0).recording;
    recording.question.icmp_id = 7;
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .icmpv4_echo_request(7, 1)
        .write(&mut bytes, &[])
        .unwrap();
    let frame = |at: u64, netns: u32, ifindex: u32, direction| Frame {
        time: Nanos(at),
        device: Device::new(NetnsId(netns), IfIndex(ifindex)),
        direction,
        bytes: bytes.clone(),
        len: 42,
        link: LinkLayer::Ethernet,
    };
    recording.timing.realtime_offset_ns = 1_700_000_000_000_000_000;
    recording.frames =
        vec![frame(5, 0, 2, Direction::Out), frame(9, 0, 3, Direction::In), frame(11, 9, 1, Direction::Unknown)];
    recording
}

fn blocks(file: &[u8]) -> Vec<Block<'static>> {
    let mut reader = PcapNgReader::new(file).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    blocks
}

#[test]
fn frames_carry_interface_time_packet_id_and_comment() {
    let mut file = Vec::new();
    write(&recording(), &Exchange::default(), &mut file).unwrap();
    let mut interfaces = Vec::new();
    let mut packets = Vec::new();
    for block in blocks(&file) {
        match block {
            Block::InterfaceDescription(block) => interfaces.push(block),
            Block::EnhancedPacket(block) => packets.push(block),
            _ => {}
        }
    }
    assert!(interfaces.len() >= 3);
    assert!(interfaces.iter().all(|one| one.options.contains(&InterfaceDescriptionOption::IfTsResol(9))));
    assert_eq!(packets.len(), 3);
    assert_eq!(packets[0].timestamp, Duration::from_nanos(1_700_000_000_000_000_005));
    let id = |at: usize| {
        packets[at].options.iter().find_map(|option| match option {
            EnhancedPacketOption::Unknown(option) if option.code == 5 => Some(option.value.to_vec()),
            _ => None,
        })
    };
    assert!(id(0).is_some() && id(0) == id(1) && id(1) == id(2));
    let comment = |at: usize| {
        packets[at].options.iter().find_map(|option| match option {
            EnhancedPacketOption::Comment(text) => Some(text.to_string()),
            _ => None,
        })
    };
    assert_eq!(comment(0).unwrap(), "request 1, seen 1 of 3, hop 1 of 2: out by veth0");
    assert_eq!(comment(2).unwrap(), "request 1, seen 3 of 3, hop 2 of 2: at if1 in ?");
    assert!(packets[0].options.contains(&EnhancedPacketOption::Flags(0b0_0110)));
}

#[test]
fn a_recording_without_frames_is_a_file_too() {
    let mut recording = recording();
    recording.frames.clear();
    let mut file = Vec::new();
    write(&recording, &Exchange::default(), &mut file).unwrap();
    assert!(blocks(&file).iter().all(|block| !matches!(block, Block::EnhancedPacket(_))));
}

proptest! {
    #[test]
    fn random_frames_make_a_readable_file(
        contents in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..90), 0..3u32, any::<bool>(), any::<u64>()), 0..8)
    ) {
        let mut recording = recording();
        recording.frames = contents
            .into_iter()
            .map(|(bytes, ifindex, is_ethernet, time)| Frame {
                time: Nanos(time),
                device: Device::new(NetnsId(0), IfIndex(ifindex)),
                direction: Direction::In,
                len: 0,
                bytes,
                link: if is_ethernet { LinkLayer::Ethernet } else { LinkLayer::Ip },
            })
            .collect();
        let mut file = Vec::new();
        write(&recording, &Exchange::default(), &mut file).unwrap();
        let packets = blocks(&file).iter().filter(|block| matches!(block, Block::EnhancedPacket(_))).count();
        prop_assert_eq!(packets, recording.frames.len());
    }
}
