//! `rp-filter`: reverse-path filter: the route back to the source does not use the device it came in by.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::RpFilter { src, sysctl, mode, back } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let way = back
        .and_then(|back| case.netns(device.netns).link(back))
        .map_or_else(|| "by no route at all".to_owned(), |link| format!("by {}", link.name));
    let word = if *mode == 1 { "strict" } else { "loose" };
    let summary = format!(
        "{name} refuses {}: its source {src} would be answered {way}, and rp_filter is {word} ({sysctl} = {mode})",
        super::no_route::what(case, fault)
    );
    let mut finding = case.finding(fault, "rp-filter", summary);
    finding.place.function = Some("fib_validate_source".to_owned());
    finding.evidence.push(case.sysctl_state(device.netns, sysctl));
    finding.evidence.push(case.state(device.netns, &format!("route back to {src}"), &way));
    let space = case.netns(device.netns);
    let dev = case.name(device).replace('.', "/");
    let own = format!("net.ipv4.conf.{dev}.rp_filter");
    let strict_all = space.sysctl("net.ipv4.conf.all.rp_filter").unwrap_or(0);
    // With no way back at all the reply would be lost as well.
    if back.is_none() {
        finding.fixes.extend(crate::diagnose::toward::fixes(case, device.netns, *src, &[]));
    }
    // The larger of `all` and the device decides; 2 on the device alone is the narrowest change that helps.
    if *mode == 1 && back.is_some() {
        finding.fixes.push(case.sysctl_fix(
            device.netns,
            &format!("make the check loose on {}", case.name(device)),
            Risk::ChangesPolicy,
            &[(own.clone(), 2)],
        ));
    }
    let mut settings = vec![(own, 0)];
    if strict_all != 0 {
        // Off needs `all` off too; the other devices keep what they have.
        for link in space.links.iter().filter(|link| link.index != device.ifindex && !link.is_loopback()) {
            let key = format!("net.ipv4.conf.{}.rp_filter", link.name.replace('.', "/"));
            if space.sysctl(&key).unwrap_or(0) < strict_all {
                settings.push((key, strict_all));
            }
        }
        settings.push(("net.ipv4.conf.all.rp_filter".to_owned(), 0));
    }
    finding.fixes.push(case.sysctl_fix(
        device.netns,
        &format!("switch the check off on {}", case.name(device)),
        Risk::ChangesPolicy,
        &settings,
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_way_back_is_by_another_device() {
        let found = World::two_cables().sysctl("b", "net.ipv4.conf.all.rp_filter", 1).found(check);
        assert_eq!(found.at, "b/b1");
        assert_eq!(found.commands, ["ip netns exec b sysctl -w net.ipv4.conf.b1.rp_filter=2"]);
    }

    #[test]
    fn silent_when_the_check_is_loose() {
        assert!(World::two_cables().sysctl("b", "net.ipv4.conf.all.rp_filter", 2).is_silent(check));
    }

    #[test]
    fn silent_when_the_way_back_is_the_same() {
        assert!(World::cable().sysctl("b", "net.ipv4.conf.all.rp_filter", 1).is_silent(check));
    }
}
