//! `martian-local-source`: its source is one of the receiving namespace's own addresses, and accept_local is off.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::LocalSource { src } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let dev = case.name(device).replace('.', "/");
    let packet = super::no_route::what(case, fault);
    let asker = case.recording.question.netns;
    let role = if matches!(fault.role, crate::model::exchange::Role::ArpRequest) { "sender" } else { "source" };
    let whose = if device.netns == asker {
        "the same namespace".to_owned()
    } else {
        format!("{} itself", case.netns_name(device.netns))
    };
    let summary = format!("{name} refuses {packet}: its {role} {src} is an address of {whose}");
    let mut finding = case.finding(fault, "martian-local-source", summary);
    finding.place.function = Some("fib_validate_source".to_owned());
    let key = format!("net.ipv4.conf.{dev}.accept_local");
    let holder = case
        .netns(device.netns)
        .owns(*src)
        .and_then(|entry| case.netns(device.netns).link(entry.ifindex))
        .map_or("the local table", |link| link.name.as_str());
    finding.evidence.push(case.state(device.netns, &format!("address {src}"), &format!("dev {holder}")));
    finding.evidence.push(case.sysctl_state(device.netns, &key));
    if device.netns == asker {
        finding.fixes.push(case.sysctl_fix(
            device.netns,
            &format!("accept packets from own addresses on {}", case.name(device)),
            Risk::ChangesPolicy,
            &[(key, 1)],
        ));
    } else {
        // Two hosts with one address: one of them has to give it up.
        let entry = case.netns(asker).owns(*src);
        let theirs = case.netns(device.netns).owns(*src);
        if let (Some(_), Some(theirs)) = (entry, theirs) {
            let link = case.netns(device.netns).link(theirs.ifindex)?;
            let address = format!("{src}/{}", theirs.prefix_len);
            finding.fixes.push(fix(
                &format!(
                    "take {src} from {}, if it is the asker's",
                    case.place_name(crate::model::id::Device::new(device.netns, theirs.ifindex))
                ),
                Risk::ChangesPolicy,
                vec![case.ip(device.netns, &format!("addr del {address} dev {}", link.name))],
                vec![case.ip(device.netns, &format!("addr add {address} dev {}", link.name))],
                "give each host an address of its own where they are configured",
            ));
        }
        finding.fixes.push(case.sysctl_fix(
            device.netns,
            &format!("accept packets from own addresses on {}", case.name(device)),
            Risk::ChangesPolicy,
            &[(key, 1)],
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_both_ends_are_in_one_namespace() {
        let found = World::loops().found(check);
        assert_eq!(found.at, "./veth1");
        assert_eq!(found.commands, ["sysctl -w net.ipv4.conf.veth1.accept_local=1"]);
    }

    #[test]
    fn silent_when_own_addresses_are_accepted_there() {
        assert!(World::loops().sysctl(".", "net.ipv4.conf.veth1.accept_local", 1).is_silent(check));
    }

    #[test]
    fn silent_when_the_ends_are_in_two_namespaces() {
        assert!(World::cable().is_silent(check));
    }
}
