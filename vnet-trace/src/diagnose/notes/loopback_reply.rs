//! `loopback-reply`: both ends belong to one namespace, so the reply goes over `lo` and is never seen on the devices.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Leg, Place, Role};
use crate::model::id::Device;

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let lo = |device: Device| case.link(device).is_some_and(crate::model::snapshot::Link::is_loopback);
    let request = case.predicted.with_role(Role::Request, Leg::Forward).next()?;
    let reply = case.predicted.with_role(Role::Reply, Leg::Return).next()?;
    let sends = |journey: &crate::model::exchange::Journey| -> Vec<Device> {
        journey
            .steps
            .iter()
            .filter(|step| step.action == Action::Transmitted)
            .filter_map(|step| Some(Device::new(step.netns, step.device?)))
            .collect()
    };
    let (there, back) = (sends(request), sends(reply));
    let over_devices = there.iter().any(|device| !lo(*device));
    let over_lo = !back.is_empty() && back.iter().all(|device| lo(*device));
    (over_devices && over_lo).then(|| Note {
        code: "loopback-reply".to_owned(),
        place: back.first().map(|lo| Place { netns: lo.netns, device: Some(lo.ifindex), function: None }),
        summary: "both ends are in one namespace: the request goes over the devices, the reply comes back over lo, where tcpdump on the devices does not see it"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_both_ends_are_in_one_namespace() {
        assert!(World::loops().sysctl(".", "net.ipv4.conf.veth1.accept_local", 1).note(check).is_some());
    }

    #[test]
    fn silent_when_they_are_in_two() {
        assert_eq!(World::cable().note(check), None);
    }
}
