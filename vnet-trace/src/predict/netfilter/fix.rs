//! The narrowest change of the rules that lets one exchange through.
//!
//! One accept rule for exactly these addresses and this kind of packet, just before the rule that loses it, in the same chain
//! and by the same program. Whether that is enough is not assumed but tried: the rule is put into a copy of the rule set and
//! the packet is evaluated again, as often as another chain at the hook loses it too; then the reply, where rules say that it
//! would be lost. Nothing is ever flushed, and no policy is changed.
//!
//! On a host where Docker manages the FORWARD chain the rule goes to DOCKER-USER, which Docker leaves alone, if that helps.

use std::net::IpAddr;

use crate::model::diagnosis::{Fix, Risk};
use crate::model::netfilter::expression::{Expression, Field, IpVersion, Match, Op, Pattern, Value};
use crate::model::netfilter::statement::{Statement, Verdict};
use crate::model::netfilter::{Backend, Hook, Rule, RuleRef, Ruleset};

use super::command::{Place, persist, render};
use super::context::{HookContext, Layer, Oracle};
use super::outcome::Outcome;
use super::packet::{CtState, Packet, Transport};
use super::walk::evaluate;

/// Chains at one hook that may all need the rule. More than this is somebody's design, not an accident.
const MAX_PLACES: usize = 8;

/// What an accept rule lets through: this kind of packet between these two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// What it carries; ports of the side that listens only.
    pub what: What,
}

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// ICMP of this type.
    Icmp(u8),
    /// ICMPv6 of this type.
    Icmp6(u8),
    /// Neighbour solicitation and advertisement, between any two: addresses are what it is there to find.
    Neighbours,
    /// TCP to a port.
    TcpTo(u16),
    /// TCP from a port.
    TcpFrom(u16),
    /// UDP to a port.
    UdpTo(u16),
    /// UDP from a port.
    UdpFrom(u16),
    /// ARP with this operation.
    Arp(u16),
    /// Another protocol above IP.
    Protocol(u8),
}

/// Changes that let this packet, lost at `drop`, and the reply to it pass.
///
/// `packet` is as it came to the hook. `prefix` is put before each program, such as `ip netns exec ns1 `.
/// Empty if no accept rule can mend it (a statement that loses it for another reason).
pub fn narrow_fix(
    ruleset: &Ruleset,
    drop: &RuleRef,
    context: &HookContext,
    packet: &Packet,
    oracle: &dyn Oracle,
    prefix: &str,
) -> Vec<Fix> {
    let mut fixes = Vec::new();
    let narrow = Narrow::of(packet);
    let mut plan = Plan::new(ruleset, oracle);
    let user_chain = docker_user(ruleset, drop, context);
    let through_docker = user_chain.filter(|place| {
        plan.put(place.clone(), &narrow);
        plan.passes(context, packet)
    });
    if through_docker.is_none() {
        plan = Plan::new(ruleset, oracle);
        plan.put(Place::before(drop), &narrow);
        plan.until_it_passes(context, packet, &narrow);
    }
    let with_reply = plan.reply_too(context, packet);
    let title = title(&narrow, with_reply, drop, through_docker.as_ref());
    fixes.push(plan.fix(title, prefix));
    if let Some(fix) = stateful(ruleset, drop, context, packet, oracle, prefix) {
        fixes.push(fix);
    }
    fixes
}

/// The idiomatic rule for a lost reply: let through what belongs to a connection.
fn stateful(
    ruleset: &Ruleset,
    drop: &RuleRef,
    context: &HookContext,
    packet: &Packet,
    oracle: &dyn Oracle,
    prefix: &str,
) -> Option<Fix> {
    if packet.conntrack.state != Some(CtState::Established) || context.layer != Layer::Ip {
        return None;
    }
    let mut plan = Plan::new(ruleset, oracle);
    plan.put_stateful(Place::before(drop));
    if !plan.passes(context, packet) {
        return None;
    }
    Some(plan.fix(format!("accept replies to connections that were let through, in chain {}", drop.chain), prefix))
}

/// The first place in DOCKER-USER, if the packet is lost in a chain that Docker manages.
fn docker_user(ruleset: &Ruleset, drop: &RuleRef, context: &HookContext) -> Option<Place> {
    let managed = drop.chain == "FORWARD" || drop.chain.starts_with("DOCKER");
    if context.hook != Hook::Forward || drop.table != "filter" || !managed {
        return None;
    }
    let chain = ruleset.table(drop)?.chain("DOCKER-USER")?;
    let first = chain.rules.first();
    Some(Place {
        backend: drop.backend,
        family: drop.family,
        table: drop.table.clone(),
        chain: chain.name.clone(),
        position: first.map(|rule| rule.position),
        handle: first.and_then(|rule| rule.handle),
    })
}

fn title(narrow: &Narrow, with_reply: bool, drop: &RuleRef, docker: Option<&Place>) -> String {
    let what = match narrow.what {
        What::Icmp(8) | What::Icmp6(128) => "echo requests",
        What::Icmp(0) | What::Icmp6(129) => "echo replies",
        What::Icmp(_) | What::Icmp6(_) => "these ICMP messages",
        What::Neighbours => "neighbour discovery",
        What::TcpTo(_) | What::TcpFrom(_) => "this TCP connection",
        What::UdpTo(_) | What::UdpFrom(_) => "these UDP datagrams",
        What::Arp(1) => "ARP requests",
        What::Arp(_) => "ARP replies",
        What::Protocol(_) => "this protocol",
    };
    let replies = if with_reply { " and the replies" } else { "" };
    let chain = docker.map_or(drop.chain.as_str(), |place| place.chain.as_str());
    if narrow.what == What::Neighbours {
        return format!("accept {what} in chain {chain}");
    }
    format!("accept {what} from {} to {}{replies}, in chain {chain}", narrow.source, narrow.destination)
}

/// What comes back through a tunnel: each end sends to the tunnel's port, from any port, so that the answer is a flow of its own.
/// Ports: VXLAN (RFC 7348, and Linux's old one), Geneve (RFC 8926).
fn tunnel_answer(packet: &Packet) -> Option<Packet> {
    match packet.transport {
        Transport::Udp { destination: port @ (4789 | 8472 | 6081), .. } => {
            let answer = Transport::Udp { source: 0, destination: port };
            Some(Packet::new(packet.destination, packet.source, answer))
        }
        _ => None,
    }
}

/// A rule set being mended, and what was put where.
struct Plan<'a> {
    ruleset: Ruleset,
    oracle: &'a dyn Oracle,
    put: Vec<(Place, Option<Narrow>)>,
    two_backends: bool,
}

impl<'a> Plan<'a> {
    fn new(ruleset: &Ruleset, oracle: &'a dyn Oracle) -> Plan<'a> {
        let has = |backend: Backend| ruleset.tables.iter().any(|table| table.backend == backend);
        let two_backends = has(Backend::IptablesNft) && has(Backend::IptablesLegacy);
        Plan { ruleset: ruleset.clone(), oracle, put: Vec::new(), two_backends }
    }

    fn put(&mut self, place: Place, narrow: &Narrow) {
        self.insert(&place, narrow.statements());
        self.put.push((place, Some(narrow.clone())));
    }

    fn put_stateful(&mut self, place: Place) {
        let condition =
            Match { left: Expression::Field(Field::CtState), op: Op::AnyBit, right: Pattern::Is(Value::Number(6)) };
        self.insert(&place, vec![Statement::Match(condition), Statement::Verdict(Verdict::Accept)]);
        self.put.push((place, None));
    }

    fn insert(&mut self, place: &Place, statements: Vec<Statement>) {
        let found = self
            .ruleset
            .tables
            .iter_mut()
            .find(|table| table.backend == place.backend && table.family == place.family && table.name == place.table)
            .and_then(|table| table.chains.iter_mut().find(|chain| chain.name == place.chain));
        let Some(chain) = found else { return };
        let at = chain
            .rules
            .iter()
            .position(|rule| match (place.handle, rule.handle) {
                (Some(wanted), Some(handle)) => wanted == handle,
                _ => Some(rule.position) == place.position,
            })
            .unwrap_or(chain.rules.len());
        chain.rules.insert(at, Rule { text: "accept".to_owned(), statements, ..Rule::default() });
        for (index, rule) in chain.rules.iter_mut().enumerate() {
            rule.position = index as u32 + 1;
        }
    }

    fn passes(&self, context: &HookContext, packet: &Packet) -> bool {
        !matches!(evaluate(&self.ruleset, context, &mut packet.clone(), self.oracle).outcome, Outcome::Drop { .. })
    }

    /// Puts the rule wherever else at this hook the packet is lost.
    fn until_it_passes(&mut self, context: &HookContext, packet: &Packet, narrow: &Narrow) -> bool {
        while self.put.len() < MAX_PLACES {
            match evaluate(&self.ruleset, context, &mut packet.clone(), self.oracle).outcome {
                Outcome::Drop { loss, .. } if !loss.no_address => self.put(Place::before(&loss.at), narrow),
                _ => return true,
            }
        }
        false
    }

    /// Lets the reply pass where rules would lose it: at the same hook on the way back, or at the host's other hook.
    fn reply_too(&mut self, context: &HookContext, packet: &Packet) -> bool {
        if packet.conntrack.reply == Some(true) || Narrow::of(packet).what == What::Neighbours {
            return false;
        }
        let hook = match context.hook {
            Hook::Forward => Hook::Forward,
            Hook::Input => Hook::Output,
            Hook::Output => Hook::Input,
            _ => return false,
        };
        let back = HookContext {
            hook,
            layer: context.layer,
            input: context.output.clone(),
            output: context.input.clone(),
            bridged: context
                .bridged
                .as_ref()
                .map(|ports| super::context::BridgePorts { input: ports.output.clone(), output: ports.input.clone() }),
        };
        let reply = tunnel_answer(packet).unwrap_or_else(|| packet.reply());
        if context.layer == Layer::Arp && matches!(packet.transport, Transport::Arp { .. }) {
            // The answer is a frame of its own, judged when it is lost.
            return false;
        }
        let before = self.put.len();
        let narrow = Narrow::of(&reply);
        self.until_it_passes(&back, &reply, &narrow);
        self.put.len() > before
    }

    fn fix(self, title: String, prefix: &str) -> Fix {
        let mut commands = Vec::new();
        let mut undo = Vec::new();
        for (place, narrow) in &self.put {
            for change in render(place, narrow.as_ref(), prefix, self.two_backends) {
                commands.push(change.command);
                undo.push(change.undo);
            }
        }
        undo.reverse();
        let persist = self.put.first().map(|(place, _)| persist(place)).unwrap_or_default();
        Fix { title, risk: Risk::ChangesPolicy, commands, undo, persist }
    }
}

impl Narrow {
    /// What lets exactly this packet, and others like it between the same two, through.
    pub fn of(packet: &Packet) -> Narrow {
        let what = match packet.transport {
            Transport::Icmp { kind, .. } => What::Icmp(kind),
            Transport::Icmp6 { kind: 135 | 136, .. } => What::Neighbours,
            Transport::Icmp6 { kind, .. } => What::Icmp6(kind),
            Transport::Tcp { destination, .. } if packet.conntrack.reply != Some(true) => What::TcpTo(destination),
            Transport::Tcp { source, .. } => What::TcpFrom(source),
            Transport::Udp { destination, .. } if packet.conntrack.reply != Some(true) => What::UdpTo(destination),
            Transport::Udp { source, .. } => What::UdpFrom(source),
            Transport::Arp { operation, .. } => What::Arp(operation),
            Transport::Other(protocol) => What::Protocol(protocol),
        };
        Narrow { source: packet.source, destination: packet.destination, what }
    }

    /// IP version of the addresses.
    pub fn version(&self) -> IpVersion {
        if self.source.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
    }

    /// The accept rule in the model.
    fn statements(&self) -> Vec<Statement> {
        let is = |field: Field, value: Value| {
            Statement::Match(Match { left: Expression::Field(field), op: Op::Equal, right: Pattern::Is(value) })
        };
        let version = self.version();
        let number = |number: u16| Value::Number(u64::from(number));
        let addresses = || {
            vec![
                is(Field::Source(version), Value::Address(self.source)),
                is(Field::Destination(version), Value::Address(self.destination)),
            ]
        };
        let mut statements = match self.what {
            What::Arp(operation) => vec![
                is(Field::ArpOperation, number(operation)),
                is(Field::ArpSourceIp, Value::Address(self.source)),
                is(Field::ArpTargetIp, Value::Address(self.destination)),
            ],
            What::Neighbours => vec![Statement::Match(Match {
                left: Expression::Field(Field::Icmp6Type),
                op: Op::Equal,
                right: Pattern::Range { from: Value::Number(135), to: Value::Number(136) },
            })],
            _ => addresses(),
        };
        statements.extend(match self.what {
            What::Icmp(kind) => Some(is(Field::IcmpType, Value::Number(u64::from(kind)))),
            What::Icmp6(kind) => Some(is(Field::Icmp6Type, Value::Number(u64::from(kind)))),
            What::TcpTo(port) => Some(is(Field::DestinationPort(6), number(port))),
            What::TcpFrom(port) => Some(is(Field::SourcePort(6), number(port))),
            What::UdpTo(port) => Some(is(Field::DestinationPort(17), number(port))),
            What::UdpFrom(port) => Some(is(Field::SourcePort(17), number(port))),
            What::Protocol(protocol) => Some(is(Field::L4Proto, Value::Number(u64::from(protocol)))),
            What::Arp(_) | What::Neighbours => None,
        });
        statements.push(Statement::Verdict(Verdict::Accept));
        statements
    }
}
