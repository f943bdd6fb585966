//! What is written of a capture, asked of the tools that people open it with: capinfos and tshark.

use std::process::Command;

use libtest_mimic::Failed;
use vnet_trace::collect::clock;
use vnet_trace::collect::recording_file::{self, Access};
use vnet_trace::model::exchange::Exchange;
use vnet_trace::model::id::{Device, IfIndex, NetnsId};
use vnet_trace::model::question::Question;
use vnet_trace::model::recording::{Recording, Timing};
use vnet_trace::model::sight::Sight;
use vnet_trace::model::snapshot::{Address, Link, Netns, Snapshot};
use vnet_trace::packet::{IcmpMessage, parse_frame};
use vnet_trace::present::pcapng;

use super::Case;
use super::asker::question;
use super::devices::asked;
use super::net::cable;

/// These need capinfos and tshark.
pub const CASES: &[Case] = &[("files/wireshark_reads_the_pcapng", wireshark_reads_the_pcapng)];

/// The programs of Wireshark are there.
pub fn has_wireshark() -> bool {
    ["capinfos", "tshark"].iter().all(|program| Command::new(program).arg("--version").output().is_ok())
}

fn netns(id: u32, name: &str, address: &str) -> Netns {
    Netns {
        id: NetnsId(id),
        name: name.to_owned(),
        links: vec![Link { index: IfIndex(id), name: "eth0".to_owned(), ..Link::default() }],
        addresses: vec![Address {
            ifindex: IfIndex(id),
            address: address.parse().expect("an address"),
            prefix_len: 24,
            peer: None,
            scope: 0,
            flags: 0,
        }],
        ..Netns::default()
    }
}

/// A request from a to b, captured at both ends.
fn recording() -> Result<Recording, Failed> {
    let asked_for = Question { count: 1, ..question("10.0.0.2") };
    let captured = asked("a", &asked_for, &["a/eth0", "b/eth0"], vnet_trace::collect::pcap::Filter::default())?;
    let mut frames = captured.frames;
    // The test numbers its targets within one namespace; a recording has one for each.
    for frame in &mut frames {
        frame.device.netns = NetnsId(frame.device.ifindex.0);
    }
    let id = frames.iter().find_map(|frame| match parse_frame(frame.link, &frame.bytes).ok()?.icmp()?.message {
        IcmpMessage::EchoRequest(echo) => Some(echo.id),
        _ => None,
    });
    let devices = [0, 1].map(|at| Device::new(NetnsId(at), IfIndex(at)));
    let question = Question { icmp_id: id.ok_or("no request was captured")?, ..asked_for };
    let namespaces = vec![netns(0, "a", "10.0.0.1"), netns(1, "b", "10.0.0.2")];
    Ok(Recording {
        tool: "vnet-trace test".to_owned(),
        kernel: "test".to_owned(),
        frames,
        sight: Sight { captured: devices.to_vec(), ..Sight::default() },
        timing: Timing { realtime_offset_ns: clock::realtime_offset(), ..Timing::default() },
        ..Recording::of(question, Snapshot { namespaces, ..Snapshot::default() })
    })
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Failed> {
    let done = Command::new(program).args(arguments).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(String::from_utf8(done.stdout)?) } else { Err(format!("{program}: {said}").into()) }
}

fn wireshark_reads_the_pcapng() -> Result<(), Failed> {
    cable()?;
    let recording = recording()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.pcapng");
    recording_file::replace(&path, Access::Umask, |out| pcapng::write(&recording, &Exchange::default(), out))?;
    let path = path.to_str().ok_or("a strange folder")?;

    let infos = output("capinfos", &[path])?;
    for wanted in ["Number of interfaces in file: 2", "Name = a/eth0", "Name = b/eth0", "Time precision = nanoseconds"]
    {
        if !infos.contains(wanted) {
            return Err(format!("capinfos does not say `{wanted}`:\n{infos}").into());
        }
    }
    let fields = [
        "frame.interface_name",
        "frame.packet_id",
        "frame.packet_flags_direction",
        "frame.comment",
        "_ws.col.Protocol",
    ];
    let mut arguments = vec!["-n", "-r", path, "-T", "fields"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let told = output("tshark", &arguments)?;
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split('\t').collect()).collect();
    let requests: Vec<_> =
        rows.iter().filter(|row| row.get(3).is_some_and(|text| text.starts_with("request 1"))).collect();
    let expected = [
        ["a/eth0", "0x00000002", "request 1, seen 1 of 2, hop 1 of 2: out of a by eth0"],
        ["b/eth0", "0x00000001", "request 1, seen 2 of 2, hop 2 of 2: into b by eth0"],
    ];
    let seen: Vec<_> = requests.iter().map(|row| [row[0], row[2], row[3]]).collect();
    let same_id = requests.len() == 2 && requests[0][1] == requests[1][1] && !requests[0][1].is_empty();
    if seen != expected || !same_id {
        return Err(format!("{seen:#?}\n{told}").into());
    }
    Ok(())
}
