//! The fixes that are suggested: each is carried out, must heal, and must be undone without a trace.

use libtest_mimic::Failed;
use vnet_trace::collect::netfilter::{DEADLINE, read_ruleset};
use vnet_trace::predict::netfilter::narrow_fix;

use crate::network::{Carried, Probe, probe, sh};
use crate::predicted::{addresses, lost_at};

/// Rules that lose a probe.
pub struct Broken {
    /// What it is about.
    pub name: &'static str,
    /// The rules.
    pub script: &'static str,
    /// The probe.
    pub probe: Probe,
}

const FORWARD: Probe = Probe { from: "a", to: "10.0.2.2", what: Carried::Ping };
const FORWARD6: Probe = Probe { from: "a", to: "fd00:2::2", what: Carried::Ping };
const INPUT: Probe = Probe { from: "a", to: "10.0.1.1", what: Carried::Ping };
const OUTPUT: Probe = Probe { from: "r", to: "10.0.2.2", what: Carried::Ping };
const TCP: Probe = Probe { from: "a", to: "10.0.2.2", what: Carried::Tcp(8080) };
const UDP: Probe = Probe { from: "a", to: "10.0.2.2", what: Carried::Udp(5353) };

const fn broken(name: &'static str, probe: Probe, script: &'static str) -> Broken {
    Broken { name, script, probe }
}

/// All of them.
pub const FIXES: &[Broken] = &[
    broken("iptables policy", FORWARD, "iptables -P FORWARD DROP"),
    broken(
        "iptables rule",
        FORWARD,
        "iptables -A FORWARD -p tcp -j ACCEPT; iptables -A FORWARD -i ra -j DROP; iptables -A FORWARD -j DROP",
    ),
    broken(
        "iptables rule in a chain",
        FORWARD,
        "iptables -N X; iptables -A FORWARD -j X; iptables -A X -p udp -j RETURN; iptables -A X -j REJECT",
    ),
    broken("iptables input", INPUT, "iptables -P INPUT DROP; iptables -P OUTPUT DROP"),
    broken("iptables output", OUTPUT, "iptables -P OUTPUT DROP; iptables -P INPUT DROP"),
    broken("iptables lost replies", INPUT, "iptables -A OUTPUT -p icmp -j DROP"),
    broken("iptables raw", FORWARD, "iptables -t raw -A PREROUTING -i ra -p icmp -j DROP"),
    broken("iptables tcp", TCP, "iptables -P FORWARD DROP"),
    broken("iptables udp", UDP, "iptables -A FORWARD -p udp -j REJECT"),
    broken("iptables two tables", FORWARD, "iptables -t mangle -A FORWARD -p icmp -j DROP; iptables -P FORWARD DROP"),
    broken(
        "iptables invalid",
        FORWARD,
        "iptables -t raw -A PREROUTING -i ra -p icmp -j CT --notrack; iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
    ),
    broken(
        "docker-user",
        FORWARD,
        "iptables -N DOCKER-USER; iptables -P FORWARD DROP; iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -p udp -j ACCEPT",
    ),
    broken("ip6tables", FORWARD6, "ip6tables -P FORWARD DROP"),
    broken("legacy", FORWARD, "iptables-legacy -A FORWARD -p icmp -j DROP"),
    broken("legacy and nft back end", FORWARD, "iptables-legacy -A FORWARD -p icmp -j DROP; iptables -P FORWARD DROP"),
    broken(
        "nft rule",
        FORWARD,
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp dport 1 accept; add rule inet t c ip protocol icmp counter drop'",
    ),
    broken(
        "nft policy",
        FORWARD,
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add rule inet t c ip protocol tcp accept'",
    ),
    broken(
        "nft two chains",
        FORWARD,
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add chain inet t d { type filter hook forward priority 10; policy drop; }'",
    ),
    broken(
        "nft ip6",
        FORWARD6,
        "nft 'add table ip6 t; add chain ip6 t c { type filter hook forward priority 0; policy drop; }'",
    ),
    broken(
        "nft tcp",
        TCP,
        "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }'",
    ),
    broken(
        "nft ingress",
        FORWARD,
        "nft 'add table netdev t; add chain netdev t c { type filter hook ingress device \"ra\" priority 0; }; add rule netdev t c ip protocol icmp counter drop'",
    ),
    broken(
        "nft output",
        OUTPUT,
        "nft 'add table ip t; add chain ip t c { type filter hook output priority 0; }; add rule ip t c ip daddr 10.0.2.0/24 counter drop'",
    ),
    broken(
        "nft vmap",
        FORWARD,
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c iifname vmap { \"ra\" : drop, \"rb\" : accept }'",
    ),
];

/// Carries out the first fix for each loss, until the probe passes.
pub fn heals(broken: &Broken) -> Result<(), Failed> {
    sh(broken.script)?;
    if probe(&broken.probe, "0.3") {
        return Err("it is not lost in the first place".into());
    }
    let pristine = strip(&listing()?);
    let mut undo = Vec::new();
    for _ in 0..3 {
        let ruleset = read_ruleset(DEADLINE);
        let Some((context, packet, rule)) = lost_at(&ruleset, &broken.probe) else { break };
        let fixes = narrow_fix(&ruleset, &rule, &context, &packet, &addresses(), "");
        let Some(fix) = fixes.into_iter().next() else { return Err("no fix".into()) };
        for command in &fix.commands {
            sh(command)?;
        }
        undo.push(fix.undo);
    }
    if undo.is_empty() {
        return Err("the loss is not seen".into());
    }
    if !probe(&broken.probe, "10") {
        return Err(format!("not healed by {undo:?}\n{}", listing()?).into());
    }
    for command in undo.iter().rev().flatten() {
        sh(command)?;
    }
    let restored = strip(&listing()?);
    if restored != pristine {
        return Err(format!("undo leaves\n{restored}\nwhere there was\n{pristine}").into());
    }
    Ok(())
}

fn listing() -> Result<String, Failed> {
    let script = "nft -s list ruleset; iptables-legacy-save; ip6tables-legacy-save";
    let output = std::process::Command::new("sh").args(["-c", script]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Without what changes by itself: comments with the time, counters.
fn strip(listing: &str) -> String {
    let kept: Vec<String> = listing
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with(':'))
        .map(|line| line.split(" counter packets ").next().unwrap_or_default().to_owned())
        .collect();
    kept.join("\n")
}
