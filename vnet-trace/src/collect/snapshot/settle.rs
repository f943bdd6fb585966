//! A network that was built a moment ago is not yet what it will be. The kernel tells itself that a link is up by an event of
//! its own (linkwatch), up to a second after the command that did it. Until then the device has a carrier and an operational
//! state that denies it, its queueing discipline throws everything away (noop, until dev_activate), and IPv6 has an address
//! on it but no multicast route, so that a solicitation that arrives is thrown away. The same when a carrier is lost: the
//! routes of the device are not marked linkdown before that event. A question asked into that moment would be answered with
//! what is gone before anybody reads of it, so it waits, a little.

use std::time::Duration;

use crate::model::id::IfIndex;
use crate::model::snapshot::{Link, LinkKind, Netns, OperState, Snapshot};

/// Linkwatch lets a second pass between two rounds (net/core/link_watch.c).
pub const AT_MOST: Duration = Duration::from_millis(1200);

/// Between two looks.
pub const STEP: Duration = Duration::from_millis(60);

/// Which address family the question is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether every device is what it will be.
pub fn is_settled(snapshot: &Snapshot, family: Family) -> bool {
    snapshot.namespaces.iter().all(|netns| {
        netns.links.iter().all(|link| follows_carrier(link) && (family == Family::V4 || has_begun_ipv6(netns, link)))
    })
}

/// linkwatch_do_dev: state, queueing discipline and routes follow the carrier together.
fn follows_carrier(link: &Link) -> bool {
    let denied = if link.carrier {
        matches!(link.operstate, OperState::Down | OperState::LowerLayerDown)
    } else {
        link.operstate == OperState::Up
    };
    !(link.is_up() && denied)
}

/// Whether IPv6 has begun on the device, or will not.
fn has_begun_ipv6(netns: &Netns, link: &Link) -> bool {
    let kind_has_it = matches!(
        link.kind,
        LinkKind::Physical
            | LinkKind::Veth
            | LinkKind::Bridge(_)
            | LinkKind::Vlan { .. }
            | LinkKind::Macvlan(_)
            | LinkKind::Vxlan(_)
    );
    let addressed = netns.addresses_of(link.index).any(|entry| entry.address.is_ipv6());
    let expected = kind_has_it && link.is_up() && link.carrier && link.mtu >= 1280 && addressed;
    !expected || has_multicast_route(netns, link.index)
}

/// addrconf_add_mroute: `multicast ff00::/8 dev X table local`, the first thing that a device gets.
fn has_multicast_route(netns: &Netns, ifindex: IfIndex) -> bool {
    let routes = netns.routes.iter().filter(|route| route.dst.addr().is_multicast() && route.dst.prefix_len() == 8);
    routes.flat_map(|route| &route.nexthops).any(|nexthop| nexthop.oif == Some(ifindex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::{Address, Nexthop, Route, RouteKind};

    fn network() -> Snapshot {
        let ifindex = IfIndex(2);
        let veth = Link { index: ifindex, kind: LinkKind::Veth, flags: 1, carrier: true, mtu: 1500, ..Link::default() };
        let address =
            Address { ifindex, address: "fd00::1".parse().unwrap(), prefix_len: 64, peer: None, scope: 0, flags: 0x80 };
        Snapshot {
            namespaces: vec![Netns { links: vec![veth], addresses: vec![address], ..Netns::default() }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn waits_for_the_multicast_route_of_a_device_with_an_address() {
        let mut snapshot = network();
        assert!(!is_settled(&snapshot, Family::V6));
        snapshot.namespaces[0].routes.push(Route {
            table: 255,
            kind: RouteKind::Multicast,
            dst: "ff00::/8".parse().unwrap(),
            src: None,
            tos: 0,
            scope: 0,
            protocol: 2,
            metric: 256,
            prefsrc: None,
            nexthops: vec![Nexthop { oif: Some(IfIndex(2)), ..Nexthop::default() }],
            mtu: None,
            nexthop_id: None,
            pref: 0,
            cached: false,
        });
        assert!(is_settled(&snapshot, Family::V6));
    }

    #[test]
    fn waits_for_a_device_whose_state_denies_its_carrier() {
        let mut snapshot = network();
        assert!(is_settled(&snapshot, Family::V4));
        snapshot.namespaces[0].links[0].operstate = OperState::LowerLayerDown;
        assert!(!is_settled(&snapshot, Family::V4));
        snapshot.namespaces[0].links[0].carrier = false;
        assert!(is_settled(&snapshot, Family::V4));
        snapshot.namespaces[0].links[0].operstate = OperState::Up;
        assert!(!is_settled(&snapshot, Family::V4));
        snapshot.namespaces[0].links[0].flags = 0;
        assert!(is_settled(&snapshot, Family::V4));
    }

    #[test]
    fn does_not_wait_for_what_will_not_come() {
        for change in [
            |link: &mut Link| link.flags = 0,
            |link: &mut Link| link.carrier = false,
            |link: &mut Link| link.mtu = 576,
            |link: &mut Link| link.kind = LinkKind::Wireguard,
        ] {
            let mut snapshot = network();
            change(&mut snapshot.namespaces[0].links[0]);
            assert!(is_settled(&snapshot, Family::V6));
        }
        let mut without_address = network();
        without_address.namespaces[0].addresses.clear();
        assert!(is_settled(&without_address, Family::V6));
    }
}
