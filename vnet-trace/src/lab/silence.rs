//! Shows that nothing is sent: captures on every device of every namespace of a lab, while the tool foretells.
//!
//! Heard is what an asker would cause: ICMP, ARP, neighbour solicitation, TCP, datagrams to the port that is
//! asked. What a network does by itself is let pass: MLD, router solicitation, duplicate address detection, spanning tree,
//! the tunnels that carry these, and what their other ends say about them (port unreachable).

use pcap::{Active, Capture};

use crate::collect::netns::{find::candidates, run_in};

/// The packets that would belong to a question.
const EXPRESSION: &str = "arp or (icmp and icmp[0] != 3) or tcp or (icmp6 and (ip6[40] = 128 or ip6[40] = 129 or (ip6[40] = 135 and not src host ::)))";

/// One namespace's ear.
struct Ear {
    netns: String,
    handle: Capture<Active>,
}

/// Running captures.
pub struct Silence {
    ears: Vec<Ear>,
    deaf: Vec<String>,
}

impl Silence {
    /// Begins to listen in the lab's root and in all its named namespaces; also for datagrams to a port.
    pub fn listen(port: Option<u16>) -> Self {
        let datagrams = port.map(|port| format!(" or udp port {port}")).unwrap_or_default();
        let expression = format!("{EXPRESSION}{datagrams}");
        let mut silence = Self { ears: Vec::new(), deaf: Vec::new() };
        let Ok(own) = crate::collect::netns::Handle::own() else {
            silence.deaf.push("no namespace can be entered".to_owned());
            return silence;
        };
        for candidate in candidates(std::slice::from_ref(&own)).0 {
            if candidate.name.is_none() && candidate.handle.inode() != own.inode() {
                continue;
            }
            let netns = candidate.name.unwrap_or_else(|| ".".to_owned());
            match run_in(&candidate.handle, || open(&expression)) {
                Ok(Ok(handle)) => silence.ears.push(Ear { netns, handle }),
                Ok(Err(error)) => silence.deaf.push(format!("cannot listen in {netns}: {error}")),
                Err(error) => silence.deaf.push(format!("cannot listen in {netns}: {error}")),
            }
        }
        silence
    }

    /// What was heard, one line each; also the reasons for which nothing could be.
    pub fn heard(mut self) -> Vec<String> {
        let mut heard = std::mem::take(&mut self.deaf);
        for ear in &mut self.ears {
            while let Ok(packet) = ear.handle.next_packet() {
                let bytes: String = packet.data.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
                heard.push(format!("in {}: {bytes}", ear.netns));
                if heard.len() >= 8 {
                    return heard;
                }
            }
        }
        heard
    }
}

fn open(expression: &str) -> Result<Capture<Active>, pcap::Error> {
    let inactive = Capture::from_device("any")?.immediate_mode(true).snaplen(128).buffer_size(256 << 10);
    let mut handle = inactive.open()?.setnonblock()?;
    handle.filter(expression, true)?;
    Ok(handle)
}
