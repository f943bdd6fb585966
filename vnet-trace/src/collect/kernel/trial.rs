//! Expressions in the kernel itself: the same packets, judged by the program that the probes would run.
//!
//! The program is loaded as a classifier and run on a packet by `BPF_PROG_TEST_RUN`, which puts it nowhere. It copies the
//! packet into a map, as the probes do, and calls the expression.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pcap::{Capture, Linktype};

use super::sys::{self, MAP_ARRAY, ProgramKind, ProgramLoad};
use crate::filter::Expression;
use crate::filter::tests::packets::frames;
use crate::filter::tests::sentences::WRITTEN;

/// An instruction.
fn code(code: u8, to: u8, from: u8, offset: i16, k: i32) -> u64 {
    u64::from(code) | u64::from(from << 4 | to) << 8 | u64::from(offset as u16) << 16 | u64::from(k as u32) << 32
}

/// A classifier that returns what an expression says of its packet.
struct Classifier {
    program: OwnedFd,
    _frame: OwnedFd,
}

impl Classifier {
    fn load(expression: &Expression) -> Self {
        let frame = sys::map_create("frame", MAP_ARRAY, 4, 280, 1, 0).expect("root, and a kernel with eBPF");
        let reach = expression.reach() as i32;
        let mut instructions = vec![
            code(0xbf, 6, 1, 0, 0),                 // r6 = context
            code(0x62, 10, 0, -4, 0),               // the key 0
            code(0xbf, 2, 10, 0, 0),                // r2 = stack
            code(0x07, 2, 0, 0, -4),                // r2 -= 4
            code(0x18, 1, 1, 0, frame.as_raw_fd()), // r1 = map
            0,
            code(0x85, 0, 0, 0, 1),     // r0 = look up
            code(0x15, 0, 0, 16, 0),    // if r0 == 0 end
            code(0xbf, 7, 0, 0, 0),     // r7 = frame
            code(0x61, 8, 6, 0, 0),     // r8 = length
            code(0xbf, 9, 8, 0, 0),     // r9 = length
            code(0xb5, 9, 0, 1, reach), // if r9 <= reach skip
            code(0xb7, 9, 0, 0, reach), // r9 = reach
            code(0x15, 9, 0, 6, 0),     // if r9 == 0 call
            code(0xbf, 1, 6, 0, 0),
            code(0xb7, 2, 0, 0, 0),
            code(0xbf, 3, 7, 0, 0),
            code(0xbf, 4, 9, 0, 0),
            code(0x85, 0, 0, 0, 26), // skb_load_bytes(context, 0, frame, r9)
            code(0x05, 0, 0, 0, 0),
            code(0xbf, 1, 7, 0, 0),
            code(0xbf, 2, 9, 0, 0),
            code(0xbf, 3, 8, 0, 0),
            code(0x85, 0, 1, 0, 1), // r0 = expression(frame, available, length)
            code(0x95, 0, 0, 0, 0),
        ];
        instructions.extend_from_slice(expression.kernel_code());
        let load = ProgramLoad {
            kind: ProgramKind::Classifier,
            name: "trial",
            instructions: &instructions,
            license: b"GPL\0",
            types: None,
            attach_to: 0,
            attach_module: None,
        };
        let mut log = vec![0; 1 << 20];
        let program = sys::program_load(&load, Some(&mut log))
            .unwrap_or_else(|error| panic!("{}: {error}: {}", expression.text(), String::from_utf8_lossy(&log)));
        Self { program, _frame: frame }
    }

    fn verdict(&self, packet: &[u8]) -> u32 {
        sys::test_run(self.program.as_fd(), packet, 1).expect("a packet").0
    }
}

#[test]
fn the_kernel_agrees_with_libpcap() {
    for (seed, text) in WRITTEN.iter().enumerate() {
        let libpcap = Capture::dead(Linktype::ETHERNET).expect("libpcap").compile(text, true).expect(text);
        let classifier = Classifier::load(&Expression::compile(text).expect(text));
        // The kernel takes no packet that has no room for an Ethernet and an IPv6 header.
        for packet in frames(seed as u64 + 1000, 300).filter(|packet| packet.len() >= 54) {
            assert_eq!(classifier.verdict(&packet), u32::from(libpcap.filter(&packet)), "{text}: {packet:02x?}");
        }
    }
}
