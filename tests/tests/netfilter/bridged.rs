//! The same for frames on a bridge and for ARP: two hosts on one bridge, and the bridge's own address.

use std::net::{IpAddr, Ipv4Addr};

use libtest_mimic::Failed;
use vnet_trace::collect::netfilter::{DEADLINE, read_ruleset};
use vnet_trace::model::netfilter::{Hook, RuleRef, Ruleset};
use vnet_trace::predict::netfilter::context::{BridgePorts, Device, HookContext, LocalAddresses};
use vnet_trace::predict::netfilter::outcome::Outcome;
use vnet_trace::predict::netfilter::packet::{Cast, Ether, Packet, Transport};
use vnet_trace::predict::netfilter::{counters_increased, evaluate, narrow_fix};

use crate::network::sh;

/// Two hosts `n1` (10.0.0.1) and `n2` (10.0.0.2) on bridge `br0` (10.0.0.254), each behind its port `p1`, `p2`.
pub const SETUP: &str = "
sysctl -qw net.ipv4.ip_forward=0
ip link set lo up
ip link add br0 address 02:00:00:00:00:fe type bridge forward_delay 0 mcast_snooping 0
ip addr add 10.0.0.254/24 dev br0
ip link set br0 up
for i in 1 2; do
  ip netns add n$i
  ip link add p$i type veth peer name eth0 address 02:00:00:00:00:0$i netns n$i
  ip link set p$i up master br0
  ip -n n$i link set lo up
  ip -n n$i addr add 10.0.0.$i/24 dev eth0
  ip -n n$i link set eth0 up
done
for i in 1 2; do
  is_up ip -br link show p$i
  is_up ip -n n$i -br link show eth0
done
is_up ip -br link show br0
";

/// Rules for the bridge, and whether br_netfilter shows bridged frames to the IP hooks.
pub struct BridgeCase {
    /// What it is about.
    pub name: &'static str,
    /// net.bridge.bridge-nf-call-iptables.
    pub call_iptables: bool,
    /// The rules.
    pub script: &'static str,
}

const fn plain(name: &'static str, script: &'static str) -> BridgeCase {
    BridgeCase { name, call_iptables: false, script }
}

const fn called(name: &'static str, script: &'static str) -> BridgeCase {
    BridgeCase { name, call_iptables: true, script }
}

/// All of them.
pub const CASES: &[BridgeCase] = &[
    plain("nothing", ""),
    plain("ebtables drops arp to a port", "ebtables -A FORWARD -p 0x0806 -o p2 -j DROP"),
    plain(
        "ebtables drops echo requests",
        "ebtables -A FORWARD -p ip --ip-proto icmp --ip-src 10.0.0.1 --ip-icmp-type 8 -j DROP",
    ),
    plain("ebtables policy", "ebtables -P FORWARD DROP; ebtables -A FORWARD -p ARP -j ACCEPT"),
    plain(
        "ebtables chain with a policy",
        "ebtables -N X -P DROP; ebtables -A FORWARD -p ARP -j ACCEPT; ebtables -A FORWARD -j X; ebtables -A X -p IPv4 --ip-src 10.0.0.1 -j ACCEPT",
    ),
    plain(
        "ebtables mac",
        "ebtables -A FORWARD -s 02:00:00:00:00:02 -p IPv4 -j DROP; ebtables -A INPUT -d Multicast -j ACCEPT",
    ),
    plain("ebtables mac not", "ebtables -A FORWARD ! -s 02:00:00:00:00:01 -p IPv4 -j DROP"),
    plain("ebtables broadcast", "ebtables -A FORWARD -d Broadcast -j DROP"),
    plain("ebtables arp reply", "ebtables -A FORWARD -p ARP --arp-op Reply --arp-ip-src 10.0.0.2 -j DROP"),
    plain("ebtables input", "ebtables -A INPUT -p ARP --arp-ip-src 10.0.0.1 -j DROP"),
    plain("ebtables input ip", "ebtables -A INPUT -p IPv4 --ip-proto icmp --ip-dst 10.0.0.0/24 -j DROP"),
    plain("ebtables output", "ebtables -A OUTPUT -p IPv4 --ip-src 10.0.0.254 -j DROP"),
    plain("ebtables nat prerouting", "ebtables -t nat -A PREROUTING -s 02:00:00:00:00:01 -p IPv4 -j DROP"),
    plain("ebtables nat postrouting", "ebtables -t nat -A POSTROUTING -o p1 -p IPv4 -j DROP"),
    plain(
        "nft bridge forward",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g c ether type ip ip protocol icmp counter drop'",
    ),
    plain(
        "nft bridge hidden ethertype",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; policy drop; }; add rule bridge g c ether type arp accept; add rule bridge g c icmp type echo-request accept'",
    ),
    plain(
        "nft bridge arp",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g c arp operation request arp daddr ip 10.0.0.2 counter drop'",
    ),
    plain(
        "nft bridge ports",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g c iifname \"p2\" oifname \"p1\" ip saddr 10.0.0.2 counter drop'",
    ),
    plain(
        "nft bridge input",
        "nft 'add table bridge g; add chain bridge g c { type filter hook input priority 0; }; add rule bridge g c ether saddr 02:00:00:00:00:01 ip protocol icmp counter drop'",
    ),
    plain(
        "nft bridge prerouting mark",
        "nft 'add table bridge g; add chain bridge g p { type filter hook prerouting priority 0; }; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g p iifname \"p1\" meta mark set 7; add rule bridge g c meta mark 7 ip protocol icmp counter drop'",
    ),
    plain(
        "nft bridge multicast bit",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g c ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 counter drop'",
    ),
    plain(
        "nft arp input",
        "nft 'add table arp g; add chain arp g c { type filter hook input priority 0; }; add rule arp g c arp operation request arp saddr ip 10.0.0.1 counter drop'",
    ),
    plain(
        "nft arp output",
        "nft 'add table arp g; add chain arp g c { type filter hook output priority 0; }; add rule arp g c arp operation reply arp daddr ip 10.0.0.1 counter drop'",
    ),
    plain("arptables", "arptables -A INPUT -s 10.0.0.1 --opcode 1 -j DROP"),
    plain(
        "arptables mac",
        "arptables -A INPUT ! --source-mac 02:00:00:00:00:01 -j DROP; arptables -A OUTPUT -d 10.0.0.2 -j DROP",
    ),
    plain("ip rules do not see bridged frames", "iptables -P FORWARD DROP"),
    called("br_netfilter and iptables policy", "iptables -P FORWARD DROP"),
    called(
        "br_netfilter and physdev",
        "iptables -A FORWARD -m physdev --physdev-in p1 --physdev-out p2 --physdev-is-bridged -p icmp -j DROP",
    ),
    called(
        "br_netfilter and physdev of the other port",
        "iptables -A FORWARD -m physdev --physdev-in p2 -p icmp -m icmp --icmp-type 8 -j DROP",
    ),
    called("br_netfilter and the bridge's name", "iptables -A FORWARD -i br0 -o br0 -p icmp -j DROP"),
    called("br_netfilter and a port's name", "iptables -A FORWARD -i p1 -j DROP"),
    called(
        "br_netfilter and nft inet",
        "nft 'add table inet h; add chain inet h t { type filter hook forward priority 0; }; add rule inet h t ip saddr 10.0.0.0/24 ip daddr 10.0.0.2 counter drop'",
    ),
    called("br_netfilter and raw prerouting", "iptables -t raw -A PREROUTING -i br0 -s 10.0.0.1 -p icmp -j DROP"),
    called(
        "br_netfilter and states",
        "iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A FORWARD -s 10.0.0.1 -j ACCEPT",
    ),
];

/// Rules whose loss is mended by the tool's own fix.
pub const FIXES: &[BridgeCase] = &[
    plain("ebtables arp rule", "ebtables -A FORWARD -p IPv4 -j ACCEPT; ebtables -A FORWARD -p 0x0806 -o p2 -j DROP"),
    plain("ebtables policy", "ebtables -P FORWARD DROP"),
    plain(
        "nft bridge rule",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; }; add rule bridge g c ether type ip ip protocol icmp counter drop'",
    ),
    plain(
        "nft bridge policy",
        "nft 'add table bridge g; add chain bridge g c { type filter hook forward priority 0; policy drop; }'",
    ),
    called("br_netfilter", "iptables -P FORWARD DROP"),
    plain(
        "nft arp rule",
        "nft 'add table arp g; add chain arp g c { type filter hook input priority 0; }; add rule arp g c arp operation request arp saddr ip 10.0.0.1 counter drop'",
    ),
    plain("arptables rule", "arptables -A INPUT -s 10.0.0.3 -j DROP; arptables -A INPUT -s 10.0.0.1 -j DROP"),
];

/// Who asks whom.
const PROBES: &[(&str, [u8; 4])] =
    &[("n1", [10, 0, 0, 2]), ("n2", [10, 0, 0, 1]), ("n1", [10, 0, 0, 254]), ("r", [10, 0, 0, 2])];

/// Predicts, asks the kernel, compares.
pub fn compare(case: &BridgeCase) -> Result<(), Failed> {
    load(case)?;
    let before = read_ruleset(DEADLINE);
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    for (from, to) in PROBES {
        let way = Way { ruleset: &before, call_iptables: case.call_iptables }.exchange(from, Ipv4Addr::from(*to));
        let seconds = if way.is_ok() { "10" } else { "0.4" };
        forget_neighbours()?;
        let passed = ping(from, Ipv4Addr::from(*to), seconds);
        if way.is_ok() != passed {
            let rule = way.as_ref().err().map(|lost| &lost.rule);
            wrong.push(format!("{from} to {to:?}: predicted {rule:?}, passed: {passed}"));
        }
        expected.push(way);
    }
    let after = read_ruleset(DEADLINE);
    for lost in expected.iter().filter_map(|way| way.as_ref().err()) {
        match &lost.rule {
            Some(rule) if counters_increased(&before, &after, rule) == Some(0) => {
                wrong.push(format!("{} is said to lose a packet, and its counter stands still", rule.text));
            }
            None => wrong.push("undecided".to_owned()),
            Some(_) => {}
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\ngaps: {:?}", wrong.join("\n"), before.gaps).into()) }
}

/// Carries out the first fix for each loss of a ping from `n1`, until it passes.
pub fn heals(case: &BridgeCase) -> Result<(), Failed> {
    load(case)?;
    let to =
        if case.script.contains("arp") && !case.script.contains("ebtables") { [10, 0, 0, 254] } else { [10, 0, 0, 2] };
    let to = Ipv4Addr::from(to);
    if ping("n1", to, "0.4") {
        return Err("it is not lost in the first place".into());
    }
    let mut done = Vec::new();
    for _ in 0..6 {
        let ruleset = read_ruleset(DEADLINE);
        let Err(lost) = (Way { ruleset: &ruleset, call_iptables: case.call_iptables }).exchange("n1", to) else {
            break;
        };
        let Some(rule) = lost.rule else { return Err("undecided".into()) };
        let fixes = narrow_fix(&ruleset, &rule, &lost.context, &lost.packet, &addresses(), "");
        let Some(fix) = fixes.into_iter().next() else { return Err("no fix".into()) };
        for command in &fix.commands {
            sh(command)?;
        }
        done.push(fix);
    }
    forget_neighbours()?;
    if done.is_empty() || !ping("n1", to, "2") {
        return Err(format!("not healed by {done:?}").into());
    }
    for command in done.iter().rev().flat_map(|fix| &fix.undo) {
        sh(command)?;
    }
    forget_neighbours()?;
    if ping("n1", to, "0.4") { Err("undo does not take it back".into()) } else { Ok(()) }
}

fn load(case: &BridgeCase) -> Result<(), Failed> {
    sh(&format!("sysctl -qw net.bridge.bridge-nf-call-iptables={}", u8::from(case.call_iptables)))?;
    sh(case.script)
}

fn forget_neighbours() -> Result<(), Failed> {
    sh("ip neigh flush dev br0; ip -n n1 neigh flush dev eth0; ip -n n2 neigh flush dev eth0")
}

fn ping(from: &str, to: Ipv4Addr, seconds: &str) -> bool {
    let command = format!("ping -n -c 1 -W {seconds} {to} >&2");
    sh(&if from == "r" { command } else { format!("ip netns exec {from} {command}") }).is_ok()
}

fn addresses() -> LocalAddresses {
    LocalAddresses { addresses: vec![("br0".to_owned(), IpAddr::from([10, 0, 0, 254]))] }
}

/// Where an exchange is lost; without a rule where that cannot be said.
struct Lost {
    rule: Option<RuleRef>,
    context: HookContext,
    packet: Packet,
}

/// Frames on their way through the bridge.
struct Way<'a> {
    ruleset: &'a Ruleset,
    call_iptables: bool,
}

impl Way<'_> {
    /// ARP request, ARP reply, echo request, echo reply.
    fn exchange(&self, from: &str, to: Ipv4Addr) -> Result<(), Box<Lost>> {
        let asker = match from {
            "n1" => Ipv4Addr::new(10, 0, 0, 1),
            "n2" => Ipv4Addr::new(10, 0, 0, 2),
            _ => Ipv4Addr::new(10, 0, 0, 254),
        };
        let mut question = Packet::arp_request(mac(asker), asker, to);
        self.pass(&mut question, asker, to)?;
        let mut answer = question.reply();
        answer.transport = Transport::Arp { operation: 2, sender: mac(to), target: mac(asker) };
        answer.ether = Some(Ether { source: mac(to), destination: mac(asker), vlan: None });
        answer.cast = None;
        self.pass(&mut answer, to, asker)?;
        let mut request = Packet::echo_request(asker.into(), to.into(), 7);
        request.ether = Some(Ether { source: mac(asker), destination: mac(to), vlan: None });
        request.hop_limit = Some(64);
        self.pass(&mut request, asker, to)?;
        let mut reply = request.reply();
        reply.hop_limit = Some(64);
        reply.ether = Some(Ether { source: mac(to), destination: mac(asker), vlan: None });
        self.pass(&mut reply, to, asker)
    }

    fn pass(&self, packet: &mut Packet, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), Box<Lost>> {
        let (input, output) = (port(from), port(to));
        let arp = packet.protocol == 0x0806;
        let bridge = Device::named(0, "br0");
        let ip = |hook, output: Option<&Device>| {
            let ports = BridgePorts {
                input: input.as_ref().map(|port| port.name.clone()),
                output: output.map(|port| port.name.clone()),
            };
            HookContext::bridged_ip(hook, &bridge, ports)
        };
        match (&input, &output) {
            (Some(input), Some(output)) => {
                packet.cast = packet.cast.or(Some(Cast::Other));
                self.ask(HookContext::bridge(Hook::Prerouting, Some(input.clone()), None), packet)?;
                if self.call_iptables && !arp {
                    self.ask(ip(Hook::Prerouting, None), packet)?;
                }
                self.ask(HookContext::bridge(Hook::Forward, Some(input.clone()), Some(output.clone())), packet)?;
                if self.call_iptables && !arp {
                    self.ask(ip(Hook::Forward, Some(output)), packet)?;
                }
                self.ask(HookContext::bridge(Hook::Postrouting, None, Some(output.clone())), packet)?;
                if self.call_iptables && !arp {
                    self.ask(ip(Hook::Postrouting, Some(output)), packet)?;
                }
            }
            (Some(input), None) => {
                self.ask(HookContext::bridge(Hook::Prerouting, Some(input.clone()), None), packet)?;
                self.ask(HookContext::bridge(Hook::Input, Some(input.clone()), None), packet)?;
                if arp {
                    self.ask(HookContext::arp(Hook::Input, Some(bridge), None), packet)?;
                } else {
                    self.ask(HookContext::ip(Hook::Prerouting, Some(bridge.clone()), None), packet)?;
                    self.ask(HookContext::ip(Hook::Input, Some(bridge), None), packet)?;
                }
            }
            (None, Some(output)) => {
                if arp {
                    self.ask(HookContext::arp(Hook::Output, None, Some(bridge)), packet)?;
                } else {
                    self.ask(HookContext::ip(Hook::Output, None, Some(bridge.clone())), packet)?;
                    self.ask(HookContext::ip(Hook::Postrouting, None, Some(bridge)), packet)?;
                }
                self.ask(HookContext::bridge(Hook::Output, None, Some(output.clone())), packet)?;
                self.ask(HookContext::bridge(Hook::Postrouting, None, Some(output.clone())), packet)?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn ask(&self, context: HookContext, packet: &mut Packet) -> Result<(), Box<Lost>> {
        let before = packet.clone();
        let rule = match evaluate(self.ruleset, &context, packet, &addresses()).outcome {
            Outcome::Accept => return Ok(()),
            Outcome::Drop { loss, .. } => Some(loss.at),
            Outcome::Taken { .. } | Outcome::Undecided { .. } => None,
        };
        Err(Box::new(Lost { rule, context, packet: before }))
    }
}

fn port(address: Ipv4Addr) -> Option<Device> {
    let name = match address.octets()[3] {
        1 => "p1",
        2 => "p2",
        _ => return None,
    };
    Some(Device {
        bridge: Some("br0".to_owned()),
        kind: Some("veth".to_owned()),
        device_type: Some(1),
        ..Device::named(0, name)
    })
}

fn mac(address: Ipv4Addr) -> [u8; 6] {
    [2, 0, 0, 0, 0, address.octets()[3]]
}
