//! `arp-ignored`: the owner saw the request, but a setting or rule keeps it from answering.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{ArpRefusal, Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::ArpIgnored { by } = fault.loss.decision.as_ref()? else { return None };
    let place = &fault.loss.place;
    let device = place.device()?;
    let name = case.place_name(device);
    let packet = case.packet_name(fault.role);
    match by {
        ArpRefusal::Ignore { sysctl, value } => {
            let summary = format!(
                "{name} sees {packet} and does not answer: {sysctl} is {value}, and the address is not one it may answer for there"
            );
            let mut finding = case.finding(fault, "arp-ignored", summary);
            finding.evidence.push(case.sysctl_state(device.netns, sysctl));
            let mut settings = vec![(sysctl.clone(), 0)];
            // The larger of `all` and the device's decides: both have to go.
            for key in ["all".to_owned(), case.name(device).replace('.', "/")]
                .map(|dev| format!("net.ipv4.conf.{dev}.arp_ignore"))
            {
                if key != *sysctl && case.netns(device.netns).sysctl(&key).unwrap_or(0) != 0 {
                    settings.push((key, 0));
                }
            }
            finding.fixes.push(case.sysctl_fix(
                device.netns,
                "answer for all own addresses on every device",
                Risk::ChangesPolicy,
                &settings,
            ));
            Some(finding)
        }
        ArpRefusal::Filter { sysctl, back } => {
            let way =
                back.and_then(|back| case.netns(device.netns).link(back)).map_or("none", |link| link.name.as_str());
            let summary = format!(
                "{name} sees {packet} and does not answer: {sysctl} is on, and the way back to the asker is by {way}"
            );
            let mut finding = case.finding(fault, "arp-ignored", summary);
            finding.evidence.push(case.sysctl_state(device.netns, sysctl));
            finding.fixes.push(case.sysctl_fix(
                device.netns,
                "answer on this device as well",
                Risk::ChangesPolicy,
                &[(sysctl.clone(), 0)],
            ));
            Some(finding)
        }
        ArpRefusal::Rule(rule) => {
            let summary = format!(
                "a rule of {} in table {} chain {} drops {packet}: {}",
                case.netns_name(device.netns),
                rule.table,
                rule.chain,
                rule.text
            );
            let mut finding = case.finding(fault, "arp-ignored", summary);
            finding.evidence.push(case.state(
                device.netns,
                &format!("rule in {} {} {}", rule.family.word(), rule.table, rule.chain),
                &rule.text,
            ));
            finding.fixes = crate::diagnose::filter::netfilter_drop::fixes(case, fault, rule);
            Some(finding)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// b answers only for addresses of the device that was asked on, and has 10.0.0.100 on lo.
    fn world() -> World {
        World::cable().address("b/lo", "10.0.0.100/32").sysctl("b", "net.ipv4.conf.all.arp_ignore", 1)
    }

    #[test]
    fn fires_when_the_address_is_on_another_device() {
        let found = world().ask("a", "10.0.0.100").found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, ["ip netns exec b sysctl -w net.ipv4.conf.all.arp_ignore=0"]);
    }

    #[test]
    fn silent_when_the_address_is_on_the_device() {
        assert!(world().ask("a", "10.0.0.2").is_silent(check));
    }

    #[test]
    fn silent_when_it_is_not_set() {
        assert!(world().sysctl("b", "net.ipv4.conf.all.arp_ignore", 0).ask("a", "10.0.0.100").is_silent(check));
    }
}
