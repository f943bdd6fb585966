//! tc filters and their actions (RTM_GETTFILTER), of the hooks and classful disciplines that exist: filters are asked
//! for device by device, so nothing is asked where there can be none.

use std::collections::BTreeSet;

use super::attribute::{Attribute, Malformed, fixed, u16_at, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts, qdisc};
use crate::model::id::IfIndex;
use crate::model::snapshot::{Link, Qdisc, TcFilter};

const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;

/// Parents of the filters of a clsact (or ingress) discipline: TC_H_CLSACT with TC_H_MIN_INGRESS or TC_H_MIN_EGRESS.
pub const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// Disciplines that classify by filters.
const CLASSFUL: [&str; 10] = ["prio", "htb", "hfsc", "drr", "qfq", "ets", "multiq", "cbq", "dsmark", "sfq"];

const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;

/// The filters of all these disciplines. `links` gives names to the targets of redirections.
pub fn read(channel: &mut Channel, qdiscs: &[Qdisc], links: &[Link]) -> Result<Dump<TcFilter>, NetlinkError> {
    let mut all = Dump::default();
    let places: BTreeSet<(IfIndex, u32)> = qdiscs.iter().flat_map(parents).collect();
    for (ifindex, parent) in places {
        let mut header = [0; 20];
        header[4..8].copy_from_slice(&ifindex.0.to_ne_bytes());
        header[12..16].copy_from_slice(&parent.to_ne_bytes());
        let asked = channel.dump(&Request::new(RTM_GETTFILTER, &header), |message| parse(message, parent, links));
        let dump = match asked {
            // The device or the discipline went away meanwhile.
            Err(NetlinkError::Refused { errno: nix::libc::ENODEV | nix::libc::EINVAL | nix::libc::ENOENT }) => continue,
            other => other?,
        };
        all.items.extend(dump.items);
        all.unread = all.unread.or(dump.unread);
        all.interrupted |= dump.interrupted;
    }
    Ok(all)
}

fn parents(qdisc: &Qdisc) -> Vec<(IfIndex, u32)> {
    let parents = match qdisc.kind.as_str() {
        "clsact" => vec![INGRESS, EGRESS],
        "ingress" => vec![INGRESS],
        kind if CLASSFUL.contains(&kind) => vec![qdisc.handle],
        _ => Vec::new(),
    };
    parents.into_iter().map(|parent| (qdisc.ifindex, parent)).collect()
}

/// One RTM_NEWTFILTER message; None for the message that only announces a chain's priority.
pub fn parse(message: Message<'_>, asked: u32, links: &[Link]) -> Result<Option<TcFilter>, Malformed> {
    if message.kind != RTM_NEWTFILTER {
        return Ok(None);
    }
    let (header, attributes) = parts::<20>("struct tcmsg", message)?;
    let info = u32_at(header, 16);
    let mut filter = TcFilter {
        ifindex: IfIndex(u32_at(header, 4)),
        ingress: asked == INGRESS,
        kind: attributes.find(TCA_KIND).map(|kind| kind.text()).unwrap_or_default(),
        priority: (info >> 16) as u16,
        protocol: u16::from_be(info as u16),
        handle: u32_at(header, 8),
        parent: u32_at(header, 12),
        ..TcFilter::default()
    };
    if let Some(chain) = attributes.find(TCA_CHAIN).map(|chain| chain.u32()).transpose()?.filter(|chain| *chain != 0) {
        filter.actions.push(format!("in chain {chain}"));
    }
    let Some(options) = attributes.find(TCA_OPTIONS) else { return Ok(None) };
    let options = options.nested("TCA_OPTIONS of a filter")?;
    let actions = match filter.kind.as_str() {
        "bpf" => {
            filter.program = options.find(TCA_BPF_ID).map(|id| id.u32()).transpose()?;
            filter.name = options.find(TCA_BPF_NAME).map(|name| name.text());
            if options.find(TCA_BPF_FLAGS).map_or(Ok(0), |flags| flags.u32())? & 1 != 0 {
                filter.actions.push("direct-action".into());
                filter
                    .actions
                    .extend(options.find(TCA_BPF_OPS).and_then(|program| constant(program.value)).map(verdict));
            }
            1
        }
        "matchall" => 2,
        "u32" => 7,
        "fw" => 4,
        "flower" | "basic" => 3,
        "cgroup" => 1,
        _ => return Ok(Some(filter)),
    };
    // u32 lists its hash tables among its filters: they decide nothing.
    if filter.kind == "u32" && options.find(5).is_none() {
        return Ok(None);
    }
    if let Some(list) = options.find(actions) {
        for action in list.nested("a filter's actions")?.iter() {
            read_action(&mut filter, action, links)?;
        }
    }
    Ok(Some(filter))
}

const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_STATS: u16 = 4;

fn read_action(filter: &mut TcFilter, action: Attribute<'_>, links: &[Link]) -> Result<(), Malformed> {
    let nested = action.nested("an action")?;
    let kind = nested.find(TCA_ACT_KIND).map(|kind| kind.text()).unwrap_or_default();
    if let Some(stats) = nested.find(TCA_ACT_STATS) {
        let counters = qdisc::counters(stats)?;
        filter.packets = Some(filter.packets.unwrap_or(0).max(counters.packets));
        filter.drops = Some(filter.drops.unwrap_or(0) + counters.drops);
    }
    let Some(options) = nested.find(TCA_ACT_OPTIONS) else {
        filter.actions.push(kind);
        return Ok(());
    };
    let options = options.nested("TCA_ACT_OPTIONS")?;
    // Every action but a few has its parameters in attribute 2; they begin with struct tc_gen, whose third word is the verdict.
    let parameters = options.find(match kind.as_str() {
        "nat" | "csum" | "ct" | "police" => 1,
        _ => 2,
    });
    let Some(parameters) = parameters else {
        filter.actions.push(kind);
        return Ok(());
    };
    let word = |offset: usize| {
        parameters.value.get(offset..).and_then(<[u8]>::first_chunk).map(|word| u32::from_ne_bytes(*word))
    };
    // struct tc_police has its verdict second.
    let verdict = verdict(word(if kind == "police" { 4 } else { 8 }).unwrap_or(0));
    match kind.as_str() {
        "gact" => filter.actions.push(verdict),
        "mirred" => {
            let (header, _) = fixed::<28>("struct tc_mirred", parameters.value)?;
            let target = IfIndex(u32_at(header, 24));
            let name = links.iter().find(|link| link.index == target);
            let name = name.map_or_else(|| format!("if{}", target.0), |link| link.name.clone());
            let way = match u32_at(header, 20) {
                1 => "egress redirect",
                2 => "egress mirror",
                3 => "ingress redirect",
                _ => "ingress mirror",
            };
            filter.actions.push(format!("mirred {way} dev {name}"));
        }
        "bpf" => {
            filter.program = filter.program.or(options.find(9).map(|id| id.u32()).transpose()?);
            filter.actions.push(format!("bpf {verdict}"));
        }
        _ => filter.actions.push(format!("{kind} {verdict}")),
    }
    Ok(())
}

/// The verdict of a classic program that is nothing but `return VERDICT`: one struct sock_filter (code, jt, jf, k).
fn constant(program: &[u8]) -> Option<u32> {
    const RET_K: u16 = 6;
    let instruction = <[u8; 8]>::try_from(program).ok()?;
    (u16_at(&instruction, 0) == RET_K).then(|| u32_at(&instruction, 4))
}

/// TC_ACT_*, as tc prints them.
fn verdict(action: u32) -> String {
    const GOTO_CHAIN: u32 = 0x2000_0000;
    match action {
        u32::MAX => "continue".into(),
        0 => "pass".into(),
        1 => "reclassify".into(),
        2 => "drop".into(),
        3 => "pipe".into(),
        4 => "stolen".into(),
        7 => "redirect".into(),
        8 => "trap".into(),
        goto if goto & 0xf000_0000 == GOTO_CHAIN => format!("goto chain {}", goto & 0x0fff_ffff),
        other => format!("action {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_verdicts_as_tc_does() {
        for (action, word) in
            [(u32::MAX, "continue"), (0, "pass"), (2, "drop"), (3, "pipe"), (0x2000_0005, "goto chain 5")]
        {
            assert_eq!(verdict(action), word);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn knows_a_program_that_only_returns() {
        assert_eq!(constant(&[6, 0, 0, 0, 2, 0, 0, 0]), Some(2));
        assert_eq!(constant(&[0x16, 0, 0, 0, 2, 0, 0, 0]), None);
        assert_eq!(constant(&[6, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(constant(&[6]), None);
    }
}
