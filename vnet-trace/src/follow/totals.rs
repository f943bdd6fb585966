//! What many packets have in common: how many there were, between whom, where they were lost and why, how long they took.
//!
//! Memory is bounded: beyond a number of different places, causes or conversations, the rest is counted as one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::way::{HopTime, Outcome, Way};
use crate::model::id::{IfIndex, Nanos, NetnsId};

/// Different entries of one kind that are kept.
const MOST: usize = 4096;

/// All packets of a watch, summed up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// Packets that were told.
    pub packets: u64,
    /// Bytes of IP in them.
    pub bytes: u64,
    /// Delivered or arrived.
    pub arrived: u64,
    /// Left our sight.
    pub left: u64,
    /// Lost.
    pub lost: u64,
    /// Last seen at a time when not all was seen.
    pub unclear: u64,
    /// Losses by what is known of them and where.
    pub losses: BTreeMap<LossKey, u64>,
    /// Packets and bytes by who talks with whom.
    pub talkers: BTreeMap<(IpAddr, IpAddr), Talk>,
    /// Packets of which the talkers are not told one by one.
    pub other_talkers: u64,
    /// How long packets are at each hop.
    pub hops: BTreeMap<HopKey, Spread>,
    /// How long they take from first to last sighting.
    pub whole: Spread,
}

/// What a loss is counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LossKey {
    /// Code of the cause, or the kernel's reason, or nothing.
    pub cause: Option<String>,
    /// The cause is one of ours, with a page; else the kernel's word.
    pub known: bool,
    /// Namespace.
    pub netns: NetnsId,
    /// Device.
    pub device: Option<IfIndex>,
    /// Function of the kernel.
    pub function: Option<String>,
}

/// A hop: a namespace between two of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HopKey {
    /// Namespace.
    pub netns: NetnsId,
    /// None where the packet was made.
    pub ingress: Option<IfIndex>,
    /// None where it ended.
    pub egress: Option<IfIndex>,
}

/// What two talked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Talk {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP.
    pub bytes: u64,
    /// Of the packets, those that were lost.
    pub lost: u64,
}

impl Totals {
    /// Counts one packet; `loss` says what a lost one is counted by.
    pub fn count(&mut self, way: &Way, loss: Option<LossKey>) {
        let said = way.followed.packet.first_said();
        self.packets += 1;
        self.bytes += u64::from(said.len);
        match &way.outcome {
            Outcome::Delivered { .. } | Outcome::Arrived { .. } => self.arrived += 1,
            Outcome::Left { .. } => self.left += 1,
            Outcome::Dropped { .. } | Outcome::Vanished { .. } => self.lost += 1,
            Outcome::Unclear { .. } => self.unclear += 1,
        }
        let lost = u64::from(loss.is_some());
        if let Some(mut key) = loss {
            if self.losses.len() >= MOST && !self.losses.contains_key(&key) {
                key = LossKey { cause: None, known: false, function: None, ..key };
            }
            *self.losses.entry(key).or_default() += 1;
        }
        if let (Some(src), Some(dst)) = (said.src, said.dst) {
            let pair = (src, dst);
            if self.talkers.len() < MOST || self.talkers.contains_key(&pair) {
                let talk = self.talkers.entry(pair).or_default();
                talk.packets += 1;
                talk.bytes += u64::from(said.len);
                talk.lost += lost;
            } else {
                self.other_talkers += 1;
            }
        }
        for HopTime { netns, ingress, egress, time } in &way.hops {
            let key = HopKey { netns: *netns, ingress: *ingress, egress: *egress };
            if self.hops.len() < MOST || self.hops.contains_key(&key) {
                self.hops.entry(key).or_default().add(*time);
            }
        }
        if way.last > way.first {
            self.whole.add(Nanos(way.last.0 - way.first.0));
        }
    }

    /// Whoever talked most, the most talkative first.
    pub fn top_talkers(&self, most: usize) -> Vec<((IpAddr, IpAddr), Talk)> {
        let mut all: Vec<_> = self.talkers.iter().map(|(pair, talk)| (*pair, *talk)).collect();
        all.sort_by_key(|(_, talk)| std::cmp::Reverse((talk.bytes, talk.packets)));
        all.truncate(most);
        all
    }

    /// Losses, the most frequent first.
    pub fn top_losses(&self) -> Vec<(&LossKey, u64)> {
        let mut all: Vec<_> = self.losses.iter().map(|(key, count)| (key, *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

/// Times by size, to an eighth of their own size: for percentiles without keeping the times.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread {
    counts: Vec<u64>,
    total: u64,
    longest: Nanos,
}

impl Spread {
    /// Counts one time.
    pub fn add(&mut self, time: Nanos) {
        let at = class(time.0);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(time);
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub fn longest(&self) -> Nanos {
        self.longest
    }

    /// The time that so many hundredths of all do not exceed, rounded up by at most an eighth; None without any.
    pub fn percentile(&self, hundredths: f64) -> Option<Nanos> {
        let wanted = (self.total as f64 * hundredths / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Nanos(ceiling(at)).min(self.longest));
            }
        }
        None
    }
}

/// Eight classes for each power of two; below eight, one for each number.
fn class(value: u64) -> usize {
    if value < 8 {
        return value as usize;
    }
    let power = value.ilog2();
    let eighth = (value >> (power - 3)) & 7;
    ((power - 2) * 8) as usize + eighth as usize
}

/// The largest value of a class.
fn ceiling(class: usize) -> u64 {
    if class < 8 {
        return class as u64;
    }
    let (power, eighth) = (class as u32 / 8 + 2, class as u64 % 8);
    let width = 1u64 << (power - 3);
    (8 + eighth).saturating_mul(width).saturating_add(width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(50.0), None);
        (1..=1000u64).for_each(|time| spread.add(Nanos(time * 1000)));
        for (hundredths, exact) in [(50.0, 500_000u64), (90.0, 900_000), (99.0, 990_000), (100.0, 1_000_000)] {
            let found = spread.percentile(hundredths).unwrap().0;
            assert!(found >= exact && found <= exact + exact / 8, "{hundredths}: {found}");
        }
        assert_eq!((spread.count(), spread.longest()), (1000, Nanos(1_000_000)));
    }

    #[test]
    fn every_time_has_one_class_and_is_in_it() {
        for value in (0..10_000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let class = class(value);
            assert!(ceiling(class) >= value, "{value}");
            assert!(class == 0 || ceiling(class - 1) < value, "{value}");
        }
    }
}
