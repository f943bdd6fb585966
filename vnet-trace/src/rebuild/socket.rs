//! Sockets that a connection or a datagram may meet: `socat` listens where somebody listened.
//!
//! What the programs behind them would have said is not recorded, and need not be: a TCP connection stands before anybody
//! says a word. A UDP socket answers with what it got if an answer was seen, else it only takes. A queue that was full is
//! full again: one connection keeps the listener busy, and the others wait.

use std::net::IpAddr;

use crate::diagnose::case::quote;
use crate::model::id::Device;
use crate::model::question::Protocol;
use crate::model::snapshot::{Netns, Socket};

use super::Work;

/// As many sockets are made; those on the asked port come first.
const MOST: usize = 32;
/// As many connections wait in a queue.
const LONGEST: u32 = 128;

/// A command that listens where the question finds nobody. `netns` as it is called in the rebuilt network.
pub fn listener(protocol: Protocol, netns: &str, address: IpAddr) -> Option<String> {
    let version = if address.is_ipv6() { "6" } else { "4" };
    let bind = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    let (kind, port) = match protocol {
        Protocol::Echo => return None,
        Protocol::Tcp { port, .. } => ("LISTEN", port),
        Protocol::Udp { port, .. } => ("RECVFROM", port),
    };
    let name = if kind == "LISTEN" { "TCP" } else { "UDP" };
    let there = if netns == "." { String::new() } else { format!("ip netns exec {} ", quote(netns)) };
    Some(format!("{there}socat {name}{version}-{kind}:{port},bind={bind},fork EXEC:cat >/dev/null 2>&1 &"))
}

/// Makes the sockets of the question's protocol.
pub fn listen(work: &mut Work<'_>) {
    let (number, port) = match work.recording.question.protocol {
        Protocol::Echo => return,
        Protocol::Tcp { port, .. } => (6, port),
        Protocol::Udp { port, .. } => (17, port),
    };
    let tcp = number == 6;
    let mut wanted: Vec<(&Netns, &Socket)> = work
        .namespaces()
        .flat_map(|netns| netns.sockets.iter().map(move |socket| (netns, socket)))
        .filter(|(_, socket)| socket.protocol == number && socket.port != 0 && (socket.listening || !tcp))
        .collect();
    wanted.sort_by_key(|(_, socket)| socket.port != port);
    if wanted.len() > MOST {
        let what = format!("{} sockets on other ports", wanted.len() - MOST);
        work.miss(None, what, "they are too many");
        wanted.truncate(MOST);
    }
    for (netns, socket) in wanted {
        one(work, netns, socket, tcp);
    }
}

fn one(work: &mut Work<'_>, netns: &Netns, socket: &Socket, tcp: bool) {
    work.needs.insert("cmd:socat".to_owned());
    let ipv6 = socket.local.is_ipv6();
    let version = if ipv6 { "6" } else { "4" };
    let mut options = format!("{}", socket.port);
    if !socket.local.is_unspecified() {
        let address = if ipv6 { format!("[{}]", socket.local) } else { socket.local.to_string() };
        options.push_str(&format!(",bind={address}"));
    }
    if ipv6 && let Some(only) = socket.v6only {
        options.push_str(&format!(",ipv6only={}", u8::from(only)));
    }
    let bound =
        socket.device.map(|ifindex| Device::new(netns.id, ifindex)).and_then(|device| work.snapshot.link(device));
    if let Some(link) = bound {
        options.push_str(&format!(",so-bindtodevice={}", link.name));
    }
    let waiting = socket.rx_limit.filter(|limit| tcp && socket.rx_queue > *limit).map(|_| socket.rx_queue);
    let answers = work.recording.ping.received > 0;
    let command = match (tcp, waiting) {
        (true, None) => format!("socat TCP{version}-LISTEN:{options},reuseaddr,fork EXEC:cat"),
        (true, Some(_)) => {
            let backlog = socket.rx_limit.unwrap_or(0);
            format!(
                "socat TCP{version}-LISTEN:{options},reuseaddr,backlog={backlog},fork,max-children=1 EXEC:'sleep infinity',nofork"
            )
        }
        (false, _) if answers => format!("socat UDP{version}-RECVFROM:{options},fork EXEC:cat"),
        (false, _) => format!("socat -u UDP{version}-RECV:{options} OPEN:/dev/null"),
    };
    work.script.run(netns.id, &format!("{command} >/dev/null 2>&1 &"));
    let there = match work.script.name(netns.id) {
        "." => String::new(),
        name => format!("ip netns exec {} ", quote(name)),
    };
    let kind = if tcp { "-Hltn" } else { "-Hlun" };
    work.script.line(&format!(
        "for t in $(seq 100); do {there}ss {kind} sport = :{} | grep -q . && break; sleep 0.02; done",
        socket.port
    ));
    if let Some(waiting) = waiting {
        fill(work, netns, socket, waiting.min(LONGEST), &there);
    }
}

/// Opens connections that nobody takes, but for the first.
fn fill(work: &mut Work<'_>, netns: &Netns, socket: &Socket, waiting: u32, there: &str) {
    let to = match (socket.local.is_unspecified(), socket.local.is_ipv6()) {
        (false, _) => socket.local.to_string(),
        (true, false) => "127.0.0.1".to_owned(),
        (true, true) => "::1".to_owned(),
    };
    let open = format!("exec 3<>/dev/tcp/{to}/{}; exec sleep infinity", socket.port);
    let queued = format!("{there}ss -Hltn sport = :{} | awk '{{print $2}}'", socket.port);
    for connection in 0..=waiting {
        work.script.run(netns.id, &format!("bash -c '{open}' >/dev/null 2>&1 &"));
        // One after the other: the first has to be taken before the next may wait.
        let taken = if connection == 0 {
            format!("{there}ss -Htn state established sport = :{} | grep -q .", socket.port)
        } else {
            format!("[ \"$({queued})\" = {connection} ]")
        };
        work.script.line(&format!("for t in $(seq 100); do {taken} && break; sleep 0.02; done"));
    }
}
