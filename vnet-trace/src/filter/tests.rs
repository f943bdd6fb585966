//! Expressions against libpcap's own interpreter: in this crate's interpreter, and as eBPF in a virtual machine.

use std::cell::Cell;

use pcap::{BpfProgram, Capture, Linktype};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

pub mod packets;
pub mod sentences;

/// Loads what [`Machine::verdict`] puts before the frame: `r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r1 += 8`.
const PROLOGUE: [u64; 3] = [0x1261, 0x0004_1361, 0x08_0000_0107];

/// The program for the kernel, in a virtual machine.
struct Machine {
    code: Vec<u8>,
}

impl Machine {
    fn new(expression: &Expression) -> Self {
        let code = PROLOGUE.iter().chain(expression.kernel_code()).flat_map(|word| word.to_le_bytes()).collect();
        Self { code }
    }

    fn verdict(&self, frame: &[u8], length: u32) -> u64 {
        let mut memory = (frame.len() as u32).to_le_bytes().to_vec();
        memory.extend_from_slice(&length.to_le_bytes());
        memory.extend_from_slice(frame);
        let machine = rbpf::EbpfVmRaw::new(Some(&self.code)).expect("a program");
        machine.execute_program(&mut memory).expect("no access outside the frame")
    }
}

fn by_libpcap(text: &str) -> BpfProgram {
    Capture::dead(Linktype::ETHERNET)
        .expect("libpcap")
        .compile(text, true)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A failed comparison, in words.
fn differs(text: &str, frame: &[u8], what: &str, found: u64, expected: bool) -> Result<(), TestCaseError> {
    if (found == 1) == expected && found < 2 {
        return Ok(());
    }
    let frame: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(TestCaseError::fail(format!("{what} gives {found} for `{text}`, libpcap {expected}, frame {frame}")))
}

/// The property: the verdict on a packet is libpcap's, and where a packet was cut off there is either that verdict or none.
fn agrees(text: &str, seed: u64, count: usize) -> Result<u32, TestCaseError> {
    let libpcap = by_libpcap(text);
    let expression = match Expression::compile(text) {
        Ok(expression) => expression,
        Err(error) => return Err(TestCaseError::fail(format!("`{text}`: {error}"))),
    };
    let machine = Machine::new(&expression);
    let mut matched = 0;
    for frame in packets::frames(seed, count) {
        let expected = libpcap.filter(&frame);
        matched += u32::from(expected);
        let length = frame.len() as u32;
        differs(text, &frame, "the interpreter", expression.matches(&frame, length).into(), expected)?;
        differs(text, &frame, "the program", machine.verdict(&frame, length), expected)?;
        // As the probes do it: no more than it reaches.
        let reached = &frame[..frame.len().min(expression.reach() as usize)];
        differs(text, &frame, "the program with as much as it reaches", machine.verdict(reached, length), expected)?;
        let cut = &frame[..frame.len() * 2 / 3];
        match machine.verdict(cut, length) {
            2 => {}
            verdict => differs(text, &frame, "the program with a part", verdict, expected)?,
        }
    }
    Ok(matched)
}

#[test]
fn generated_expressions_mean_what_libpcap_means() {
    let matching = Cell::new(0);
    let compiled = Cell::new(0);
    let config = Config { cases: 220, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&(sentences::sentence(), any::<u64>()), |(text, seed)| {
        matching.set(matching.get() + u32::from(agrees(&text, seed, 2000)? > 0));
        compiled.set(compiled.get() + 1);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // A property that is only ever about packets that do not match would say little.
    let (matching, compiled) = (matching.get(), compiled.get());
    assert!(compiled >= 200 && matching > compiled / 2, "{matching} of {compiled} expressions match something");
}

#[test]
fn written_expressions_mean_what_libpcap_means() {
    for (seed, text) in sentences::WRITTEN.iter().enumerate() {
        let matched = agrees(text, seed as u64, 2000).unwrap_or_else(|error| panic!("{error}"));
        assert!(matched > 0, "`{text}` matches none of the packets");
    }
}

#[test]
fn an_empty_expression_matches_everything() {
    let expression = Expression::compile("").expect("nothing to refuse");
    assert!(expression.matches(&[], 0));
    assert_eq!(Machine::new(&expression).verdict(&[0; 14], 14), 1);
    assert_eq!(expression.reach(), 0);
}

#[test]
fn what_is_not_at_hand_leaves_the_question_open() {
    let expression = Expression::compile("tcp port 80").expect("an expression");
    let frame = packets::tcp(40000, 80, &[0; 100]);
    let machine = Machine::new(&expression);
    let verdict = |available: usize, length: u32| machine.verdict(&frame[..available], length);
    assert_eq!(verdict(frame.len(), frame.len() as u32), 1);
    assert_eq!(verdict(36, frame.len() as u32), 2, "the ports are missing");
    assert_eq!(verdict(36, 36), 0, "the frame has no ports");
}

#[test]
fn what_libpcap_refuses_is_refused_with_its_words() {
    let error = Expression::compile("tcp and").expect_err("half a sentence");
    assert!(matches!(&error, FilterError::Refused { message, .. } if message.contains("syntax error")), "{error:?}");
    assert_eq!(error.caret().as_deref(), Some("tcp and\n       ^"));
}

#[test]
fn a_caret_stands_below_what_libpcap_means() {
    let caret = |text: &str| Expression::compile(text).expect_err(text).caret();
    assert_eq!(caret("tcp port nosuchport").as_deref(), Some("tcp port nosuchport\n         ^"));
    assert_eq!(caret("tcp port 80 )").as_deref(), Some("tcp port 80 )\n            ^"));
    assert_eq!(caret("tcp port 80 foo udp").as_deref(), Some("tcp port 80 foo udp\n            ^"));
    assert_eq!(caret("(tcp or udp").as_deref(), Some("(tcp or udp\n           ^"));
    assert_eq!(caret("ether host 1.2.3.4 or arp"), None, "libpcap does not say what it means");
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    for (text, expected) in [
        ("inbound", "inbound or outbound cannot be asked for here"),
        ("ip6 protochain 6", "protochain cannot be asked for here"),
        ("udp[300] = 1", "a frame cannot be asked for here: only a frame's first 256 bytes are looked at"),
        ("ether[ip[2:2]] = 1", "byte 65535 of a frame"),
        ("ether[ip[2:4]] = 1", "a byte whose place is computed without a bound"),
    ] {
        let error = Expression::compile(text).expect_err(text);
        assert!(matches!(error, FilterError::Unsupported { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn addresses_are_known_to_be_read() {
    let reads = |text| Expression::compile(text).expect("an expression").reads_addresses();
    assert!(reads("ether host 02:00:00:00:00:01"));
    assert!(reads("ether multicast and tcp"));
    assert!(!reads("tcp port 80"));
    assert!(!reads("vlan 7 and host 10.0.0.1"));
}
