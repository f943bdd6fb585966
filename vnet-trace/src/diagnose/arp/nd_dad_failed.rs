//! `nd-dad-failed`: the IPv6 address is tentative or failed duplicate address detection.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::DadFailed { address, failed } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let dev = case.name(device);
    let state = if *failed {
        "failed duplicate address detection"
    } else {
        "is still tentative: duplicate address detection runs"
    };
    let summary = format!(
        "{address} on {} {state}, so it does not answer {}",
        case.place_name(device),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "nd-dad-failed", summary);
    let entry = case.netns(device.netns).addresses_of(device.ifindex).find(|entry| entry.address == *address)?;
    finding.evidence.push(case.state(
        device.netns,
        &format!("address {address} dev {dev}"),
        if *failed { "dadfailed tentative" } else { "tentative" },
    ));
    finding
        .evidence
        .push(case.sysctl_state(device.netns, &format!("net.ipv6.conf.{}.dad_transmits", dev.replace('.', "/"))));
    let length = entry.prefix_len;
    finding.fixes.push(fix(
        "add the address again without duplicate address detection, once nobody else has it",
        if *failed { Risk::ChangesPolicy } else { Risk::Safe },
        vec![
            case.ip(device.netns, &format!("addr del {address}/{length} dev {dev}")),
            case.ip(device.netns, &format!("addr add {address}/{length} dev {dev} nodad")),
        ],
        vec![
            case.ip(device.netns, &format!("addr del {address}/{length} dev {dev}")),
            case.ip(device.netns, &format!("addr add {address}/{length} dev {dev}")),
        ],
        "set accept_dad=0 for the device, or find the other owner",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// The owner's address with these IFA_F_* flags.
    fn world(flags: u32) -> World {
        World::cable6().space("b", |netns| {
            netns.addresses.iter_mut().filter(|entry| entry.prefix_len == 64).for_each(|entry| entry.flags = flags);
        })
    }

    #[test]
    fn fires_when_detection_failed() {
        let found = world(0x40 | 0x08).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands[1], "ip -n b addr add fd00::2/64 dev veth2 nodad");
    }

    #[test]
    fn fires_when_detection_still_runs() {
        assert!(world(0x40).found(check).finding.summary.contains("tentative"));
    }

    #[test]
    fn silent_when_the_address_is_optimistic() {
        assert!(world(0x40 | 0x04).is_silent(check));
    }
}
