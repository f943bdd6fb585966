//! IPv6 that was switched off: `disable_ipv6` takes a device's addresses and routes away, so that afterwards a look-up fails
//! or nobody answers, and nothing in the tables says why. What is left to see is the setting itself.
//!
//! A guess is made only where the setting explains what is missing: the one other station on the link that could have owned
//! the address, or the device behind which the destination is.

use std::net::IpAddr;

use crate::model::id::Device;
use crate::model::snapshot::{LinkKind, Netns};

use super::segment;
use super::walk::Walk;

impl Walk<'_> {
    /// The only other station on a device's link on which IPv6 is off, with the setting, when nobody there owns an address.
    pub fn switched_off_owner(&self, asker: Device, next: IpAddr) -> Option<(Device, String)> {
        if next.is_ipv4() {
            return None;
        }
        let stations = segment::stations(self.snapshot, asker);
        let mut off =
            stations.iter().copied().filter(|station| station.netns != asker.netns && !self.is_bridge(*station));
        let mut off = off.by_ref().filter_map(|station| Some((station, self.ipv6_disabled(station)?)));
        let found = off.next()?;
        off.next().is_none().then_some(found)
    }

    /// The device of a namespace on which IPv6 is off and by which an address would be reached.
    pub fn switched_off_way(&self, netns: &Netns, dst: IpAddr) -> Option<(Device, String)> {
        if dst.is_ipv4() {
            return None;
        }
        let devices: Vec<Device> = netns
            .links
            .iter()
            .filter(|link| link.is_up() && !link.is_loopback() && link.master.is_none())
            .map(|link| Device::new(netns.id, link.index))
            .collect();
        let off: Vec<(Device, String)> =
            devices.iter().filter_map(|device| Some((*device, self.ipv6_disabled(*device)?))).collect();
        // A station behind it has the address, or a network with it.
        let covers = |device: Device| {
            segment::stations(self.snapshot, device).into_iter().any(|station| {
                station.netns != netns.id
                    && self
                        .netns(station.netns)
                        .addresses_of(station.ifindex)
                        .any(|entry| entry.net().is_some_and(|net| net.contains(&dst)))
            })
        };
        let all_off = off.len() == devices.len();
        off.iter().find(|(device, _)| covers(*device)).or(off.first().filter(|_| all_off)).cloned()
    }

    fn is_bridge(&self, device: Device) -> bool {
        self.link(device).is_some_and(|link| matches!(link.kind, LinkKind::Bridge(_)))
    }
}
