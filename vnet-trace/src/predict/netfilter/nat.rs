//! What a NAT statement makes of a packet's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::netfilter::Hook;
use crate::model::netfilter::expression::{Expression, MapRef, Value};
use crate::model::netfilter::statement::{Nat, NatKind};
use crate::model::netfilter::{ElementData, Table};

use super::condition::{Case, Found};
use super::context::Answer;
use super::packet::Tuple;
use super::read::Reading;

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// The packet now looks like this.
    To(Tuple),
    /// The kernel chooses, and we cannot tell what.
    Somehow,
    /// There is no address to use: the kernel drops the packet (nf_nat_masquerade_ipv4, nf_nat_redirect).
    NoAddress,
    /// The map has no entry: the rule ends without matching.
    NoMatch,
}

/// What a NAT statement rewrites at a hook: NETMAP is listed as a rewriting of destinations and works on sources where
/// only those can be rewritten.
pub fn kind_at(nat: &Nat, hook: Hook) -> NatKind {
    match (nat.kind, hook) {
        (NatKind::Dnat, Hook::Input | Hook::Postrouting) if nat.prefix => NatKind::Snat,
        (kind, _) => kind,
    }
}

/// Applies a NAT statement to the packet of a case.
pub fn rewrite(nat: &Nat, case: Case<'_>) -> Rewritten {
    let kind = kind_at(nat, case.view.context.hook);
    let before = case.packet.tuple();
    let (mut address, mut port) = match kind {
        NatKind::Masquerade => match own_source(case) {
            Ok(address) => (Some(address), None),
            Err(rewritten) => return rewritten,
        },
        NatKind::Redirect => match own_destination(case) {
            Ok(address) => (Some(address), None),
            Err(rewritten) => return rewritten,
        },
        NatKind::Snat | NatKind::Dnat => (None, None),
    };
    let current = if kind.rewrites_source() { before.source } else { before.destination };
    if let Some(expression) = &nat.address {
        match target(expression, current, nat.prefix, case) {
            Target::Address(found) => address = Some(found),
            Target::AddressAndPort(found, with) => {
                address = Some(found);
                port = Some(with);
            }
            Target::OneOf => return Rewritten::Somehow,
            Target::None => return Rewritten::NoMatch,
        }
    }
    let has_ports = case.packet.ports().is_some();
    let current_port = if kind.rewrites_source() { before.source_port } else { before.destination_port };
    match &nat.port {
        Some(_) if !has_ports => {}
        Some(Expression::Range { from: Value::Number(from), to: Value::Number(to) })
            if from != to
            // A port that is in the range already is kept; otherwise the kernel looks for a free one.
            && !(*from..=*to).contains(&u64::from(current_port)) =>
        {
            return Rewritten::Somehow;
        }
        Some(expression) => match case.value(expression) {
            Reading::Is(Value::Number(number)) => port = u16::try_from(number).ok(),
            Reading::Absent => return Rewritten::NoMatch,
            _ => return Rewritten::Somehow,
        },
        None => {}
    }
    let port = port.filter(|_| has_ports).unwrap_or(current_port);
    let address = address.unwrap_or(current);
    Rewritten::To(if kind.rewrites_source() {
        Tuple { source: address, source_port: port, ..before }
    } else {
        Tuple { destination: address, destination_port: port, ..before }
    })
}

enum Target {
    Address(IpAddr),
    AddressAndPort(IpAddr, u16),
    OneOf,
    None,
}

fn target(expression: &Expression, current: IpAddr, prefix: bool, case: Case<'_>) -> Target {
    match expression {
        Expression::Prefix { address, length } if prefix => {
            onto(*address, *length, current).map_or(Target::OneOf, Target::Address)
        }
        Expression::Lookup { key, map } => match case.look_up(key, map) {
            Found::Data(ElementData::Value(value)) => target(value, current, prefix, case),
            Found::Data(ElementData::Verdict(_)) | Found::None => Target::None,
            Found::Maybe(_) => {
                sole_element(map, case.table).map_or(Target::OneOf, |value| target(value, current, prefix, case))
            }
        },
        other => match case.value(other) {
            Reading::Is(Value::Address(address)) => Target::Address(address),
            Reading::Is(Value::Concat(parts)) => match parts.as_slice() {
                [Value::Address(address), Value::Number(port)] => {
                    u16::try_from(*port).map_or(Target::OneOf, |port| Target::AddressAndPort(*address, port))
                }
                _ => Target::OneOf,
            },
            Reading::Absent => Target::None,
            _ => Target::OneOf,
        },
    }
}

/// `numgen … mod 1 map { 0 : A }` has one answer whatever the number is.
fn sole_element<'a>(map: &'a MapRef, table: &'a Table) -> Option<&'a Expression> {
    let elements = match map {
        MapRef::Anonymous(elements) => elements,
        MapRef::Named(name) => &table.set(name)?.elements,
    };
    match elements.as_slice() {
        [only] => match &only.data {
            Some(ElementData::Value(value)) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// The address with its network part replaced.
fn onto(network: IpAddr, length: u8, address: IpAddr) -> Option<IpAddr> {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Some(IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() & mask | address.to_bits() & !mask)))
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Some(IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() & mask | address.to_bits() & !mask)))
        }
        _ => None,
    }
}

fn own_source(case: Case<'_>) -> Result<IpAddr, Rewritten> {
    let device = case.view.context.output.as_ref().ok_or(Rewritten::Somehow)?;
    match case.view.oracle.masquerade_address(device, case.packet.destination) {
        Answer::Is(address) => Ok(address),
        Answer::None => Err(Rewritten::NoAddress),
        Answer::Unknown => Err(Rewritten::Somehow),
    }
}

fn own_destination(case: Case<'_>) -> Result<IpAddr, Rewritten> {
    if case.view.context.hook == Hook::Output {
        return Ok(match case.packet.destination {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    let device = case.view.context.input.as_ref().ok_or(Rewritten::Somehow)?;
    match case.view.oracle.primary_address(device, case.packet.destination) {
        Answer::Is(address) => Ok(address),
        Answer::None => Err(Rewritten::NoAddress),
        Answer::Unknown => Err(Rewritten::Somehow),
    }
}
