//! What `doctor` prints: what this machine lets us see, what it does not, and what can be done about it.

use serde_json::{Value, json};

use super::detail::tier_name;
use super::sheet::{Sheet, Span, TableRow};
use super::style::{Detail, Style, Tone};
use crate::model::machine::{Capability, Machine, ProbeState};
use crate::model::sight::Tier;

/// The report.
pub fn text(machine: &Machine, style: Style, level: Detail) -> String {
    let mut sheet = Sheet::new(style);
    let (tone, sentence) = summary(machine);
    sheet.prose(0, 0, &[Span::new(tone, sentence)]);
    if level == Detail::Verdict {
        return sheet.finish();
    }
    kernel(&mut sheet, machine);
    rights(&mut sheet, machine);
    probes(&mut sheet, machine, level);
    programs(&mut sheet, machine);
    advice(&mut sheet, machine);
    sheet.finish()
}

/// The report as JSON.
pub fn json(machine: &Machine) -> Value {
    let (_, sentence) = summary(machine);
    json!({
        "schema": 1,
        "summary": sentence,
        "kernel": machine.kernel,
        "architecture": machine.architecture,
        "btf": machine.btf.is_some(),
        "lockdown": machine.lockdown,
        "kprobes": machine.kprobes,
        "capabilities": machine.capabilities.iter().map(|(capability, held)| json!({
            "name": capability.name(), "held": held, "for": purpose(*capability),
        })).collect::<Vec<_>>(),
        "tier": tier_name(best(machine)),
        "probes": machine.probes.iter().map(|probe| json!({
            "name": probe.sight.name,
            "tier": probe.sight.tier.map(tier_name),
            "target": probe.sight.target,
            "blind": probe.sight.blind,
            "absent_module": probe.absent_module,
            "closed": probe.closed.iter().map(|(tier, why)| json!({"tier": tier_name(*tier), "why": why})).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "probes_error": machine.probes_error,
        "programs": machine.programs.iter().map(|(name, path)| json!({"name": name, "path": path})).collect::<Vec<_>>(),
        "advice": what_to_do(machine),
    })
}

fn best(machine: &Machine) -> Tier {
    machine.probes.iter().filter_map(|probe| probe.sight.tier).min().unwrap_or(Tier::Capture)
}

/// Probes that are not attached although packets could come their way.
fn blind(machine: &Machine) -> impl Iterator<Item = &ProbeState> {
    machine.probes.iter().filter(|probe| probe.sight.tier.is_none() && probe.absent_module.is_none())
}

fn summary(machine: &Machine) -> (Tone, String) {
    let attached = machine.probes.iter().filter(|probe| probe.sight.tier.is_some()).count();
    let missing = blind(machine).count();
    match best(machine) {
        Tier::Capture => (
            Tone::Bad,
            "No kernel probe works here: packets are captured and the configuration is read, which still names most causes."
                .to_owned(),
        ),
        tier if missing == 0 => (Tone::Good, format!("All {attached} probes that matter here work, at best by {}.", tier_name(tier))),
        tier => {
            let probes = if missing == 1 { "1 probe does".to_owned() } else { format!("{missing} probes do") };
            (Tone::Warn, format!("{attached} probes work, at best by {}; {probes} not.", tier_name(tier)))
        }
    }
}

fn kernel(sheet: &mut Sheet, machine: &Machine) {
    sheet.heading("Kernel");
    let mut row = |name: &str, good: bool, text: String| {
        let tone = if good { Tone::Plain } else { Tone::Warn };
        sheet.prose(2, 14, &[Span::new(Tone::Faint, format!("{name}:")), " ".into(), Span::new(tone, text)]);
    };
    row("release", true, format!("{} ({})", machine.kernel, machine.architecture));
    match machine.btf {
        Some(bytes) => row("BTF", true, format!("yes, {} KiB", bytes / 1024)),
        None => row("BTF", false, "no: offsets and arguments are unknown, so no probe can be loaded".to_owned()),
    }
    match machine.lockdown.as_deref() {
        Some("none") => row("lockdown", true, "none".to_owned()),
        None => row("lockdown", true, "unknown: /sys/kernel/security/lockdown cannot be read".to_owned()),
        Some("confidentiality") => {
            row(
                "lockdown",
                false,
                "confidentiality: kernel memory may not be read, so probes cannot look into packets".to_owned(),
            );
        }
        Some(mode) => row("lockdown", true, mode.to_owned()),
    }
    let kprobes = if machine.kprobes { "yes" } else { "no: functions can be watched by fentry only, if at all" };
    row("kprobes", machine.kprobes, kprobes.to_owned());
}

fn rights(sheet: &mut Sheet, machine: &Machine) {
    sheet.heading("Rights");
    let rows: Vec<TableRow> = machine
        .capabilities
        .iter()
        .map(|(capability, held)| TableRow {
            tone: if *held { Tone::Plain } else { Tone::Warn },
            cells: vec![
                if *held { "✓" } else { "✗" }.to_owned(),
                capability.name().to_owned(),
                purpose(*capability).to_owned(),
            ],
        })
        .collect();
    sheet.table(2, &["", "capability", "for"], &rows);
}

/// What a capability is for, so what its lack costs.
fn purpose(capability: Capability) -> &'static str {
    match capability {
        Capability::Bpf => "loading the probes",
        Capability::Perfmon => "probes on functions and tracepoints",
        Capability::NetAdmin => "reading firewall rules, connection tracking, traffic control",
        Capability::NetRaw => "sending pings with an identifier of our own, capturing packets",
        Capability::SysAdmin => "entering other network namespaces; probes on functions of modules, kprobes",
        Capability::SysPtrace => "finding network namespaces of other users' processes",
        Capability::Syslog => "naming the kernel function where a packet was dropped",
        Capability::SysResource => "memory for the probes, where the kernel counts it as locked (up to Linux 5.10)",
    }
}

fn probes(sheet: &mut Sheet, machine: &Machine, level: Detail) {
    sheet.heading("Probes");
    if let Some(error) = &machine.probes_error {
        sheet.prose(2, 2, &[Span::new(Tone::Bad, error.as_str())]);
        return;
    }
    for tier in [Tier::Fentry, Tier::Kprobe, Tier::Tracepoint] {
        let names = |probe: &&ProbeState| probe.sight.tier == Some(tier);
        line(sheet, Tone::Good, "✓", tier_name(tier), machine.probes.iter().filter(names));
    }
    let unneeded = |probe: &&ProbeState| probe.sight.tier.is_none() && probe.absent_module.is_some();
    line(sheet, Tone::Faint, "–", "of modules that are not loaded", machine.probes.iter().filter(unneeded));
    // A probe without which we are blind to nothing is a matter of taste, not of sight.
    let missed = |probe: &&ProbeState| level == Detail::Full || !probe.sight.blind.starts_with("nothing");
    let rows: Vec<TableRow> = blind(machine)
        .filter(missed)
        .map(|probe| TableRow {
            tone: Tone::Plain,
            cells: vec![
                "✗".to_owned(),
                probe.sight.name.clone(),
                format!("{}{}", probe.sight.blind, closed(probe, level)),
            ],
        })
        .collect();
    if !rows.is_empty() {
        sheet.blank();
        sheet.table(2, &["", "not attached", "what is not seen without it"], &rows);
    }
    if level == Detail::Full {
        for probe in machine.probes.iter().filter(|probe| probe.sight.tier.is_some() && !probe.closed.is_empty()) {
            sheet.item(2, &[format!("{}: better ways are closed{}", probe.sight.name, closed(probe, level)).into()]);
        }
    } else if machine.probes.iter().any(|probe| !probe.closed.is_empty()) {
        sheet.paragraph(2, "(why not, and which better ways are closed: -v)");
    }
}

fn line<'a>(sheet: &mut Sheet, tone: Tone, mark: &str, name: &str, probes: impl Iterator<Item = &'a ProbeState>) {
    let names: Vec<&str> = probes.map(|probe| probe.sight.name.as_str()).collect();
    if !names.is_empty() {
        sheet.prose(2, 4, &[Span::new(tone, mark), format!(" {name}: {}", names.join(", ")).into()]);
    }
}

fn closed(probe: &ProbeState, level: Detail) -> String {
    if level != Detail::Full || probe.closed.is_empty() {
        return String::new();
    }
    let ways: Vec<String> = probe.closed.iter().map(|(tier, why)| format!("{}: {why}", tier_name(*tier))).collect();
    format!(" ({})", ways.join("; "))
}

fn programs(sheet: &mut Sheet, machine: &Machine) {
    sheet.heading("Programs");
    let rows: Vec<TableRow> = machine
        .programs
        .iter()
        .map(|(name, path)| TableRow {
            tone: if path.is_some() { Tone::Plain } else { Tone::Faint },
            cells: vec![
                if path.is_some() { "✓" } else { "–" }.to_owned(),
                name.clone(),
                path.clone()
                    .unwrap_or_else(|| "not found; needed only where its rules or switches are in use".to_owned()),
            ],
        })
        .collect();
    sheet.table(2, &["", "program", ""], &rows);
}

/// What the user can do, one thing per line, the most useful first.
fn what_to_do(machine: &Machine) -> Vec<String> {
    let mut advice = Vec::new();
    let missing: Vec<&str> =
        machine.capabilities.iter().filter(|(_, held)| !held).map(|(capability, _)| capability.name()).collect();
    if !missing.is_empty() {
        advice.push(format!("run it as root, or give it {}", missing.join(", ")));
    }
    if machine.btf.is_none() {
        advice.push(
            "boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y: those of all large distributions are".to_owned(),
        );
    }
    if machine.lockdown.as_deref() == Some("confidentiality") {
        advice.push("boot without lockdown=confidentiality (integrity is no hindrance)".to_owned());
    }
    if best(machine) == Tier::Tracepoint && !machine.kprobes {
        advice.push(
            "a kernel with CONFIG_KPROBES and CONFIG_FUNCTION_TRACER would also tell why a source was refused; \
             without it, that is deduced from the configuration and the kernel's own answers"
                .to_owned(),
        );
    }
    advice
}

fn advice(sheet: &mut Sheet, machine: &Machine) {
    let advice = what_to_do(machine);
    if advice.is_empty() {
        return;
    }
    sheet.heading("What you can do");
    for line in advice {
        sheet.item(2, &[line.into()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sight::ProbeSight;

    fn machine() -> Machine {
        let probe = |name: &str, tier: Option<Tier>, module: Option<&str>, closed: &[(Tier, &str)]| ProbeState {
            sight: ProbeSight {
                name: name.to_owned(),
                tier,
                target: tier.map(|_| name.to_owned()),
                why: None,
                blind: format!("what {name} would show"),
            },
            absent_module: module.map(str::to_owned),
            closed: closed.iter().map(|(tier, why)| (*tier, (*why).to_owned())).collect(),
        };
        Machine {
            kernel: "6.18.44".to_owned(),
            architecture: "x86_64".to_owned(),
            btf: Some(6 << 20),
            lockdown: Some("integrity".to_owned()),
            kprobes: false,
            capabilities: Capability::ALL
                .iter()
                .map(|capability| (*capability, *capability != Capability::Bpf))
                .collect(),
            programs: vec![("nft".to_owned(), Some("/usr/sbin/nft".to_owned())), ("ovs-ofctl".to_owned(), None)],
            probes: vec![
                probe("kfree_skb", Some(Tier::Tracepoint), None, &[]),
                probe(
                    "macvlan_handle_frame",
                    None,
                    Some("macvlan"),
                    &[(Tier::Fentry, "the kernel has no such function")],
                ),
                probe(
                    "fib_validate_source",
                    None,
                    None,
                    &[(Tier::Fentry, "not supported"), (Tier::Kprobe, "not supported")],
                ),
            ],
            probes_error: None,
        }
    }

    #[test]
    fn the_report_reads_well() {
        insta::assert_snapshot!("doctor", text(&machine(), Style::default(), Detail::Normal));
        insta::assert_snapshot!("doctor-full", text(&machine(), Style::default(), Detail::Full));
    }

    #[test]
    fn a_module_that_is_not_loaded_is_no_loss() {
        assert_eq!(blind(&machine()).count(), 1);
    }
}
