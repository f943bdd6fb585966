//! Who would set what: the files from which network settings are made, at boot or by a service.
//!
//! [`read`] looks below a folder that stands for `/`, so that tests can bring their own. It never fails: a file that cannot be
//! read says nothing. Only what concerns the network is kept; keys and pass phrases that stand beside it are not.
//! What a line means for a setting that was found is for `diagnose::provenance` to say.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::provenance::{CniNetwork, DaemonOption, FileLine, Provenance, RuleLine, Zone};

mod devices;
mod sysctl_d;

/// No file of settings is larger.
const LARGEST: u64 = 1 << 20;
/// Files looked at in one folder.
const MOST_FILES: usize = 256;
/// Rules kept of all files together.
const MOST_RULES: usize = 4096;
/// Bytes kept of one rule.
const LONGEST_RULE: usize = 512;

/// Files with rules that a service loads.
const RULE_FILES: [&str; 11] = [
    "etc/iptables/rules.v4",
    "etc/iptables/rules.v6",
    "etc/sysconfig/iptables",
    "etc/sysconfig/ip6tables",
    "etc/nftables.conf",
    "etc/sysconfig/nftables.conf",
    "etc/ufw/user.rules",
    "etc/ufw/user6.rules",
    "etc/ufw/before.rules",
    "etc/ufw/before6.rules",
    "etc/ufw/after.rules",
];

/// Options of dockerd that concern the network.
const DOCKER_OPTIONS: [&str; 16] = [
    "bip",
    "bridge",
    "default-address-pools",
    "default-gateway",
    "fixed-cidr",
    "fixed-cidr-v6",
    "icc",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "mtu",
    "userland-proxy",
];

/// Services whose start changes the network or its rules.
const SERVICES: [&str; 18] = [
    "NetworkManager",
    "containerd",
    "docker",
    "fail2ban",
    "firewalld",
    "ip6tables",
    "iptables",
    "k3s",
    "kubelet",
    "libvirtd",
    "netfilter-persistent",
    "networking",
    "nftables",
    "podman",
    "systemd-networkd",
    "systemd-sysctl",
    "tailscaled",
    "ufw",
];

/// Reads the files below `root`.
pub fn read(root: &Path) -> Provenance {
    Provenance {
        machine_netns: fs::metadata(root.join("proc/1/ns/net")).ok().map(|netns| netns.ino()),
        sysctls: sysctl_d::read(root),
        devices: devices::read(root),
        rules: rules(root),
        zones: zones(root),
        cni: cni(root),
        docker: docker(root),
        services: services(root),
    }
}

/// The text of a file below `root`, as far as it is one.
fn text(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= LARGEST)?;
    let _ = metadata;
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The path as it is without `root`.
fn name(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).map_or_else(|_| path.display().to_string(), |path| format!("/{}", path.display()))
}

/// Files in a folder with one of these endings, by name.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        endings.is_empty() || endings.contains(&ending)
    };
    let mut found: Vec<PathBuf> = entries.filter(wanted).take(MOST_FILES).collect();
    found.sort();
    found
}

fn at(root: &Path, path: &Path, line: usize) -> FileLine {
    FileLine { file: name(root, path), line: line as u32 }
}

fn rules(root: &Path) -> Vec<RuleLine> {
    let mut paths: Vec<PathBuf> = RULE_FILES.iter().map(|file| root.join(file)).collect();
    paths.extend(files(&root.join("etc/nftables.d"), &["nft", "conf"]));
    let mut found = Vec::new();
    for path in paths {
        let Some(text) = text(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            let text = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let says = !text.is_empty() && !text.starts_with('#') && text.len() <= LONGEST_RULE;
            if says && found.len() < MOST_RULES {
                found.push(RuleLine { text, at: at(root, &path, index + 1) });
            }
        }
    }
    found
}

fn zones(root: &Path) -> Vec<Zone> {
    let folders = ["etc/firewalld/zones", "usr/lib/firewalld/zones"];
    let paths = folders.iter().flat_map(|folder| files(&root.join(folder), &["xml"]));
    let mut zones: Vec<Zone> = Vec::new();
    for path in paths {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        // What is under /etc takes the place of what is under /usr/lib.
        if zones.iter().all(|zone| zone.name != stem) {
            zones.push(Zone { name: stem.to_owned(), file: name(root, &path) });
        }
    }
    zones
}

fn cni(root: &Path) -> Vec<CniNetwork> {
    let network = |path: PathBuf| {
        let value: Value = serde_json::from_str(&text(&path)?).ok()?;
        let plugins: Vec<&Value> = match value.get("plugins").and_then(Value::as_array) {
            Some(plugins) => plugins.iter().collect(),
            None => vec![&value],
        };
        let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(CniNetwork {
            name: word(&value, "name").unwrap_or_default(),
            plugins: plugins.iter().filter_map(|plugin| word(plugin, "type")).collect(),
            bridge: plugins.iter().find_map(|plugin| word(plugin, "bridge")),
            file: name(root, &path),
        })
    };
    files(&root.join("etc/cni/net.d"), &["conf", "conflist", "json"]).into_iter().filter_map(network).collect()
}

fn docker(root: &Path) -> Vec<DaemonOption> {
    let path = root.join("etc/docker/daemon.json");
    let Some(text) = text(&path) else { return Vec::new() };
    let Ok(Value::Object(options)) = serde_json::from_str(&text) else { return Vec::new() };
    let option = |(key, value): (&String, &Value)| {
        let line = text.lines().position(|line| line.contains(&format!("\"{key}\"")));
        DaemonOption {
            key: key.clone(),
            value: value.to_string(),
            at: at(root, &path, line.map_or(0, |line| line + 1)),
        }
    };
    options.iter().filter(|(key, _)| DOCKER_OPTIONS.contains(&key.as_str())).map(option).collect()
}

/// What systemd starts at boot, by the links of `systemctl enable`.
fn services(root: &Path) -> Vec<String> {
    let targets = fs::read_dir(root.join("etc/systemd/system")).into_iter().flatten().flatten();
    let wants = targets.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "wants"));
    let links = wants.flat_map(|folder| files(&folder, &["service"]));
    let stem = |path: PathBuf| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let mut found: Vec<String> = links.filter_map(stem).filter(|name| SERVICES.contains(&name.as_str())).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn an_empty_machine_says_nothing() {
        assert_eq!(read(root(&[]).path()), Provenance::default());
    }

    #[test]
    fn rules_are_found_with_their_lines() {
        let root = root(&[
            ("etc/iptables/rules.v4", "*filter\n:INPUT DROP [0:0]\n# mine\n-A INPUT  -p icmp -j DROP\nCOMMIT\n"),
            ("etc/nftables.conf", "table inet filter {\n\tip daddr 10.0.0.2   drop\n}\n"),
        ]);
        let found = read(root.path()).rules;
        let line =
            |text: &str| found.iter().find(|rule| rule.text == text).map(|rule| (rule.at.file.clone(), rule.at.line));
        assert_eq!(line("-A INPUT -p icmp -j DROP"), Some(("/etc/iptables/rules.v4".to_owned(), 4)));
        assert_eq!(line("ip daddr 10.0.0.2 drop"), Some(("/etc/nftables.conf".to_owned(), 2)));
        assert_eq!(line("# mine"), None);
    }

    #[test]
    fn the_daemons_options_are_found_without_its_secrets() {
        let root = root(&[("etc/docker/daemon.json", "{\n \"ip-forward\": false,\n \"tlskey\": \"x\"\n}\n")]);
        let found = read(root.path()).docker;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].value.as_str(), found[0].at.line), ("ip-forward", "false", 2));
    }

    #[test]
    fn networks_of_cni_name_their_bridge() {
        let list = r#"{"name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}, {"type": "portmap"}]}"#;
        let root = root(&[("etc/cni/net.d/10-pods.conflist", list), ("etc/cni/net.d/x.conf", "no json")]);
        let found = read(root.path()).cni;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].bridge.as_deref()), ("pods", Some("cni0")));
        assert_eq!(found[0].plugins, ["bridge", "portmap"]);
    }

    #[test]
    fn what_starts_at_boot_is_found_by_its_link() {
        let root = root(&[
            ("etc/systemd/system/multi-user.target.wants/docker.service", ""),
            ("etc/systemd/system/multi-user.target.wants/cron.service", ""),
            ("etc/systemd/system/sysinit.target.wants/nftables.service", ""),
        ]);
        assert_eq!(read(root.path()).services, ["docker", "nftables"]);
    }

    #[test]
    fn a_zone_of_the_machines_own_hides_the_shipped_one() {
        let root = root(&[("etc/firewalld/zones/public.xml", ""), ("usr/lib/firewalld/zones/public.xml", "")]);
        assert_eq!(
            read(root.path()).zones,
            [Zone { name: "public".into(), file: "/etc/firewalld/zones/public.xml".into() }]
        );
    }
}
