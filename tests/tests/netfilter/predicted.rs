//! The way of a probe through the router, hook by hook, with nothing but its rules and addresses.

use std::net::IpAddr;

use vnet_trace::model::netfilter::{Hook, RuleRef, Ruleset};
use vnet_trace::predict::netfilter::context::{Device, HookContext, LocalAddresses};
use vnet_trace::predict::netfilter::evaluate;
use vnet_trace::predict::netfilter::outcome::Outcome;
use vnet_trace::predict::netfilter::packet::{Cast, CtState, Ether, NatBinding, Packet, Transport};

use crate::network::{Carried, Probe};

/// What should become of a probe.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Question and answer arrive.
    Passes,
    /// A rule loses one of them.
    Lost(RuleRef),
    /// The evaluator does not know.
    Undecided,
}

enum Stop {
    Lost(RuleRef),
    Undecided,
}

/// Follows a probe and its answer through the router.
pub fn predict(ruleset: &Ruleset, probe: &Probe) -> Expected {
    match Router::new(ruleset).exchange(probe) {
        Ok(()) => Expected::Passes,
        Err(Stop::Lost(rule)) => Expected::Lost(rule),
        Err(Stop::Undecided) => Expected::Undecided,
    }
}

/// The context and packet at the hook where a probe is lost.
pub fn lost_at(ruleset: &Ruleset, probe: &Probe) -> Option<(HookContext, Packet, RuleRef)> {
    let mut router = Router::new(ruleset);
    match router.exchange(probe) {
        Err(Stop::Lost(rule)) => router.last.map(|(context, packet)| (context, packet, rule)),
        _ => None,
    }
}

/// The router's own addresses.
pub fn addresses() -> LocalAddresses {
    let own = [("ra", "10.0.1.1"), ("rb", "10.0.2.1"), ("ra", "fd00:1::1"), ("rb", "fd00:2::1"), ("lo", "127.0.0.1")];
    LocalAddresses { addresses: own.iter().map(|(name, text)| ((*name).to_owned(), address(text))).collect() }
}

struct Router<'a> {
    ruleset: &'a Ruleset,
    addresses: LocalAddresses,
    last: Option<(HookContext, Packet)>,
}

impl<'a> Router<'a> {
    fn new(ruleset: &'a Ruleset) -> Router<'a> {
        Router { ruleset, addresses: addresses(), last: None }
    }

    fn exchange(&mut self, probe: &Probe) -> Result<(), Stop> {
        let to = address(probe.to);
        let from = source(probe.from, to);
        let transport = match (probe.what, from) {
            (Carried::Ping, _) => Packet::echo_request(from, to, 77).transport,
            (Carried::Tcp(port), _) => Transport::Tcp { source: 40000, destination: port, flags: 2 },
            (Carried::Udp(port), _) => Transport::Udp { source: 40001, destination: port },
        };
        let mut packet = Packet::new(from, to, transport);
        packet.hop_limit = Some(64);
        packet.length = Some(length(probe.what, from));
        packet.dont_fragment = Some(true);
        packet.socket_user = Some(0);
        let original = packet.tuple();
        self.way(&mut packet, probe.from == "r")?;
        let binding = NatBinding::new(original, packet.tuple());
        let mut answer = packet.reply();
        answer.hop_limit = Some(64);
        answer.socket_user = None;
        answer.length = packet.length;
        answer.conntrack.mark = packet.conntrack.mark;
        answer.conntrack.original = Some(original);
        answer.conntrack.snat = packet.conntrack.snat;
        answer.conntrack.dnat = packet.conntrack.dnat;
        if packet.conntrack.state == Some(CtState::Untracked) {
            // Nothing remembers the question.
            answer.conntrack.state = Some(CtState::Invalid);
            if !matches!(probe.what, Carried::Ping) {
                answer.conntrack.state = Some(CtState::New);
            }
        }
        let own = self.is_own(answer.source);
        self.way_back(&mut answer, &binding, own)
    }

    /// A question: from a host through the router or to it, or from the router itself.
    fn way(&mut self, packet: &mut Packet, from_here: bool) -> Result<(), Stop> {
        if from_here {
            return self.send(packet);
        }
        let input = device_towards(packet.source);
        self.enter(packet, &input)?;
        if self.is_own(packet.destination) {
            return self.ask(HookContext::ip(Hook::Input, Some(input), None), packet);
        }
        self.forward(packet, input)
    }

    fn way_back(&mut self, answer: &mut Packet, binding: &NatBinding, from_here: bool) -> Result<(), Stop> {
        if from_here {
            let output = device_towards(answer.destination);
            self.ask(HookContext::ip(Hook::Output, None, Some(output.clone())), answer)?;
            if let Some(tuple) = binding.destination_first(answer.tuple()) {
                answer.set_tuple(tuple);
            }
            self.ask(HookContext::ip(Hook::Postrouting, None, Some(output.clone())), answer)?;
            if !binding.is_identity() {
                answer.set_tuple(binding.original.reversed());
            }
            return self.leave(answer, output);
        }
        let input = device_towards(answer.source);
        self.ask(HookContext::ingress(input.clone()), answer)?;
        answer.cast = Some(Cast::Host);
        answer.ether = Some(ether(&input));
        self.prerouting(answer, &input)?;
        if answer.conntrack.state == Some(CtState::Established)
            && let Some(tuple) = binding.destination_first(answer.tuple())
        {
            answer.set_tuple(tuple);
        }
        if self.is_own(answer.destination) {
            self.ask(HookContext::ip(Hook::Input, Some(input), None), answer)?;
            // What comes back to the asker must come from where it asked.
            return Ok(());
        }
        self.forward(answer, input)
    }

    fn send(&mut self, packet: &mut Packet) -> Result<(), Stop> {
        let output = device_towards(packet.destination);
        self.ask(HookContext::ip(Hook::Output, None, Some(output)), packet)?;
        // The output hook may have rewritten the destination: the kernel routes again.
        let output = device_towards(packet.destination);
        self.ask(HookContext::ip(Hook::Postrouting, None, Some(output.clone())), packet)?;
        self.leave(packet, output)
    }

    fn enter(&mut self, packet: &mut Packet, input: &Device) -> Result<(), Stop> {
        packet.ether = Some(ether(input));
        packet.cast = Some(Cast::Host);
        self.ask(HookContext::ingress(input.clone()), packet)?;
        self.prerouting(packet, input)
    }

    fn prerouting(&mut self, packet: &mut Packet, input: &Device) -> Result<(), Stop> {
        self.ask(HookContext::ip(Hook::Prerouting, Some(input.clone()), None), packet)
    }

    fn forward(&mut self, packet: &mut Packet, input: Device) -> Result<(), Stop> {
        packet.hop_limit = packet.hop_limit.map(|left| left - 1);
        packet.socket_user = None;
        let output = device_towards(packet.destination);
        self.ask(HookContext::ip(Hook::Forward, Some(input), Some(output.clone())), packet)?;
        self.ask(HookContext::ip(Hook::Postrouting, None, Some(output.clone())), packet)?;
        self.leave(packet, output)
    }

    fn leave(&mut self, packet: &mut Packet, output: Device) -> Result<(), Stop> {
        self.ask(HookContext::egress(output), packet)
    }

    fn ask(&mut self, context: HookContext, packet: &mut Packet) -> Result<(), Stop> {
        let (context, _) = self.last.insert((context, packet.clone()));
        match evaluate(self.ruleset, context, packet, &self.addresses).outcome {
            Outcome::Accept => Ok(()),
            Outcome::Drop { loss, .. } => Err(Stop::Lost(loss.at)),
            Outcome::Taken { .. } | Outcome::Undecided { .. } => Err(Stop::Undecided),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.addresses.iter().any(|(_, own)| *own == address)
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn source(namespace: &str, to: IpAddr) -> IpAddr {
    address(match (namespace, to.is_ipv4()) {
        ("a", true) => "10.0.1.2",
        ("a", false) => "fd00:1::2",
        ("b", true) => "10.0.2.2",
        ("b", false) => "fd00:2::2",
        (_, true) => "10.0.2.1",
        (_, false) => "fd00:2::1",
    })
}

fn device_towards(address: IpAddr) -> Device {
    let towards_a = match address {
        IpAddr::V4(address) => address.octets()[2] == 1,
        IpAddr::V6(address) => address.segments()[1] == 1,
    };
    let name = if towards_a { "ra" } else { "rb" };
    Device { kind: Some("veth".to_owned()), device_type: Some(1), ..Device::named(0, name) }
}

fn ether(input: &Device) -> Ether {
    let net = if input.name == "ra" { 1 } else { 2 };
    Ether { source: [2, 0, 0, 0, net, 2], destination: [2, 0, 0, 0, net, 1], vlan: None }
}

fn length(what: Carried, from: IpAddr) -> u32 {
    let header = if from.is_ipv4() { 20 } else { 40 };
    header
        + match what {
            Carried::Ping => 64,
            Carried::Tcp(_) => 40,
            Carried::Udp(_) => 10,
        }
}
