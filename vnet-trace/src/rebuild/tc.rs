//! Queueing disciplines, tc filters, and IPsec policies, as far as they were recorded whole.

use crate::model::id::Device;
use crate::model::snapshot::{Netns, Qdisc, TcFilter};

use super::Work;

/// Disciplines that are there by themselves, or decide nothing.
const USUAL: &[&str] = &["noqueue", "fq_codel", "pfifo_fast", "mq", "fq", "noop"];

/// Disciplines and filters of all devices.
pub fn make(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for qdisc in &netns.qdiscs {
            discipline(work, netns, qdisc);
        }
        for filter in &netns.filters {
            self::filter(work, netns, filter);
        }
    }
}

fn discipline(work: &mut Work<'_>, netns: &Netns, qdisc: &Qdisc) {
    let device = Device::new(netns.id, qdisc.ifindex);
    let Some(link) = netns.link(qdisc.ifindex).filter(|_| work.made.contains(&device)) else { return };
    if USUAL.contains(&qdisc.kind.as_str()) {
        return;
    }
    let option = |name: &str| qdisc.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let words = match qdisc.kind.as_str() {
        "clsact" | "ingress" => {
            work.needs.insert("config:NET_SCH_INGRESS".to_owned());
            work.script.tc(netns.id, format!("qdisc add dev {} {}", link.name, qdisc.kind));
            return;
        }
        "blackhole" => String::new(),
        "netem" if option("loss").is_none_or(|loss| loss.ends_with('%')) => {
            let mut words = String::new();
            for (name, key) in [
                ("limit", "limit"),
                ("delay", "delay"),
                ("", "jitter"),
                ("loss", "loss"),
                ("duplicate", "duplicate"),
                ("corrupt", "corrupt"),
                ("rate", "rate"),
            ] {
                if let Some(value) = option(key) {
                    words.push_str(&format!(" {name} {value}"));
                }
            }
            words
        }
        "tbf" => match (option("rate"), option("burst"), option("limit")) {
            (Some(rate), Some(burst), Some(limit)) => format!(" rate {rate} burst {burst} limit {limit}"),
            _ => return,
        },
        "pfifo" | "bfifo" => option("limit").map(|limit| format!(" limit {limit}")).unwrap_or_default(),
        kind => {
            let what = format!("the queueing discipline {kind} of {}", work.place(device));
            work.miss(Some(device), what, "its settings were not recorded");
            return;
        }
    };
    if qdisc.parent != u32::MAX {
        return;
    }
    if matches!(qdisc.kind.as_str(), "netem" | "tbf") {
        work.needs.insert(format!("config:NET_SCH_{}", qdisc.kind.to_ascii_uppercase()));
    }
    work.script.tc(netns.id, format!("qdisc replace dev {} root {}{words}", link.name, qdisc.kind));
}

fn filter(work: &mut Work<'_>, netns: &Netns, filter: &TcFilter) {
    let device = Device::new(netns.id, filter.ifindex);
    let Some(link) = netns.link(filter.ifindex).filter(|_| work.made.contains(&device)) else { return };
    let way = if filter.ingress { "ingress" } else { "egress" };
    let head =
        format!("filter add dev {} {way} pref {} protocol {}", link.name, filter.priority, protocol(filter.protocol));
    let verdict = |word: &str| matches!(word, "drop" | "pass" | "ok");
    match (filter.kind.as_str(), filter.actions.as_slice()) {
        ("matchall", [action]) if verdict(action) => {
            work.needs.extend(["config:NET_CLS_MATCHALL".to_owned(), "config:NET_ACT_GACT".to_owned()]);
            work.script.tc(netns.id, format!("{head} matchall action {action}"));
        }
        // A classic program that is nothing but `return VERDICT` was read whole.
        ("bpf", [direct, action]) if direct == "direct-action" && verdict(action) && filter.program.is_none() => {
            work.needs.insert("config:NET_CLS_BPF".to_owned());
            let number = if action == "drop" { 2 } else { 0 };
            work.script.tc(netns.id, format!("{head} bpf da bytecode \"1,6 0 0 {number}\""));
        }
        (kind, _) => {
            let what = format!(
                "the tc filter {} ({kind}, {way}) of {}",
                filter.name.as_deref().unwrap_or(""),
                work.place(device)
            );
            work.miss(Some(device), what.replace("  ", " "), "its code was not recorded");
        }
    }
}

fn protocol(ethertype: u16) -> String {
    match ethertype {
        0 | 3 => "all".to_owned(),
        0x0800 => "ip".to_owned(),
        0x86dd => "ipv6".to_owned(),
        0x0806 => "arp".to_owned(),
        0x8100 => "802.1Q".to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// IPsec policies. States have secrets, which were not recorded.
pub fn ipsec(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for policy in &netns.xfrm_policies {
            let mut words = format!("xfrm policy add src {} dst {} dir {}", policy.src, policy.dst, policy.dir);
            if policy.protocol != 0 {
                words = format!(
                    "xfrm policy add src {} dst {} proto {} dir {}",
                    policy.src, policy.dst, policy.protocol, policy.dir
                );
            }
            if policy.block {
                words.push_str(" action block");
            }
            if policy.priority != 0 {
                words.push_str(&format!(" priority {}", policy.priority));
            }
            for template in &policy.templates {
                let level = if template.optional { " level use" } else { "" };
                words.push_str(&format!(" tmpl proto {} mode {}{level}", template.protocol, template.mode));
            }
            work.script.ip(netns.id, words);
        }
        if netns.xfrm_states > 0 {
            let what = format!("{} IPsec states of {}", netns.xfrm_states, work.script.name(netns.id));
            work.miss(None, what, "their keys are secret and were not recorded");
        }
    }
}
