//! Walks the chains of a hook as the kernel does, keeping every end that is still possible.
//!
//! A rule that cannot be answered splits the world in two: in one it matched, in the other it did not. Following both to
//! the end would double the work at every such rule, so a chain is evaluated once and gives the *set* of its possible ends:
//! verdicts, and whether it may return to its caller. A certain verdict ends the walk; a possible one is noted, and the
//! walk goes on in the world where the rule did not match. That costs one pass whatever the number of unanswerable rules is.
//! The price is that two conditions which exclude each other are both taken as possible; the answer is then *undecided* where
//! a finer analysis might have decided. It is never wrong the other way.
//!
//! Order of the chains at one hook (nf_hook_entries_grow, net/netfilter/core.c): by priority; of two with the same, the one
//! registered later runs first. Chains of type nat are the exception: conntrack calls them all from its own two places
//! (-100 and 100), whatever their priority, which orders them only among themselves; the first that rewrites ends them
//! (nf_nat_inet_fn, net/netfilter/nf_nat_core.c).

use crate::model::netfilter::expression::{Expression, Field, Match, Op, Pattern, Value, ct_state};
use crate::model::netfilter::statement::{NatKind, Statement, Verdict};
use crate::model::netfilter::{Base, Chain, ChainKind, Family, Hook, Policy, Rule, RuleRef, Ruleset, Table};
use crate::model::netfilter::{Element, ElementData};

use super::condition::{Case, Found, Truth};
use super::context::{HookContext, Layer, Oracle};
use super::mangle;
use super::nat::{Rewritten, kind_at, rewrite};
use super::outcome::{
    Change, Doubt, DoubtKind, Effect, Evaluation, Failed, Loss, NearMiss, Outcome, Passed, Taken, Would,
};
use super::packet::{CtState, Packet, Tuple};
use super::read::{Reading, View};

/// Statements looked at before we give up. A rule set that the kernel can bear per packet is far below.
const BUDGET: u32 = 4_000_000;
/// Chains within chains. The kernel allows nftables 16, and iptables more.
const DEPTH: u32 = 64;
/// Rules kept in the trace.
const TRACE: usize = 512;
/// Near misses kept.
const NEAR_MISSES: usize = 64;

/// What the rules at one hook make of a packet. The packet is changed as they would change it.
pub fn evaluate(ruleset: &Ruleset, context: &HookContext, packet: &mut Packet, oracle: &dyn Oracle) -> Evaluation {
    if packet.conntrack.state == Some(CtState::New) && packet.conntrack.original.is_none() && context.layer == Layer::Ip
    {
        packet.conntrack.original = Some(packet.tuple());
    }
    let mut walk = Walk {
        context,
        oracle,
        packet,
        priority: 0,
        certain: true,
        invalid: 0,
        budget: BUDGET,
        nat_settled: false,
        nat_chains: Vec::new(),
        evaluation: Evaluation {
            outcome: Outcome::Accept,
            trace: Vec::new(),
            effects: Vec::new(),
            near_misses: Vec::new(),
            assumptions: Vec::new(),
        },
        doubts: Vec::new(),
    };
    walk.hook(ruleset);
    walk.evaluation
}

/// The base chains that see a packet at a place, in the order in which they run.
pub fn chains_at<'r>(
    ruleset: &'r Ruleset,
    context: &HookContext,
    packet: &Packet,
) -> Vec<(&'r Table, &'r Chain, &'r Base)> {
    let mut found = Vec::new();
    let mut order = 0u32;
    for table in ruleset.tables.iter().filter(|table| !table.dormant) {
        for chain in &table.chains {
            let Some(base) = &chain.base else { continue };
            order += 1;
            if base.hook == context.hook && sees(table.family, base, context, packet) {
                let place = match (base.kind, base.hook) {
                    (ChainKind::Nat, Hook::Prerouting | Hook::Output) => -100,
                    (ChainKind::Nat, _) => 100,
                    _ => base.priority,
                };
                // Of two chains with one priority, the one registered later runs first.
                found.push(((place, base.priority, u32::MAX - order), (table, chain, base)));
            }
        }
    }
    found.sort_by_key(|(key, _)| *key);
    found.into_iter().map(|(_, chain)| chain).collect()
}

fn sees(family: Family, base: &Base, context: &HookContext, packet: &Packet) -> bool {
    let device = match context.hook {
        Hook::Ingress => context.input.as_ref(),
        Hook::Egress => context.output.as_ref(),
        _ => None,
    };
    match (context.layer, family) {
        (Layer::Ip, Family::Ip) => packet.protocol == 0x0800,
        (Layer::Ip, Family::Ip6) => packet.protocol == 0x86dd,
        (Layer::Ip, Family::Inet) => matches!(packet.protocol, 0x0800 | 0x86dd),
        (Layer::Bridge, Family::Bridge) | (Layer::Arp, Family::Arp) => true,
        (Layer::Netdev, Family::Netdev | Family::Inet) => {
            // An inet ingress chain sees IPv4 and IPv6 only.
            (family == Family::Netdev || packet.ip_version().is_some())
                && device.is_some_and(|device| base.devices.iter().any(|name| is_named(&device.name, name)))
        }
        _ => false,
    }
}

/// Whether a device has this name, or begins so (`eth*`, kernel 6.16).
fn is_named(device: &str, name: &str) -> bool {
    name.strip_suffix('*').map_or(device == name, |start| device.starts_with(start))
}

/// One possible end of a chain.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Accept { rewritten: Option<(RuleRef, NatKind, Option<Tuple>)> },
    Drop(Loss),
    Taken(RuleRef, Taken),
}

/// All possible ends of a chain.
#[derive(Debug, Default)]
struct Ends {
    terminal: Vec<End>,
    /// Whether it may come back to its caller.
    returns: bool,
}

/// How a rule's statements came out, up to its verdict.
enum Step {
    /// On with the next rule.
    Next,
    /// The chain ends here, for certain.
    Stop,
}

struct Walk<'a> {
    context: &'a HookContext,
    oracle: &'a dyn Oracle,
    packet: &'a mut Packet,
    /// Of the base chain being walked.
    priority: i32,
    /// Whether this place is reached for certain, given that the packet is still alive.
    certain: bool,
    /// How many rules on the way here matched because conntrack finds the packet invalid.
    invalid: u32,
    budget: u32,
    /// Whether an earlier nat chain at this hook has set the connection up.
    nat_settled: bool,
    /// Chains of the present table that rewrite, or lead to one that does.
    nat_chains: Vec<(String, NatKind)>,
    evaluation: Evaluation,
    doubts: Vec<Doubt>,
}

impl Walk<'_> {
    fn hook(&mut self, ruleset: &Ruleset) {
        let chains = chains_at(ruleset, self.context, self.packet);
        let mut candidates: Vec<Loss> = Vec::new();
        let mut taken: Vec<(RuleRef, Taken)> = Vec::new();
        let mut because: Vec<Doubt> = Vec::new();
        for (table, chain, base) in chains {
            if base.kind == ChainKind::Nat && (self.nat_settled || !self.runs_nat() || !tracks(ruleset, self.packet)) {
                continue;
            }
            self.priority = base.priority;
            self.certain = true;
            self.doubts.clear();
            self.nat_chains = if base.kind == ChainKind::Nat { rewriting_chains(table) } else { Vec::new() };
            let mut ends = self.chain(table, chain, 0);
            if ends.returns {
                ends.terminal.push(match chain.policy {
                    Some(Policy::Drop) => End::Drop(Loss {
                        at: RuleRef::to_policy(table, chain),
                        reject: None,
                        conntrack_invalid: false,
                        no_address: false,
                    }),
                    _ => End::Accept { rewritten: None },
                });
            }
            if base.kind == ChainKind::Nat {
                self.settle(&ends);
            }
            let accepts = ends.terminal.iter().any(|end| matches!(end, End::Accept { .. }));
            let mut losses = Vec::new();
            let mut handed = Vec::new();
            for end in ends.terminal {
                match end {
                    End::Accept { .. } => {}
                    End::Drop(loss) => losses.push(loss),
                    End::Taken(rule, how) => handed.push((rule, how)),
                }
            }
            if losses.is_empty() && handed.is_empty() {
                continue;
            }
            if accepts || !(losses.is_empty() || handed.is_empty()) {
                candidates.append(&mut losses);
                taken.append(&mut handed);
                because.append(&mut self.doubts);
                if accepts {
                    continue;
                }
                break;
            }
            // Every way ends here.
            if let Some(loss) = losses.pop() {
                candidates.append(&mut losses);
                self.evaluation.outcome = if taken.is_empty() {
                    Outcome::Drop { loss, or_earlier: candidates }
                } else {
                    candidates.push(loss);
                    Outcome::Undecided { candidates, because }
                };
                return;
            }
            if let (Some((by, how)), true) = (handed.pop(), candidates.is_empty()) {
                self.evaluation.outcome = Outcome::Taken { by, how };
                return;
            }
            break;
        }
        if let (Some((by, how)), true, true) = (taken.first(), candidates.is_empty(), because.is_empty()) {
            self.evaluation.outcome = Outcome::Taken { by: by.clone(), how: *how };
        } else if !candidates.is_empty() || !taken.is_empty() {
            self.evaluation.outcome = Outcome::Undecided { candidates, because };
        }
    }

    /// Whether nat chains see this packet: the first of a connection whose side is not settled yet.
    fn runs_nat(&self) -> bool {
        let conntrack = &self.packet.conntrack;
        let settled = match self.context.hook {
            Hook::Prerouting | Hook::Output => conntrack.destination_settled,
            _ => conntrack.source_settled,
        };
        !settled && matches!(conntrack.state, Some(CtState::New) | None)
    }

    /// Carries out what the nat chain decided, if it is decided.
    fn settle(&mut self, ends: &Ends) {
        let rewrites: Vec<_> = ends
            .terminal
            .iter()
            .filter_map(|end| match end {
                End::Accept { rewritten: Some(rewritten) } => Some(rewritten),
                _ => None,
            })
            .collect();
        let always = !ends.returns && !ends.terminal.iter().any(|end| matches!(end, End::Accept { rewritten: None }));
        let before = self.packet.tuple();
        for (index, (rule, kind, after)) in rewrites.iter().enumerate() {
            let certain = always && rewrites.len() == 1 && self.packet.conntrack.state.is_some();
            self.evaluation.effects.push(Effect {
                rule: rule.clone(),
                certain,
                change: Change::Nat { kind: *kind, before, after: *after },
            });
            // Where one of several is taken for certain (a service with many endpoints), go on with the last.
            if always && index + 1 == rewrites.len() {
                let changed = *after != Some(before);
                if let Some(after) = after {
                    self.packet.set_tuple(*after);
                }
                if kind.rewrites_source() {
                    self.packet.conntrack.snat = Some(changed);
                } else {
                    self.packet.conntrack.dnat = Some(changed);
                }
                self.nat_settled = true;
            } else if !always {
                if kind.rewrites_source() {
                    self.packet.conntrack.snat = None;
                } else {
                    self.packet.conntrack.dnat = None;
                }
            }
        }
        if self.nat_settled {
            match self.context.hook {
                Hook::Prerouting | Hook::Output => self.packet.conntrack.destination_settled = true,
                _ => self.packet.conntrack.source_settled = true,
            }
        }
    }

    fn chain(&mut self, table: &Table, chain: &Chain, depth: u32) -> Ends {
        let mut ends = Ends::default();
        if depth > DEPTH {
            self.doubts.push(Doubt { at: RuleRef::to_policy(table, chain), what: DoubtKind::TooLong });
            ends.returns = true;
            return ends;
        }
        let certain = self.certain;
        for rule in &chain.rules {
            if let Step::Stop = self.rule(table, chain, rule, depth, &mut ends) {
                self.certain = certain;
                return ends;
            }
        }
        self.certain = certain;
        match chain.policy {
            // A chain of one's own with a policy, as ebtables has them.
            Some(Policy::Drop) if chain.base.is_none() => ends.terminal.push(End::Drop(Loss {
                at: RuleRef::to_policy(table, chain),
                reject: None,
                conntrack_invalid: self.invalid > 0,
                no_address: false,
            })),
            Some(Policy::Accept) if chain.base.is_none() => ends.terminal.push(End::Accept { rewritten: None }),
            _ => ends.returns = true,
        }
        ends
    }

    fn rule(&mut self, table: &Table, chain: &Chain, rule: &Rule, depth: u32, ends: &mut Ends) -> Step {
        let mut doubt: Option<DoubtKind> = None;
        let mut invalid = false;
        for statement in &rule.statements {
            self.budget = self.budget.saturating_sub(1);
            if self.budget == 0 {
                self.doubts.push(Doubt { at: RuleRef::to_rule(table, chain, rule), what: DoubtKind::TooLong });
                ends.returns = true;
                return Step::Stop;
            }
            match statement {
                Statement::Match(condition) => match self.case(table).holds(condition) {
                    Truth::Yes => invalid |= self.asks_for_invalid(condition),
                    Truth::No => {
                        self.near_miss(table, chain, rule);
                        return Step::Next;
                    }
                    Truth::Maybe(what) => doubt = doubt.or(Some(what)),
                },
                Statement::Limit { over, .. } => {
                    self.assume(table, chain, rule);
                    if *over {
                        return Step::Next;
                    }
                }
                Statement::Quota { over, used_up } => {
                    if used_up.is_none() {
                        self.assume(table, chain, rule);
                    }
                    if *over != used_up.unwrap_or(false) {
                        return Step::Next;
                    }
                }
                Statement::Chance { text } => doubt = doubt.or(Some(DoubtKind::Chance(text.clone()))),
                Statement::Unknown { text } => {
                    // An action that we do not know: it may drop, accept, or do something and go on.
                    let at = RuleRef::to_rule(table, chain, rule);
                    self.doubts.push(Doubt { at: at.clone(), what: DoubtKind::Expression(text.clone()) });
                    ends.terminal.push(End::Drop(Loss {
                        at,
                        reject: None,
                        conntrack_invalid: false,
                        no_address: false,
                    }));
                    ends.terminal.push(End::Accept { rewritten: None });
                    self.certain = false;
                }
                Statement::SetUpdate { statements, .. } => {
                    if statements.iter().any(|statement| matches!(statement, Statement::Limit { over: true, .. })) {
                        self.assume(table, chain, rule);
                        return Step::Next;
                    }
                    if !statements.is_empty() {
                        self.assume(table, chain, rule);
                    }
                }
                Statement::Counter(_) | Statement::Inert { .. } => {}
                Statement::Notrack => {
                    let certain = self.certain && doubt.is_none();
                    if certain {
                        self.packet.conntrack.state = Some(CtState::Untracked);
                    } else {
                        self.packet.conntrack.state = None;
                    }
                    self.effect(table, chain, rule, certain, Change::Untracked);
                }
                // A new packet is new in every zone; whether an answer is known in its zone depends on all rules that set one.
                Statement::Zone => {
                    self.packet.conntrack.zoned = true;
                    if self.packet.conntrack.state != Some(CtState::New) || doubt.is_some() {
                        self.packet.conntrack.state = None;
                        self.packet.conntrack.reply = None;
                    }
                }
                Statement::Mangle { field, value, mends_checksum } => {
                    if in_header(field) && self.case(table).value(&Expression::Field(field.clone())) == Reading::Absent
                    {
                        return Step::Next;
                    }
                    let value = match self.case(table).value(value) {
                        Reading::Is(value) => Some(value),
                        Reading::Unknown(_) => None,
                        Reading::Absent => return Step::Next,
                    };
                    let certain = self.certain && doubt.is_none();
                    let stale_checksum =
                        mangle::write(self.packet, field, value.as_ref().filter(|_| certain), *mends_checksum);
                    let change = Change::Field { field: field.clone(), value, stale_checksum };
                    self.effect(table, chain, rule, certain, change);
                }
                Statement::Verdict(verdict) => {
                    return self.verdict(table, chain, rule, verdict, doubt, invalid, depth, ends);
                }
                Statement::VerdictMap { key, map } => {
                    match self.case(table).look_up(key, map) {
                        Found::Data(ElementData::Verdict(verdict)) => {
                            let verdict = verdict.clone();
                            invalid |= self.is_invalid() && mentions_ct_state(key);
                            if verdict != Verdict::Continue {
                                return self.verdict(table, chain, rule, &verdict, doubt, invalid, depth, ends);
                            }
                        }
                        Found::Data(ElementData::Value(_)) | Found::None => {}
                        Found::Maybe(what) => {
                            // Any of its verdicts may be the one.
                            for verdict in verdicts_of(map, table) {
                                self.verdict(table, chain, rule, verdict, Some(what.clone()), invalid, depth, ends);
                            }
                        }
                    }
                }
                Statement::Reject(reject) => {
                    let loss = Loss {
                        at: RuleRef::to_rule(table, chain, rule),
                        reject: Some(*reject),
                        conntrack_invalid: invalid || self.invalid > 0,
                        no_address: false,
                    };
                    self.pass(table, chain, rule, doubt.is_none(), Some(Verdict::Drop));
                    return self.end(table, chain, rule, End::Drop(loss), doubt, ends);
                }
                Statement::Nat(nat) => {
                    let at = RuleRef::to_rule(table, chain, rule);
                    let kind = kind_at(nat, self.context.hook);
                    let end = match rewrite(nat, self.case(table)) {
                        Rewritten::To(after) => End::Accept { rewritten: Some((at, kind, Some(after))) },
                        Rewritten::Somehow => End::Accept { rewritten: Some((at, kind, None)) },
                        Rewritten::NoAddress => {
                            End::Drop(Loss { at, reject: None, conntrack_invalid: false, no_address: true })
                        }
                        Rewritten::NoMatch => return Step::Next,
                    };
                    self.pass(table, chain, rule, doubt.is_none(), Some(Verdict::Accept));
                    return self.end(table, chain, rule, end, doubt, ends);
                }
                Statement::Queue { bypass } => {
                    let end = End::Taken(RuleRef::to_rule(table, chain, rule), Taken::Queued { bypass: *bypass });
                    self.pass(table, chain, rule, doubt.is_none(), None);
                    return self.end(table, chain, rule, end, doubt, ends);
                }
                Statement::Forward { .. } => {
                    let end = End::Taken(RuleRef::to_rule(table, chain, rule), Taken::Forwarded);
                    self.pass(table, chain, rule, doubt.is_none(), None);
                    return self.end(table, chain, rule, end, doubt, ends);
                }
                Statement::ArpReply => {
                    let end = End::Taken(RuleRef::to_rule(table, chain, rule), Taken::ArpAnswered);
                    self.pass(table, chain, rule, doubt.is_none(), None);
                    return self.end(table, chain, rule, end, doubt, ends);
                }
            }
        }
        self.pass(table, chain, rule, doubt.is_none(), None);
        Step::Next
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the whole place of one verdict; a struct would be built for this call alone"
    )]
    fn verdict(
        &mut self,
        table: &Table,
        chain: &Chain,
        rule: &Rule,
        verdict: &Verdict,
        doubt: Option<DoubtKind>,
        invalid: bool,
        depth: u32,
        ends: &mut Ends,
    ) -> Step {
        self.pass(table, chain, rule, doubt.is_none(), Some(verdict.clone()));
        match verdict {
            Verdict::Continue => Step::Next,
            Verdict::Accept => self.end(table, chain, rule, End::Accept { rewritten: None }, doubt, ends),
            Verdict::Drop => {
                let loss = Loss {
                    at: RuleRef::to_rule(table, chain, rule),
                    reject: None,
                    conntrack_invalid: invalid || self.invalid > 0,
                    no_address: false,
                };
                self.end(table, chain, rule, End::Drop(loss), doubt, ends)
            }
            Verdict::Return => {
                ends.returns = true;
                self.after(table, chain, rule, doubt)
            }
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let Some(target) = table.chain(name) else {
                    // A listing taken while rules changed.
                    let what = DoubtKind::Expression(format!("jump {name}"));
                    self.doubts.push(Doubt { at: RuleRef::to_rule(table, chain, rule), what });
                    return Step::Next;
                };
                let certain = self.certain;
                self.certain &= doubt.is_none();
                self.invalid += u32::from(invalid);
                let mut sub = self.chain(table, target, depth + 1);
                self.invalid -= u32::from(invalid);
                self.certain = certain;
                let ended = !sub.terminal.is_empty();
                ends.terminal.append(&mut sub.terminal);
                if let Verdict::Goto(_) = verdict {
                    ends.returns |= sub.returns;
                    return self.after(table, chain, rule, doubt);
                }
                match (sub.returns, doubt) {
                    (true, None) => {
                        // It may come back: what follows is reached only if it does.
                        self.certain &= !ended;
                        Step::Next
                    }
                    (_, Some(what)) if ended => self.after(table, chain, rule, Some(what)),
                    (_, Some(_)) => Step::Next,
                    (false, None) => Step::Stop,
                }
            }
        }
    }

    fn end(
        &mut self,
        table: &Table,
        chain: &Chain,
        rule: &Rule,
        end: End,
        doubt: Option<DoubtKind>,
        ends: &mut Ends,
    ) -> Step {
        ends.terminal.push(end);
        self.after(table, chain, rule, doubt)
    }

    /// After an end: none of the rest is reached, or only in the world where the rule did not match.
    fn after(&mut self, table: &Table, chain: &Chain, rule: &Rule, doubt: Option<DoubtKind>) -> Step {
        match doubt {
            None => Step::Stop,
            Some(what) => {
                self.doubts.push(Doubt { at: RuleRef::to_rule(table, chain, rule), what });
                self.certain = false;
                Step::Next
            }
        }
    }

    fn case<'c>(&'c self, table: &'c Table) -> Case<'c> {
        Case {
            table,
            packet: self.packet,
            view: View { context: self.context, oracle: self.oracle, priority: self.priority },
        }
    }

    fn pass(&mut self, table: &Table, chain: &Chain, rule: &Rule, certain: bool, verdict: Option<Verdict>) {
        if self.evaluation.trace.len() < TRACE {
            self.evaluation.trace.push(Passed {
                rule: RuleRef::to_rule(table, chain, rule),
                certain: certain && self.certain,
                verdict,
                counter: rule.counter(),
            });
        }
    }

    fn effect(&mut self, table: &Table, chain: &Chain, rule: &Rule, certain: bool, change: Change) {
        if self.evaluation.effects.len() < TRACE {
            self.evaluation.effects.push(Effect { rule: RuleRef::to_rule(table, chain, rule), certain, change });
        }
    }

    fn assume(&mut self, table: &Table, chain: &Chain, rule: &Rule) {
        if self.evaluation.assumptions.len() < TRACE {
            self.evaluation.assumptions.push(RuleRef::to_rule(table, chain, rule));
        }
    }

    fn is_invalid(&self) -> bool {
        self.packet.conntrack.state == Some(CtState::Invalid)
    }

    fn asks_for_invalid(&self, condition: &Match) -> bool {
        self.is_invalid()
            && mentions_ct_state(&condition.left)
            && condition.op != Op::NotEqual
            && pattern_has_invalid(&condition.right)
    }

    fn near_miss(&mut self, table: &Table, chain: &Chain, rule: &Rule) {
        if self.evaluation.near_misses.len() >= NEAR_MISSES {
            return;
        }
        let Some(would) = self.would(rule) else { return };
        let case = self.case(table);
        let mut failed = Vec::new();
        for statement in &rule.statements {
            let Statement::Match(condition) = statement else { continue };
            if case.holds(condition) == Truth::No {
                let actual = match case.value(&condition.left) {
                    Reading::Is(value) => Some(value),
                    _ => None,
                };
                failed.push(Failed { condition: condition.clone(), actual });
            }
        }
        if would == Would::Accept && failed.len() > 1 {
            return;
        }
        self.evaluation.near_misses.push(NearMiss { rule: RuleRef::to_rule(table, chain, rule), would, failed });
    }

    fn would(&self, rule: &Rule) -> Option<Would> {
        rule.statements.iter().find_map(|statement| match statement {
            Statement::Nat(nat) => Some(Would::Nat(nat.kind)),
            Statement::Verdict(Verdict::Accept) if rule.statements.len() > 1 => Some(Would::Accept),
            Statement::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => {
                self.nat_chains.iter().find(|(chain, _)| chain == name).map(|(_, kind)| Would::Nat(*kind))
            }
            _ => None,
        })
    }
}

/// Whether connection tracking is switched on for packets of this sort: it is by the first rule that needs it. Without it, no
/// chain of type nat is called (nf_ct_netns_get, net/netfilter/nf_conntrack_proto.c).
fn tracks(ruleset: &Ruleset, packet: &Packet) -> bool {
    ruleset
        .tables
        .iter()
        .filter(|table| match table.family {
            Family::Ip => packet.protocol == 0x0800,
            Family::Ip6 => packet.protocol == 0x86dd,
            Family::Inet => true,
            _ => false,
        })
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .any(|rule| rule.statements.iter().any(needs_conntrack))
}

/// Fields that a packet may lack. Writing one that is not there ends the rule, as reading it does.
fn in_header(field: &Field) -> bool {
    !matches!(field, Field::Mark | Field::CtMark | Field::PacketType | Field::Other { .. } | Field::Raw { .. })
}

fn needs_conntrack(statement: &Statement) -> bool {
    match statement {
        Statement::Match(condition) => asks_conntrack(&condition.left),
        Statement::VerdictMap { key, .. } => asks_conntrack(key),
        Statement::Mangle { field, value, .. } => {
            asks_conntrack(&Expression::Field(field.clone())) || asks_conntrack(value)
        }
        Statement::Nat(_) | Statement::Notrack | Statement::Zone | Statement::Unknown { .. } => true,
        Statement::Inert { text } => text.starts_with("CT") || text.starts_with("CONN") || text.starts_with("ct "),
        _ => false,
    }
}

fn asks_conntrack(expression: &Expression) -> bool {
    match expression {
        Expression::Field(field) => matches!(
            field,
            Field::CtState
                | Field::CtStateOrNat
                | Field::CtStatus
                | Field::CtDirection
                | Field::CtMark
                | Field::CtProtocol
                | Field::CtSource(_)
                | Field::CtDestination(_)
                | Field::CtSourcePort(_)
                | Field::CtDestinationPort(_)
        ),
        Expression::Concat(parts) => parts.iter().any(asks_conntrack),
        Expression::Bits { left, right, .. } => asks_conntrack(left) || asks_conntrack(right),
        Expression::Lookup { key, .. } => asks_conntrack(key),
        // It may.
        Expression::Unknown { .. } => true,
        _ => false,
    }
}

/// Chains of a table that rewrite, or lead to one that does, with what they rewrite.
fn rewriting_chains(table: &Table) -> Vec<(String, NatKind)> {
    let mut found: Vec<(String, NatKind)> = Vec::new();
    for chain in &table.chains {
        let kind = chain.rules.iter().flat_map(|rule| &rule.statements).find_map(|statement| match statement {
            Statement::Nat(nat) => Some(nat.kind),
            _ => None,
        });
        if let Some(kind) = kind {
            found.push((chain.name.clone(), kind));
        }
    }
    // Each round adds the callers of what is known; chains cannot call each other in a circle.
    loop {
        let mut added = Vec::new();
        for chain in &table.chains {
            if found.iter().any(|(name, _)| *name == chain.name) {
                continue;
            }
            let kind = chain.rules.iter().flat_map(|rule| &rule.statements).find_map(|statement| match statement {
                Statement::Verdict(Verdict::Jump(target) | Verdict::Goto(target)) => {
                    found.iter().find(|(name, _)| name == target).map(|(_, kind)| *kind)
                }
                _ => None,
            });
            if let Some(kind) = kind {
                added.push((chain.name.clone(), kind));
            }
        }
        if added.is_empty() {
            return found;
        }
        found.append(&mut added);
    }
}

fn mentions_ct_state(expression: &Expression) -> bool {
    match expression {
        Expression::Field(Field::CtState | Field::CtStateOrNat) => true,
        Expression::Concat(parts) => parts.iter().any(mentions_ct_state),
        Expression::Bits { left, right, .. } => mentions_ct_state(left) || mentions_ct_state(right),
        _ => false,
    }
}

fn pattern_has_invalid(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Is(Value::Number(bits)) => bits & ct_state::INVALID != 0,
        Pattern::Set(patterns) => patterns.iter().any(pattern_has_invalid),
        _ => false,
    }
}

fn verdicts_of<'m>(map: &'m crate::model::netfilter::expression::MapRef, table: &'m Table) -> Vec<&'m Verdict> {
    use crate::model::netfilter::expression::MapRef;
    let elements: &[Element] = match map {
        MapRef::Anonymous(elements) => elements,
        MapRef::Named(name) => table.set(name).map_or(&[], |set| &set.elements),
    };
    let mut verdicts = Vec::new();
    for element in elements {
        if let Some(ElementData::Verdict(verdict)) = &element.data
            && !verdicts.contains(&verdict)
            && verdicts.len() < 64
        {
            verdicts.push(verdict);
        }
    }
    verdicts
}
