//! Which of a lab's needs this machine does not meet.
//!
//! Takes the sandbox before anything was built in it, so that a device, a table or a sysctl can be tried in a fresh
//! namespace. A kernel option is read from the kernel's configuration where there is one, and tried where there is none;
//! a version is compared only with the bound that the lab itself declares.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::run_to_deadline;
use super::sandbox::Sandbox;
use super::spec::{Lab, Need};

/// No check takes longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// The needs that are not met, by name, a kernel bound last. Empty means that the lab can run.
pub fn unmet(lab: &Lab, sandbox: &Sandbox) -> Vec<String> {
    Machine::seen_from(sandbox).unmet(lab)
}

/// This machine, asked once for each need.
#[derive(Debug)]
pub struct Machine<'a> {
    sandbox: &'a Sandbox,
    known: RefCell<HashMap<Need, bool>>,
}

impl<'a> Machine<'a> {
    /// The machine on which this sandbox is, in which nothing has been built.
    pub fn seen_from(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, known: RefCell::default() }
    }

    /// The needs of `lab` that are not met, by name, a kernel bound last.
    pub fn unmet(&self, lab: &Lab) -> Vec<String> {
        let mut unmet: Vec<String> = lab.needs.iter().filter(|need| !self.meets(need)).map(Need::to_string).collect();
        if let Some(bound) = lab.kernel
            && !nix::sys::utsname::uname().is_ok_and(|name| bound.admits(&name.release().to_string_lossy()))
        {
            unmet.push(bound.to_string());
        }
        unmet
    }

    fn meets(&self, need: &Need) -> bool {
        let known = self.known.borrow().get(need).copied();
        known.unwrap_or_else(|| {
            let met = self.ask(need);
            self.known.borrow_mut().insert(need.clone(), met);
            met
        })
    }

    fn ask(&self, need: &Need) -> bool {
        match need {
            Need::Link(kind) => self.has_link_kind(kind),
            Need::Cmd(name) => self.has_program(name),
            Need::Config(option) => self.has_option(option),
            Need::Module(name) => self.has_module(name),
            Need::Sysctl(key) => self.has_sysctl(key),
            Need::DockerService => self.succeeds("docker version --format '{{.Server.Version}}'"),
            Need::Ipv6 => Path::new("/proc/sys/net/ipv6/conf/all").exists() && Path::new("/proc/net/if_inet6").exists(),
        }
    }

    /// Tries to make such a device in a throw-away namespace. A kind that the kernel lacks is told apart from one that
    /// wants other arguments by the message ("Unknown device type", before 4.17 "Operation not supported").
    fn has_link_kind(&self, kind: &str) -> bool {
        let arguments = match kind {
            "vxlan" | "geneve" | "vlan" => "id 1",
            "gre" | "gretap" | "ipip" | "sit" => "remote 127.0.0.2 local 127.0.0.1",
            "vrf" => "table 7",
            _ => "",
        };
        let lower =
            if matches!(kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap") { "link lower" } else { "" };
        let port = if kind == "vxlan" { "dstport 4789" } else { "" };
        let script = format!("ip link add lower type veth && ip link add upper {lower} type {kind} {arguments} {port}");
        let Ok(tried) = run_to_deadline(self.sandbox.command("unshare").args(["-n", "sh", "-c", &script]), DEADLINE)
        else {
            return false;
        };
        let refusal = tried.output();
        tried.status.success()
            || !["Unknown device type", "Operation not supported", "not found"]
                .iter()
                .any(|text| refusal.contains(text))
    }

    fn has_program(&self, name: &str) -> bool {
        self.succeeds(&format!("command -v {name} >/dev/null"))
    }

    fn has_module(&self, name: &str) -> bool {
        let file_name = name.replace('-', "_");
        Path::new("/sys/module").join(&file_name).exists() || self.succeeds(&format!("modprobe -q -n {name}"))
    }

    fn has_sysctl(&self, key: &str) -> bool {
        // A key like net.ipv4.conf.eth0/100.mtu is not needed by any lab, so every dot is a slash.
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        if !path.exists() && key.starts_with("net.bridge.") {
            self.succeeds("modprobe -q br_netfilter");
        }
        path.exists()
    }

    fn has_option(&self, option: &str) -> bool {
        match self.kernel_config() {
            Some(config) => config.lines().any(|line| {
                line.strip_prefix("CONFIG_")
                    .and_then(|line| line.strip_prefix(option))
                    .is_some_and(|value| matches!(value, "=y" | "=m"))
            }),
            None => self.can_try(option),
        }
    }

    fn kernel_config(&self) -> Option<String> {
        let release = nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned();
        if Path::new("/proc/config.gz").exists()
            && let Ok(unpacked) =
                run_to_deadline(self.sandbox.command("gzip").args(["-dc", "/proc/config.gz"]), DEADLINE)
            && unpacked.status.success()
        {
            return Some(unpacked.stdout);
        }
        [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
    }

    /// For kernels that do not show their configuration: what the option is for, tried in a throw-away namespace.
    /// An option that cannot be tried here counts as met; then the lab's setup fails and says at what.
    fn can_try(&self, option: &str) -> bool {
        let dummy = "ip link add d0 type veth && ip link set d0 up";
        let trial = match option {
            "TUN" => "[ -e /dev/net/tun ] || modprobe -q tun; ip tuntap add dev t0 mode tun".to_owned(),
            "NET_SCH_NETEM" => format!("{dummy} && tc qdisc add dev d0 root netem loss 1%"),
            "NET_SCH_TBF" => format!("{dummy} && tc qdisc add dev d0 root tbf rate 1mbit burst 2kb latency 1ms"),
            "NET_SCH_INGRESS" => format!("{dummy} && tc qdisc add dev d0 clsact"),
            "NET_CLS_MATCHALL" => {
                format!("{dummy} && tc qdisc add dev d0 clsact && tc filter add dev d0 ingress matchall")
            }
            "NET_CLS_BPF" => "[ -d /sys/module/cls_bpf ] || modprobe -q cls_bpf".to_owned(),
            "NET_ACT_GACT" => {
                format!("{dummy} && tc qdisc add dev d0 clsact && tc filter add dev d0 ingress matchall action drop")
            }
            "NF_CONNTRACK" => "nft 'add table t; add chain t c; add rule t c ct state new'".to_owned(),
            "NF_TABLES_ARP" => {
                "nft 'add table arp t; add chain arp t c { type filter hook input priority 0; }'".to_owned()
            }
            "NF_TABLES_BRIDGE" => {
                "nft 'add table bridge t; add chain bridge t c { type filter hook input priority 0; }'".to_owned()
            }
            "NF_TABLES_NETDEV" => format!(
                "{dummy} && nft 'add table netdev t; add chain netdev t c {{ type filter hook ingress device d0 priority 0; }}'"
            ),
            "IP_NF_RAW" => "iptables-legacy -t raw -S".to_owned(),
            "XFRM_USER" => "ip xfrm policy".to_owned(),
            "BRIDGE_VLAN_FILTERING" => "ip link add b0 type bridge vlan_filtering 1".to_owned(),
            _ => return true,
        };
        run_to_deadline(self.sandbox.command("unshare").args(["-n", "sh", "-c", &trial]), DEADLINE)
            .is_ok_and(|tried| tried.status.success())
    }

    fn succeeds(&self, line: &str) -> bool {
        let mut command: Command = self.sandbox.shell_line(line);
        run_to_deadline(&mut command, DEADLINE).is_ok_and(|finished| finished.status.success())
    }
}
