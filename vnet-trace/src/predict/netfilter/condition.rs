//! Whether a condition holds: yes, no, or maybe.
//!
//! Three-valued on purpose. *Maybe* carries what could not be answered, so that a verdict which hangs on it can say so.

use std::net::IpAddr;

use crate::model::netfilter::expression::{BitOp, Expression, MapRef, Match, Op, Pattern, Value};
use crate::model::netfilter::{Element, ElementData, Table};

use super::outcome::DoubtKind;
use super::packet::Packet;
use super::read::{Reading, View, read};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// It cannot be answered.
    Maybe(DoubtKind),
}

impl Truth {
    fn of(holds: bool) -> Truth {
        if holds { Truth::Yes } else { Truth::No }
    }

    fn not(self) -> Truth {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            maybe @ Truth::Maybe(_) => maybe,
        }
    }
}

/// Everything a condition is judged against.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The table whose sets may be named.
    pub table: &'a Table,
    /// The packet.
    pub packet: &'a Packet,
    /// Where it is.
    pub view: View<'a>,
}

impl Case<'_> {
    /// Whether a match holds.
    pub fn holds(self, condition: &Match) -> Truth {
        match self.value(&condition.left) {
            Reading::Unknown(what)
                if matches!(condition.op, Op::Equal | Op::NotEqual) && self.parts(&condition.left).is_some() =>
            {
                // Some parts of a concatenation are known, and one that differs settles it.
                let parts = self.parts(&condition.left).unwrap_or_default();
                let truth = match self.contains_parts(&condition.right, &parts) {
                    Truth::Maybe(_) => Truth::Maybe(what),
                    truth => truth,
                };
                if condition.op == Op::Equal { truth } else { truth.not() }
            }
            Reading::Absent => Truth::No,
            Reading::Unknown(what) => match trivially(condition) {
                Some(holds) => Truth::of(holds),
                None => Truth::Maybe(what),
            },
            Reading::Is(value) => self.compare(&value, condition.op, &condition.right),
        }
    }

    /// The value of an expression.
    pub fn value(self, expression: &Expression) -> Reading {
        match expression {
            Expression::Value(value) => Reading::Is(value.clone()),
            Expression::Field(field) => read(field, self.packet, self.view),
            Expression::Concat(parts) => {
                let mut values = Vec::with_capacity(parts.len());
                let mut unknown = None;
                for part in parts {
                    match self.value(part) {
                        Reading::Is(value) => values.push(value),
                        Reading::Absent => return Reading::Absent,
                        Reading::Unknown(what) => unknown = unknown.or(Some(what)),
                    }
                }
                unknown.map_or(Reading::Is(Value::Concat(values)), Reading::Unknown)
            }
            Expression::Bits { op, left, right } => match (self.value(left), self.value(right)) {
                (Reading::Is(left), Reading::Is(right)) => combine(*op, &left, &right)
                    .map_or_else(|| Reading::Unknown(DoubtKind::Expression(format!("{op:?}"))), Reading::Is),
                (Reading::Absent, _) | (_, Reading::Absent) => Reading::Absent,
                (Reading::Unknown(what), _) | (_, Reading::Unknown(what)) => Reading::Unknown(what),
            },
            Expression::Lookup { key, map } => match self.look_up(key, map) {
                Found::Data(ElementData::Value(value)) => self.value(value),
                Found::Data(ElementData::Verdict(_)) | Found::None => Reading::Absent,
                Found::Maybe(what) => Reading::Unknown(what),
            },
            Expression::Generated { modulus: 1, offset } => Reading::Is(Value::Number(*offset)),
            Expression::Generated { .. } => Reading::Unknown(DoubtKind::Chance("numgen".to_owned())),
            Expression::Range { from, to } if from == to => Reading::Is(from.clone()),
            Expression::Range { .. } => Reading::Unknown(DoubtKind::Chance("one of a range".to_owned())),
            Expression::Prefix { address, length } => {
                Reading::Unknown(DoubtKind::Chance(format!("{address}/{length}")))
            }
            Expression::Unknown { text } => Reading::Unknown(DoubtKind::Expression(text.clone())),
        }
    }

    /// The parts of a concatenation, None where one is not known.
    fn parts(self, expression: &Expression) -> Option<Vec<Option<Value>>> {
        let Expression::Concat(parts) = expression else { return None };
        let values = parts.iter().map(|part| match self.value(part) {
            Reading::Is(value) => Some(value),
            _ => None,
        });
        Some(values.collect())
    }

    fn contains_parts(self, pattern: &Pattern, parts: &[Option<Value>]) -> Truth {
        let any = |answers: &mut dyn Iterator<Item = Truth>| {
            let mut maybe = None;
            for answer in answers {
                match answer {
                    Truth::Yes => return Truth::Yes,
                    Truth::No => {}
                    Truth::Maybe(what) => maybe = maybe.or(Some(what)),
                }
            }
            maybe.map_or(Truth::No, Truth::Maybe)
        };
        let unknown = || Truth::Maybe(DoubtKind::Expression(String::new()));
        match pattern {
            Pattern::Any => Truth::Yes,
            Pattern::Set(patterns) => any(&mut patterns.iter().map(|pattern| self.contains_parts(pattern, parts))),
            Pattern::Named(name) => match self.table.set(name) {
                Some(set) if !set.truncated => {
                    any(&mut set.elements.iter().map(|element| self.contains_parts(&element.key, parts)))
                }
                _ => Truth::Maybe(DoubtKind::Set(name.clone())),
            },
            Pattern::Concat(patterns) if patterns.len() == parts.len() => {
                let mut maybe = None;
                for (pattern, part) in patterns.iter().zip(parts) {
                    let answer = match part {
                        Some(value) => self.contains(pattern, value),
                        None if *pattern == Pattern::Any => Truth::Yes,
                        None => unknown(),
                    };
                    match answer {
                        Truth::Yes => {}
                        Truth::No => return Truth::No,
                        Truth::Maybe(what) => maybe = maybe.or(Some(what)),
                    }
                }
                maybe.map_or(Truth::Yes, Truth::Maybe)
            }
            Pattern::Is(Value::Concat(wanted)) if wanted.len() == parts.len() => {
                let differs =
                    wanted.iter().zip(parts).any(|(wanted, part)| part.as_ref().is_some_and(|part| part != wanted));
                if differs { Truth::No } else { unknown() }
            }
            _ => unknown(),
        }
    }

    /// What a map holds for a key.
    pub fn look_up<'m>(self, key: &Expression, map: &'m MapRef) -> Found<'m>
    where
        Self: 'm,
    {
        let elements: &[Element] = match map {
            MapRef::Anonymous(elements) => elements,
            MapRef::Named(name) => self.table.set(name).map_or(&[], |set| &set.elements),
        };
        let key = match self.value(key) {
            Reading::Is(value) => value,
            Reading::Absent => return Found::None,
            Reading::Unknown(what) => {
                let truncated =
                    matches!(map, MapRef::Named(name) if self.table.set(name).is_none_or(|set| set.truncated));
                let excluded = !truncated
                    && self.parts(key).is_some_and(|parts| {
                        elements.iter().all(|element| self.contains_parts(&element.key, &parts) == Truth::No)
                    });
                return if excluded { Found::None } else { Found::Maybe(what) };
            }
        };
        match map {
            MapRef::Anonymous(elements) => self.find(&key, elements),
            MapRef::Named(name) => match self.table.set(name) {
                None => Found::Maybe(DoubtKind::Set(name.clone())),
                Some(set) => match self.find(&key, &set.elements) {
                    Found::None if set.truncated => Found::Maybe(DoubtKind::Set(name.clone())),
                    found => found,
                },
            },
        }
    }

    fn find<'m>(self, key: &Value, elements: &'m [Element]) -> Found<'m> {
        let mut any = None;
        for element in elements {
            if element.key == Pattern::Any {
                any = element.data.as_ref();
                continue;
            }
            match self.contains(&element.key, key) {
                Truth::Yes => return element.data.as_ref().map_or(Found::None, Found::Data),
                Truth::No => {}
                Truth::Maybe(what) => return Found::Maybe(what),
            }
        }
        any.map_or(Found::None, Found::Data)
    }

    fn compare(self, value: &Value, op: Op, pattern: &Pattern) -> Truth {
        let ordered = |test: fn(std::cmp::Ordering) -> bool| match (pattern, value) {
            (Pattern::Is(bound), value) if comparable(bound, value) => Truth::of(test(value.cmp(bound))),
            _ => Truth::Maybe(DoubtKind::Expression(format!("{op:?}"))),
        };
        match op {
            Op::Equal => self.contains(pattern, value),
            Op::NotEqual => self.contains(pattern, value).not(),
            Op::Less => ordered(std::cmp::Ordering::is_lt),
            Op::Greater => ordered(std::cmp::Ordering::is_gt),
            Op::LessOrEqual => ordered(std::cmp::Ordering::is_le),
            Op::GreaterOrEqual => ordered(std::cmp::Ordering::is_ge),
            Op::AnyBit => match (pattern, value) {
                (Pattern::Is(Value::Number(bits)), Value::Number(value)) => Truth::of(bits & value != 0),
                _ => self.contains(pattern, value),
            },
            Op::NoBit => match (pattern, value) {
                (Pattern::Is(Value::Number(bits)), Value::Number(value)) => Truth::of(bits & value == 0),
                _ => self.contains(pattern, value).not(),
            },
        }
    }

    fn contains(self, pattern: &Pattern, value: &Value) -> Truth {
        match (pattern, value) {
            (Pattern::Any, _) => Truth::Yes,
            (Pattern::Is(Value::Concat(wanted)), Value::Concat(values)) => Truth::of(wanted == values),
            (Pattern::Is(wanted), value) => Truth::of(wanted == value),
            (Pattern::Prefix { address, length }, Value::Address(value)) => {
                Truth::of(in_prefix(*address, *length, *value))
            }
            (Pattern::Range { from, to }, value) => Truth::of(comparable(from, value) && from <= value && value <= to),
            (Pattern::NameStart(start), Value::Name(name)) => Truth::of(name.starts_with(start.as_str())),
            (Pattern::Masked { bits, mask }, Value::Number(value)) => Truth::of(value & mask == *bits),
            (Pattern::Masked { bits, mask }, Value::Mac(mac)) => Truth::of(mac_number(*mac) & mask == *bits),
            (Pattern::Set(patterns), value) => {
                let mut maybe = None;
                for pattern in patterns {
                    match self.contains(pattern, value) {
                        Truth::Yes => return Truth::Yes,
                        Truth::No => {}
                        Truth::Maybe(what) => maybe = maybe.or(Some(what)),
                    }
                }
                maybe.map_or(Truth::No, Truth::Maybe)
            }
            (Pattern::Named(name), value) => match self.table.set(name) {
                None => Truth::Maybe(DoubtKind::Set(name.clone())),
                Some(set) => {
                    for element in &set.elements {
                        match self.contains(&element.key, value) {
                            Truth::No => {}
                            answer => return answer,
                        }
                    }
                    if set.truncated { Truth::Maybe(DoubtKind::Set(name.clone())) } else { Truth::No }
                }
            },
            (Pattern::Concat(patterns), Value::Concat(values)) if patterns.len() == values.len() => {
                let mut maybe = None;
                for (pattern, value) in patterns.iter().zip(values) {
                    match self.contains(pattern, value) {
                        Truth::Yes => {}
                        Truth::No => return Truth::No,
                        Truth::Maybe(what) => maybe = maybe.or(Some(what)),
                    }
                }
                maybe.map_or(Truth::Yes, Truth::Maybe)
            }
            (Pattern::Computed(expression), value) => match self.value(expression) {
                Reading::Is(wanted) => Truth::of(wanted == *value),
                Reading::Absent => Truth::No,
                Reading::Unknown(what) => Truth::Maybe(what),
            },
            (Pattern::Unknown { text }, _) => Truth::Maybe(DoubtKind::Expression(text.clone())),
            (Pattern::Prefix { .. } | Pattern::NameStart(_) | Pattern::Masked { .. } | Pattern::Concat(_), _) => {
                Truth::No
            }
        }
    }
}

/// What a look-up finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// This.
    Data(&'a ElementData),
    /// Nothing: the rule goes on (verdict map) or ends (value map).
    None,
    /// It cannot be said.
    Maybe(DoubtKind),
}

/// The answer that does not depend on the value: `-d 0.0.0.0/0`, mask 0.
fn trivially(condition: &Match) -> Option<bool> {
    let everything = match &condition.right {
        Pattern::Any | Pattern::Prefix { length: 0, .. } | Pattern::Masked { bits: 0, mask: 0 } => true,
        Pattern::NameStart(start) => start.is_empty(),
        _ => false,
    };
    match condition.op {
        Op::Equal if everything => Some(true),
        Op::NotEqual if everything => Some(false),
        _ => None,
    }
}

fn comparable(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Address(left), Value::Address(right)) => left.is_ipv4() == right.is_ipv4(),
        (Value::Concat(left), Value::Concat(right)) => left.len() == right.len(),
        _ => std::mem::discriminant(left) == std::mem::discriminant(right),
    }
}

/// Whether an address lies in a network.
pub fn in_prefix(network: IpAddr, length: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// A hardware address as a number.
pub fn mac_number(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Arithmetic on bits of two values of one sort, or of a value and a number.
pub fn combine(op: BitOp, left: &Value, right: &Value) -> Option<Value> {
    let number = |value: &Value| match value {
        Value::Number(number) => Some(u128::from(*number)),
        Value::Address(IpAddr::V4(address)) => Some(u128::from(address.to_bits())),
        Value::Address(IpAddr::V6(address)) => Some(address.to_bits()),
        Value::Mac(mac) => Some(u128::from(mac_number(*mac))),
        Value::Name(_) | Value::Concat(_) => None,
    };
    let (a, b) = (number(left)?, number(right)?);
    let result = match op {
        BitOp::And => a & b,
        BitOp::Or => a | b,
        BitOp::Xor => a ^ b,
        BitOp::ShiftLeft => a.checked_shl(u32::try_from(b).ok()?)?,
        BitOp::ShiftRight => a.checked_shr(u32::try_from(b).ok()?)?,
    };
    Some(match left {
        Value::Address(IpAddr::V4(_)) => Value::Address(IpAddr::V4((result as u32).into())),
        Value::Address(IpAddr::V6(_)) => Value::Address(IpAddr::V6(result.into())),
        Value::Mac(_) => {
            let [_, _, mac @ ..] = (result as u64).to_be_bytes();
            Value::Mac(mac)
        }
        _ => Value::Number(u64::try_from(result).ok()?),
    })
}
