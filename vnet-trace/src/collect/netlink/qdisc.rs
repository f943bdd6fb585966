//! Queueing disciplines (RTM_GETQDISC): kind, place, counters, and the settings that lose packets, in tc's words.

use super::attribute::{Attribute, Malformed, fixed, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::Qdisc;

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;

type Options = Vec<(String, String)>;

/// All queueing disciplines of the channel's namespace.
pub fn read(channel: &mut Channel) -> Result<Dump<Qdisc>, NetlinkError> {
    channel.dump(&Request::new(RTM_GETQDISC, &[0; 20]), parse)
}

/// One RTM_NEWQDISC message.
pub fn parse(message: Message<'_>) -> Result<Option<Qdisc>, Malformed> {
    if message.kind != RTM_NEWQDISC {
        return Ok(None);
    }
    let (header, attributes) = parts::<20>("struct tcmsg", message)?;
    let mut qdisc = Qdisc {
        ifindex: IfIndex(u32_at(header, 4)),
        handle: u32_at(header, 8),
        parent: u32_at(header, 12),
        kind: attributes.find(TCA_KIND).map(|kind| kind.text()).unwrap_or_default(),
        ..Qdisc::default()
    };
    if let Some(stats) = attributes.find(TCA_STATS2) {
        let counters = counters(stats)?;
        qdisc.packets = counters.packets;
        qdisc.drops = counters.drops;
        qdisc.overlimits = counters.overlimits;
    }
    if let Some(options) = attributes.find(TCA_OPTIONS) {
        qdisc.options = match qdisc.kind.as_str() {
            "netem" => netem(options)?,
            "tbf" => tbf(options)?,
            "pfifo" | "bfifo" | "pfifo_head_drop" => vec![("limit".into(), options.u32()?.to_string())],
            "fq_codel" => numbers(options, &[(1, "target"), (2, "limit")])?,
            "htb" => numbers(options, &[])?,
            _ => Vec::new(),
        };
    }
    Ok(Some(qdisc))
}

/// What TCA_STATS2 and TCA_ACT_STATS count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Packets seen.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets over a limit.
    pub overlimits: u64,
}

/// Reads TCA_STATS2 or TCA_ACT_STATS.
pub fn counters(stats: Attribute<'_>) -> Result<Counters, Malformed> {
    let mut counters = Counters::default();
    for attribute in stats.nested("TCA_STATS2")?.iter() {
        match attribute.kind {
            // struct gnet_stats_basic: bytes (64 bits), packets.
            TCA_STATS_BASIC => {
                counters.packets = u64::from(u32_at(fixed::<12>("struct gnet_stats_basic", attribute.value)?.0, 8));
            }
            // struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
            TCA_STATS_QUEUE => {
                let (queue, _) = fixed::<20>("struct gnet_stats_queue", attribute.value)?;
                counters.drops = u64::from(u32_at(queue, 8));
                counters.overlimits = u64::from(u32_at(queue, 16));
            }
            _ => {}
        }
    }
    Ok(counters)
}

fn numbers(options: Attribute<'_>, names: &[(u16, &str)]) -> Result<Options, Malformed> {
    let mut read = Options::new();
    for attribute in options.nested("TCA_OPTIONS")?.iter() {
        if let Some((_, name)) = names.iter().find(|(kind, _)| *kind == attribute.kind) {
            read.push(((*name).into(), attribute.u32()?.to_string()));
        }
    }
    Ok(read)
}

/// Probabilities are parts of 2³²; tc prints them as percent.
fn percent(part: u32) -> String {
    let percent = f64::from(part) / f64::from(u32::MAX) * 100.0;
    format!("{}%", (percent * 1000.0).round() / 1000.0)
}

/// Microseconds, in the unit that tc would choose.
fn time(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds}us"),
        1000..1_000_000 => format!("{}ms", microseconds as f64 / 1e3),
        _ => format!("{}s", microseconds as f64 / 1e6),
    }
}

/// struct tc_netem_qopt (latency, limit, loss, gap, duplicate, jitter), then attributes.
fn netem(options: Attribute<'_>) -> Result<Options, Malformed> {
    const CORRUPT: u16 = 4;
    const LOSS_MODEL: u16 = 5;
    const RATE: u16 = 6;
    const LATENCY64: u16 = 10;
    const JITTER64: u16 = 11;

    let (header, rest) = fixed::<24>("struct tc_netem_qopt", options.value)?;
    let attributes = super::attribute::Attributes::read("TCA_NETEM", rest)?;
    let ticks = |ticks: u32| u64::from(ticks) * TICK_NS / 1000;
    let delay = attributes.find(LATENCY64).map(|ns| ns.u64()).transpose()?;
    let jitter = attributes.find(JITTER64).map(|ns| ns.u64()).transpose()?;
    let delay = delay.map_or(ticks(u32_at(header, 0)), |ns| ns / 1000);
    let jitter = jitter.map_or(ticks(u32_at(header, 20)), |ns| ns / 1000);
    let mut read = vec![("limit".into(), u32_at(header, 4).to_string())];
    let mut add = |name: &str, value: String, given: bool| {
        if given {
            read.push((name.into(), value));
        }
    };
    add("delay", time(delay), delay != 0);
    add("jitter", time(jitter), jitter != 0);
    add("loss", percent(u32_at(header, 8)), u32_at(header, 8) != 0);
    add("duplicate", percent(u32_at(header, 16)), u32_at(header, 16) != 0);
    if let Some(corrupt) = attributes.find(CORRUPT) {
        add("corrupt", percent(corrupt.u32()?), corrupt.u32()? != 0);
    }
    if let Some(model) = attributes.find(LOSS_MODEL).map(|model| model.nested("TCA_NETEM_LOSS")).transpose()? {
        let name = if model.find(1).is_some() { "state" } else { "gemodel" };
        add("loss", name.into(), model.iter().next().is_some());
    }
    if let Some(rate) = attributes.find(RATE) {
        add("rate", rate_text(u64::from(rate.u32()?)), rate.u32()? != 0);
    }
    Ok(read)
}

/// Packet scheduler times are counted in 64 ns (PSCHED_SHIFT in include/net/pkt_sched.h).
const TICK_NS: u64 = 64;

/// Bytes per second as bits per second.
fn rate_text(bytes: u64) -> String {
    format!("{}bit", bytes.saturating_mul(8))
}

/// TCA_TBF_PARMS: struct tc_tbf_qopt (two struct tc_ratespec of 12 bytes, limit, buffer, mtu).
fn tbf(options: Attribute<'_>) -> Result<Options, Malformed> {
    const PARMS: u16 = 1;
    const RATE64: u16 = 4;

    let nested = options.nested("TCA_TBF")?;
    let Some(parameters) = nested.find(PARMS) else { return Ok(Vec::new()) };
    let (header, _) = fixed::<36>("struct tc_tbf_qopt", parameters.value)?;
    let rate = nested.find(RATE64).map(|rate| rate.u64()).transpose()?.unwrap_or(u64::from(u32_at(header, 8)));
    let burst = u128::from(rate) * u128::from(u32_at(header, 28)) * u128::from(TICK_NS) / 1_000_000_000;
    Ok(vec![
        ("rate".into(), rate_text(rate)),
        ("burst".into(), format!("{burst}b")),
        ("limit".into(), format!("{}b", u32_at(header, 24))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_numbers_as_tc_does() {
        assert_eq!(percent(u32::MAX), "100%");
        assert_eq!(percent(u32::MAX / 2), "50%");
        assert_eq!(percent(42_949_673), "1%");
        assert_eq!(time(250), "250us");
        assert_eq!(time(1500), "1.5ms");
        assert_eq!(rate_text(125_000), "1000000bit");
    }
}
