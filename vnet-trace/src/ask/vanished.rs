//! Devices that went away while the question was asked: a container that ended in the middle of it.
//!
//! What is said holds for the time when they were there, and a reader has to know that they are gone.

use std::collections::BTreeSet;

use crate::model::exchange::Exchange;
use crate::model::id::Device;
use crate::model::sight::Gap;
use crate::model::snapshot::Snapshot;

/// The devices on the predicted way that are in `before` and not in `after`, as a gap.
pub fn gap(before: &Snapshot, after: &Snapshot, way: &Exchange) -> Option<Gap> {
    let steps = way.journeys.iter().flat_map(|journey| &journey.steps);
    let on_way: BTreeSet<Device> =
        steps.filter_map(|step| step.device.map(|device| Device::new(step.netns, device))).collect();
    let gone: Vec<String> = on_way
        .into_iter()
        // A namespace without any device has not been read: even a dead one has lo.
        .filter(|device| after.netns(device.netns).is_some_and(|netns| !netns.links.is_empty()))
        .filter(|device| after.link(*device).is_none())
        .filter_map(|device| {
            let link = before.link(device)?;
            let netns = before.netns_name(device.netns);
            Some(if netns == "." { link.name.clone() } else { format!("{} in {netns}", link.name) })
        })
        .collect();
    if gone.is_empty() {
        return None;
    }
    Some(Gap {
        what: format!("{} after the beginning", gone.join(", ")),
        why: format!("{} went away while the question was asked", if gone.len() == 1 { "it" } else { "they" }),
        help: "what is said holds for the time before; ask again for what is now".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::model::id::{IfIndex, NetnsId};
    use crate::model::snapshot::{Link, Netns};

    fn world(of_web: &[u32]) -> Snapshot {
        let netns = |id, name: &str, devices: &[u32]| {
            let link = |index: &u32| Link { index: IfIndex(*index), name: format!("eth{index}"), ..Link::default() };
            Netns { id: NetnsId(id), name: name.into(), links: devices.iter().map(link).collect(), ..Netns::default() }
        };
        Snapshot { namespaces: vec![netns(0, ".", &[1]), netns(1, "web", of_web)], ..Snapshot::default() }
    }

    #[test]
    fn a_device_on_the_way_that_went_away_is_told() {
        let way = Exchange::request_received(&[(1, 2), (0, 1)]);
        let before = world(&[2, 3]);
        assert_eq!(gap(&before, &world(&[2]), &way), None, "what is not on the way does not matter");
        assert_eq!(gap(&before, &world(&[]), &way), None, "what was not read again is not gone");
        let gap = gap(&before, &world(&[3]), &way).unwrap();
        assert_eq!(gap.what, "eth2 in web after the beginning");
    }
}
