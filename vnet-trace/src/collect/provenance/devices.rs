//! Files by which systemd-networkd, NetworkManager, ifupdown and netplan manage devices: which file names which device.

use std::path::Path;

use super::{at, files, text};
use crate::model::provenance::{DeviceFile, Manager};

/// netplan's kinds of devices, under which their names stand.
const KINDS: [&str; 9] =
    ["ethernets", "wifis", "modems", "bridges", "bonds", "vlans", "tunnels", "vrfs", "dummy-devices"];

/// All of them, in the order in which each program looks at its own.
pub fn read(root: &Path) -> Vec<DeviceFile> {
    let mut found = networkd(root);
    found.extend(network_manager(root));
    found.extend(ifupdown(root));
    found.extend(netplan(root));
    found
}

/// `Name=` in `[Match]`, several patterns apart by blanks. Files go by name, whatever their folder; the first that matches counts.
fn networkd(root: &Path) -> Vec<DeviceFile> {
    let folders = ["etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network"];
    let mut paths: Vec<_> = folders.iter().flat_map(|folder| files(&root.join(folder), &["network"])).collect();
    paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let mut found = Vec::new();
    for path in paths {
        for (line, value) in ini(&path, "Match", "Name") {
            for device in value.split_whitespace() {
                found.push(DeviceFile {
                    manager: Manager::Networkd,
                    device: device.to_owned(),
                    at: at(root, &path, line),
                });
            }
        }
    }
    found
}

fn network_manager(root: &Path) -> Vec<DeviceFile> {
    let folders = [
        "etc/NetworkManager/system-connections",
        "run/NetworkManager/system-connections",
        "usr/lib/NetworkManager/system-connections",
    ];
    let mut found = Vec::new();
    for path in folders.iter().flat_map(|folder| files(&root.join(folder), &[])) {
        for (line, device) in ini(&path, "connection", "interface-name") {
            found.push(DeviceFile { manager: Manager::NetworkManager, device, at: at(root, &path, line) });
        }
    }
    found
}

/// `iface NAME …` in /etc/network/interfaces and the files beside it.
fn ifupdown(root: &Path) -> Vec<DeviceFile> {
    let first = root.join("etc/network/interfaces");
    let mut found = Vec::new();
    for path in std::iter::once(first).chain(files(&root.join("etc/network/interfaces.d"), &[])) {
        let Some(text) = text(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            if let (Some("iface"), Some(device)) = (words.next(), words.next()) {
                let at = at(root, &path, index + 1);
                found.push(DeviceFile { manager: Manager::Ifupdown, device: device.to_owned(), at });
            }
        }
    }
    found.dedup_by(|later, earlier| later.device == earlier.device && later.at.file == earlier.at.file);
    found
}

/// The names below each kind of device. Only as much of YAML as netplan's files have at these two levels.
fn netplan(root: &Path) -> Vec<DeviceFile> {
    let folders = ["etc/netplan", "run/netplan", "usr/lib/netplan", "lib/netplan"];
    let mut found = Vec::new();
    for path in folders.iter().flat_map(|folder| files(&root.join(folder), &["yaml"])) {
        let Some(text) = text(&path) else { continue };
        // How far the kind is indented, and how far the names below it.
        let mut section: Option<(usize, Option<usize>)> = None;
        for (index, line) in text.lines().enumerate() {
            let word = line.trim();
            let indent = line.len() - line.trim_start().len();
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            let Some((key, _)) = word.split_once(':') else { continue };
            let key = key.trim_matches(['"', '\'']);
            match section {
                Some((kind, _)) if indent <= kind => section = None,
                _ => {}
            }
            let Some((_, names)) = &mut section else {
                section = KINDS.contains(&key).then_some((indent, None));
                continue;
            };
            if *names.get_or_insert(indent) == indent {
                let at = at(root, &path, index + 1);
                found.push(DeviceFile { manager: Manager::Netplan, device: key.to_owned(), at });
            }
        }
    }
    found
}

/// Lines and values of a key in a section of a file of that kind.
fn ini(path: &Path, section: &str, key: &str) -> Vec<(usize, String)> {
    let Some(text) = text(path) else { return Vec::new() };
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == section;
        } else if let Some((name, value)) = line.split_once('=')
            && inside
            && name.trim() == key
        {
            found.push((index + 1, value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(path: &str, text: &str) -> Vec<(Manager, String, u32)> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        read(root.path()).into_iter().map(|file| (file.manager, file.device, file.at.line)).collect()
    }

    #[test]
    fn networkd_names_devices_by_pattern() {
        let text = "[Match]\nName=en* eth0\n[Network]\nName=no\n";
        let named = |device: &str| (Manager::Networkd, device.to_owned(), 2);
        assert_eq!(found("etc/systemd/network/20-wired.network", text), [named("en*"), named("eth0")]);
    }

    #[test]
    fn network_manager_names_the_device_of_a_connection() {
        let text = "[connection]\nid=office\ninterface-name=eth0\n[wifi-security]\npsk=secret\n";
        let path = "etc/NetworkManager/system-connections/office.nmconnection";
        assert_eq!(found(path, text), [(Manager::NetworkManager, "eth0".to_owned(), 3)]);
    }

    #[test]
    fn ifupdown_names_each_device_once() {
        let text = "auto eth0\niface eth0 inet static\n  address 10.0.0.1/24\niface eth0 inet6 auto\n";
        assert_eq!(found("etc/network/interfaces", text), [(Manager::Ifupdown, "eth0".to_owned(), 2)]);
    }

    #[test]
    fn netplan_names_devices_below_their_kind() {
        let text = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n    \"eth1\":\n      addresses: []\n  \
                    bridges:\n    br0:\n      interfaces: [eth0]\n";
        let named = |device: &str, line| (Manager::Netplan, device.to_owned(), line);
        assert_eq!(found("etc/netplan/01.yaml", text), [named("eth0", 4), named("eth1", 6), named("br0", 9)]);
    }
}
