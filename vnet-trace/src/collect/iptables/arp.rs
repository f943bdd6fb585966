//! Matches and targets of arptables.

use crate::collect::nft::symbol;
use crate::model::netfilter::expression::{Expression, Field, Kind, Match, Op, Pattern, Value};
use crate::model::netfilter::statement::{Statement, Verdict};

use super::ParsedRule;
use super::matches::{address, device, unknown_condition};

/// Parses the options of a rule, from after `-A CHAIN`. The target may stand anywhere.
pub fn parse(options: &[String]) -> ParsedRule {
    let mut rule = ParsedRule::default();
    let mut at = 0;
    while at < options.len() {
        let negated = options.get(at).is_some_and(|word| word == "!");
        at += usize::from(negated);
        let (Some(option), Some(argument)) = (options.get(at), options.get(at + 1)) else { break };
        at += 2;
        if option == "-j" || option == "--jump" {
            rule.actions.push(match argument.as_str() {
                "ACCEPT" => Statement::Verdict(Verdict::Accept),
                "DROP" => Statement::Verdict(Verdict::Drop),
                "RETURN" => Statement::Verdict(Verdict::Return),
                "CONTINUE" => Statement::Verdict(Verdict::Continue),
                "CLASSIFY" | "MARK" => Statement::Inert { text: argument.clone() },
                other => Statement::Unknown { text: other.to_owned() },
            });
            continue;
        }
        match condition(option, argument) {
            Some((left, right)) => {
                let op = if negated { Op::NotEqual } else { Op::Equal };
                rule.conditions.push(Statement::Match(Match { left, op, right }));
            }
            // What `mangle` would rewrite does not matter: the statement itself is unknown already.
            None if option.starts_with("--mangle") => {}
            None => rule.conditions.push(unknown_condition(format!("{option} {argument}"))),
        }
    }
    rule
}

fn condition(option: &str, argument: &str) -> Option<(Expression, Pattern)> {
    let field = |field: Field, right: Pattern| Some((Expression::Field(field), right));
    let number = |kind: Kind| symbol::number(kind, argument).map(|number| Pattern::Is(Value::Number(number)));
    let mac = || symbol::mac(argument).map(|mac| Pattern::Is(Value::Mac(mac)));
    match option {
        "-s" | "--source-ip" | "--src-ip" => address(Field::ArpSourceIp, argument),
        "-d" | "--destination-ip" | "--dst-ip" => address(Field::ArpTargetIp, argument),
        "-i" | "--in-interface" => field(Field::IifName, device(argument)),
        "-o" | "--out-interface" => field(Field::OifName, device(argument)),
        "--opcode" => field(Field::ArpOperation, number(Kind::ArpOperation)?),
        "--source-mac" | "--src-mac" => field(Field::ArpSourceMac, mac()?),
        "--destination-mac" | "--dst-mac" => field(Field::ArpTargetMac, mac()?),
        "--h-length" => field(Field::ArpHardwareLength, number(Kind::Number)?),
        "--h-type" => field(Field::ArpHardwareType, number(Kind::Number)?),
        "--proto-type" => field(Field::ArpProtocolType, number(Kind::EtherType)?),
        _ => None,
    }
}
