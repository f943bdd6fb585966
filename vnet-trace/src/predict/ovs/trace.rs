//! `ofproto/trace`: how a frame is put to Open vSwitch, and what its answer means.
//!
//! ```text
//! bridge("br-int")
//! ----------------
//!  0. arp, priority 10
//!     resubmit(,5)
//!  5. arp,arp_tpa=10.1.1.3, priority 10
//!     drop
//! …
//! Datapath actions: drop
//! ```
//!
//! The answer has a section for each bridge that the packet comes through, and in it the flow that matched in each table, by
//! its match and priority, with its actions below. Only the first section is about the bridge that was asked; what
//! another one does with the packet is found when the walk comes there. Actions that change the packet make it unclear.

use crate::predict::frame::{Carries, Frame, Payload};

/// What the switch does with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As an ordinary switch.
    Normal,
    /// Dropped by this flow of this bridge, as ovs-ofctl would print it; None: no flow matched.
    Drop {
        /// The bridge.
        bridge: String,
        /// The flow.
        flow: Option<String>,
    },
    /// Sent out by these ports and no others.
    Output(Vec<i32>),
    /// Something that this reader does not know.
    Unclear,
}

/// A frame that comes in by a port, as ovs-ofctl(8) writes flows.
pub fn question(in_port: i32, frame: &Frame) -> Option<String> {
    let mut words = vec![format!("in_port={in_port}")];
    let is_v6 = frame.ethertype() == 0x86dd;
    let body = match &frame.payload {
        Payload::Resolution(resolution) if is_v6 => {
            let (kind, sender) = (if resolution.reply { 136 } else { 135 }, resolution.sender?);
            let target = if resolution.reply { sender } else { resolution.target };
            format!(
                "icmp6,ipv6_src={sender},ipv6_dst={},nw_ttl=255,icmpv6_type={kind},icmpv6_code=0,nd_target={target}",
                resolution.target
            )
        }
        Payload::Resolution(resolution) => format!(
            "arp,arp_op={},arp_spa={},arp_tpa={},arp_sha={}",
            if resolution.reply { 2 } else { 1 },
            resolution.sender?,
            resolution.target,
            resolution.sender_mac
        ),
        Payload::Ip(packet) => {
            let (protocol, rest) = match (&packet.carries, is_v6) {
                (Carries::EchoRequest(_), false) => ("icmp", "icmp_type=8,icmp_code=0".to_owned()),
                (Carries::EchoReply(_), false) => ("icmp", "icmp_type=0,icmp_code=0".to_owned()),
                (Carries::EchoRequest(_), true) => ("icmp6", "icmpv6_type=128,icmpv6_code=0".to_owned()),
                (Carries::EchoReply(_), true) => ("icmp6", "icmpv6_type=129,icmpv6_code=0".to_owned()),
                (Carries::Tcp(from, to, answer), _) => {
                    let flags = if *answer { "0x12" } else { "0x02" };
                    (if is_v6 { "tcp6" } else { "tcp" }, format!("tp_src={from},tp_dst={to},tcp_flags={flags}"))
                }
                (Carries::Udp(from, to), _) => {
                    (if is_v6 { "udp6" } else { "udp" }, format!("tp_src={from},tp_dst={to}"))
                }
                _ => return None,
            };
            let family = if is_v6 { "ipv6" } else { "nw" };
            format!("{protocol},{family}_src={},{family}_dst={},nw_ttl={},{rest}", packet.src, packet.dst, packet.ttl)
        }
    };
    // The protocol first: it is what the other words need.
    let (protocol, rest) = body.split_once(',')?;
    words.extend([protocol.to_owned(), format!("dl_src={}", frame.src), format!("dl_dst={}", frame.dst)]);
    words.extend(frame.vid().map(|vid| format!("dl_vlan={vid},dl_vlan_pcp=0")));
    words.push(rest.to_owned());
    Some(words.join(","))
}

/// One table's word on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    bridge: String,
    /// The matching flow as ovs-ofctl would print it; None: no match.
    flow: Option<String>,
    actions: Vec<String>,
}

/// Reads an answer.
pub fn read(text: &str) -> Answer {
    let steps = steps(text);
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Answer::Unclear };
    let dropped = text.lines().any(|line| line.trim() == "Datapath actions: drop");
    let switched =
        |step: &Step| step.actions.iter().any(|action| matches!(action.as_str(), "NORMAL" | "FLOOD" | "ALL"));
    if dropped && !switched(last) {
        return Answer::Drop { bridge: last.bridge.clone(), flow: last.flow.clone() };
    }
    let own: Vec<&Step> = steps.iter().take_while(|step| step.bridge == first.bridge).collect();
    let mut ports = Vec::new();
    let mut normal = false;
    for action in own.iter().flat_map(|step| &step.actions) {
        match action.as_str() {
            "NORMAL" | "FLOOD" | "ALL" => normal = true,
            action if action.starts_with("resubmit(") || action == "drop" => {}
            action => match action.strip_prefix("output:").and_then(|port| port.parse().ok()) {
                Some(port) => ports.push(port),
                None => return Answer::Unclear,
            },
        }
    }
    match (normal, ports.is_empty()) {
        (true, true) => Answer::Normal,
        (false, false) => Answer::Output(ports),
        _ => Answer::Unclear,
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut bridge = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("bridge(\"").and_then(|rest| rest.strip_suffix("\")")) {
            name.clone_into(&mut bridge);
            continue;
        }
        let word = line.trim();
        if bridge.is_empty() || word.is_empty() || word.starts_with("---") {
            continue;
        }
        if word.starts_with("Final flow:") || word.starts_with("Megaflow:") || word.starts_with("Datapath actions:") {
            bridge.clear();
        } else if let Some((table, rest)) = table(word) {
            steps.push(Step { bridge: bridge.clone(), flow: flow(table, rest), actions: Vec::new() });
        } else if let Some(step) = steps.last_mut()
            && !word.starts_with("->")
            && !word.starts_with(">>")
        {
            step.actions.push(word.to_owned());
        }
    }
    steps
}

/// ` 5. arp,arp_tpa=10.1.1.3, priority 10`.
fn table(word: &str) -> Option<(u8, &str)> {
    let (number, rest) = word.split_once(". ")?;
    Some((number.parse().ok()?, rest))
}

/// A matching flow in the words of `ovs-ofctl dump-flows`.
fn flow(table: u8, text: &str) -> Option<String> {
    if text.starts_with("No match") {
        return None;
    }
    let words: Vec<&str> = text.split(", ").collect();
    let after = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).map(str::trim);
    let priority = after("priority ").unwrap_or("32768");
    let matches = words.first().filter(|word| !word.starts_with("priority ") && !word.starts_with("cookie "));
    let matches = matches.map_or_else(String::new, |matches| format!(",{matches}"));
    Some(format!("table={table}, priority={priority}{matches} actions=drop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sections: &str, datapath: &str) -> Answer {
        read(&format!("Flow: arp\n\n{sections}\nFinal flow: unchanged\nMegaflow: eth\nDatapath actions: {datapath}\n"))
    }

    #[test]
    fn the_dropping_flow_is_named_with_its_table_and_bridge() {
        let sections = "bridge(\"ovs-br\")\n-----\n 0. priority 0\n    NORMAL\n     -> flooding\n\nbridge(\"br-int\")\n-----\n \
                        0. arp, priority 10\n    resubmit(,5)\n 5. arp,arp_tpa=10.1.1.3, priority 10, cookie 0x1\n    drop\n";
        let flow = Some("table=5, priority=10,arp,arp_tpa=10.1.1.3 actions=drop".to_owned());
        assert_eq!(answer(sections, "drop"), Answer::Drop { bridge: "br-int".to_owned(), flow });
        // The other bridge got it as well.
        assert_eq!(answer(sections, "1"), Answer::Normal);
    }

    #[test]
    fn a_miss_is_a_drop_without_a_flow() {
        let sections = "bridge(\"br\")\n--\n 0. No match.\n    drop\n";
        assert_eq!(answer(sections, "drop"), Answer::Drop { bridge: "br".to_owned(), flow: None });
    }

    #[test]
    fn ports_and_ordinary_switching_are_told_apart() {
        assert_eq!(
            answer("bridge(\"br\")\n--\n 0. in_port=1, priority 5\n    output:2\n    output:3\n", "4,5"),
            Answer::Output(vec![2, 3])
        );
        assert_eq!(answer("bridge(\"br\")\n--\n 0. priority 0\n    NORMAL\n", "4,5"), Answer::Normal);
        // Dropped by what an ordinary switch does, a VLAN for instance: no flow's fault.
        assert_eq!(answer("bridge(\"br\")\n--\n 0. priority 0\n    NORMAL\n", "drop"), Answer::Normal);
    }

    #[test]
    fn what_changes_the_packet_is_unclear() {
        assert_eq!(
            answer("bridge(\"br\")\n--\n 0. ip, priority 5\n    set_field:5->vlan_vid\n    output:2\n", "4"),
            Answer::Unclear
        );
        for garbage in ["", "bridge(\"", "Datapath actions: drop", " 0. x\n drop"] {
            assert_eq!(read(garbage), Answer::Unclear);
        }
    }
}
