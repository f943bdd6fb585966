//! Who made or manages a device: by its file, its name, or the container at its other end.

use super::is_machines;
use super::sysctl::glob;
use crate::diagnose::case::Case;
use crate::model::id::Device;
use crate::model::provenance::{Manager, Origin};

/// Programs by the names that they give to devices: pattern, program, what makes the device anew.
const NAMES: [(&str, &str, &str); 16] = [
    ("docker0", "Docker, for its default network", "a restart of dockerd"),
    ("docker_gwbridge", "Docker, for a swarm", "a restart of dockerd"),
    ("br-????????????", "Docker, for a network of its users", "a restart of dockerd"),
    ("podman*", "Podman (netavark)", "the start of a container on that network"),
    ("cni-podman*", "Podman (CNI)", "the start of a container on that network"),
    ("virbr*", "libvirt", "a restart of libvirt's network"),
    ("lxdbr*", "LXD", "a restart of LXD"),
    ("incusbr*", "Incus", "a restart of Incus"),
    ("lxcbr*", "lxc-net", "a restart of lxc-net"),
    ("cni0", "the CNI bridge plugin", "the start of a pod"),
    ("flannel*", "flannel", "a restart of flannel"),
    ("cali*", "Calico, for one workload", "a restart of that pod"),
    ("vxlan?calico", "Calico", "Calico's Felix"),
    ("cilium*", "Cilium", "a restart of the Cilium agent"),
    ("kube-ipvs0", "kube-proxy", "a restart of kube-proxy"),
    ("tailscale*", "Tailscale", "a restart of tailscaled"),
];

/// Who made or manages a device that somebody has set down; who that was leaves no trace.
pub fn set_down(case: &Case<'_>, device: Device) -> Origin {
    let made = origin(case, device, "");
    let whose = made.set_by.map_or_else(String::new, |by| format!(" (by {by})"));
    let setting = format!("{}{whose} is down", case.place_name(device));
    Origin { setting, set_by: None, at: made.at, returns: None }
}

/// Where a device's state comes from.
pub fn origin(case: &Case<'_>, device: Device, state: &str) -> Origin {
    let name = case.name(device);
    let setting = format!("{} {state}", case.place_name(device));
    let unknown = Origin { setting, set_by: None, at: None, returns: None };
    let own = case.netns(device.netns).container.as_ref();
    let peer = case.snapshot().peer(device).and_then(|peer| case.netns(peer.netns).container.as_ref());
    if let Some(container) = own.or(peer) {
        let engine = engine(&container.engine);
        return Origin {
            set_by: Some(format!("{engine}, which made the device for the container {}", container.name)),
            returns: Some(format!("a restart of the container {}, which gets new devices", container.name)),
            ..unknown
        };
    }
    if let Some(network) =
        case.snapshot().engine_networks.iter().find(|network| network.bridge.as_deref() == Some(&name))
    {
        return Origin {
            set_by: Some(format!("{}, for its network {}", engine(&network.engine), network.name)),
            returns: Some(format!("a restart of {}", engine(&network.engine))),
            ..unknown
        };
    }
    if !is_machines(case, device.netns) {
        return unknown;
    }
    let files = &case.snapshot().provenance;
    if let Some(network) = files.cni.iter().find(|network| network.bridge.as_deref() == Some(&name)) {
        return Origin {
            set_by: Some(format!("CNI, for the network {} ({})", network.name, network.plugins.join(", "))),
            at: Some(crate::model::provenance::FileLine { file: network.file.clone(), line: 0 }),
            returns: Some("the start of a pod".to_owned()),
            ..unknown
        };
    }
    if let Some(file) = files.devices.iter().find(|file| file.device == name || glob(&file.device, &name)) {
        let (manager, service) = match file.manager {
            Manager::Networkd => ("systemd-networkd", "a restart of systemd-networkd, or `networkctl reload`"),
            Manager::NetworkManager => {
                ("NetworkManager", "the connection being activated again (`nmcli connection up`)")
            }
            Manager::Ifupdown => ("ifupdown", "`ifup`, or a restart of networking"),
            Manager::Netplan => ("netplan", "`netplan apply`"),
        };
        return Origin {
            set_by: Some(format!("{manager}, which manages the device")),
            at: Some(file.at.clone()),
            returns: Some(format!("a reboot, {service}")),
            ..unknown
        };
    }
    match NAMES.iter().find(|(pattern, ..)| glob(pattern, &name)) {
        Some((_, program, again)) => {
            Origin { set_by: Some((*program).to_owned()), returns: Some((*again).to_owned()), ..unknown }
        }
        None => unknown,
    }
}

fn engine(name: &str) -> &str {
    match name {
        "docker" => "Docker",
        "podman" => "Podman",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::bench::World;
    use crate::diagnose::link::link_down::check;
    use crate::model::provenance::{DeviceFile, FileLine, Manager, Origin, Provenance};

    fn origin(world: &World) -> Origin {
        world.origins(check).into_iter().next().expect("an origin")
    }

    fn files() -> Provenance {
        let at = FileLine { file: "/etc/systemd/network/10-veth.network".to_owned(), line: 2 };
        let devices = vec![DeviceFile { manager: Manager::Networkd, device: "veth*".to_owned(), at }];
        Provenance { devices, ..Provenance::default() }
    }

    #[test]
    fn a_managed_device_is_told_with_its_file() {
        let found = origin(&World::cable().down("a/veth1").files("a", files()));
        assert_eq!(found.setting, "veth1 in a (by systemd-networkd, which manages the device) is down");
        assert_eq!(found.set_by, None);
        assert_eq!(found.at.map(|at| (at.file, at.line)), Some(("/etc/systemd/network/10-veth.network".to_owned(), 2)));
    }

    #[test]
    fn files_say_nothing_of_other_namespaces() {
        assert_eq!(origin(&World::cable().down("a/veth1").files("b", files())).setting, "veth1 in a is down");
    }
}
