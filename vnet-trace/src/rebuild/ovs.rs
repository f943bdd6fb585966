//! Open vSwitch: its own daemons, bridges, ports and flows. Its devices are made by it, not by `ip link`.

use crate::diagnose::case::quote;
use crate::model::id::{Device, NetnsId};
use crate::model::ovs::{OvsBridge, OvsInterface, OvsPort};
use crate::model::snapshot::{Link, Snapshot};

use super::Work;

/// Whether Open vSwitch makes the device itself: its datapath's, a bridge's own, or an internal port.
pub fn owns(snapshot: &Snapshot, device: Device) -> bool {
    let datapath = |link: &Link| matches!(link.name.as_str(), "ovs-netdev" | "ovs-system");
    if !snapshot.ovs.is_empty() && snapshot.link(device).is_some_and(datapath) {
        return true;
    }
    snapshot.ovs.iter().flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port))).any(|(bridge, port)| {
        port.interfaces.iter().any(|interface| {
            interface.device == Some(device) && (interface.kind == "internal" || interface.name == bridge.name)
        })
    })
}

/// The bridges that have to do with what is rebuilt.
fn wanted<'a>(work: &Work<'a>) -> Vec<&'a OvsBridge> {
    let touches = |bridge: &OvsBridge| {
        bridge
            .ports
            .iter()
            .flat_map(|port| &port.interfaces)
            .any(|interface| interface.device.is_some_and(|device| work.has(device)))
    };
    work.snapshot.ovs.iter().filter(|bridge| touches(bridge)).collect()
}

/// The namespace in which the daemons work: that of their ports.
fn home(work: &Work<'_>) -> NetnsId {
    let devices = wanted(work)
        .into_iter()
        .flat_map(|bridge| &bridge.ports)
        .flat_map(|port| &port.interfaces)
        .filter_map(|interface| interface.device);
    devices.map(|device| device.netns).min().unwrap_or(NetnsId(0))
}

/// Starts the daemons and makes bridges and ports.
pub fn make(work: &mut Work<'_>) {
    let bridges = wanted(work);
    if bridges.is_empty() {
        return;
    }
    let home = home(work);
    work.needs.extend(["cmd:ovs-vswitchd", "cmd:ovsdb-server"].map(str::to_owned));
    for line in [
        "mkdir -p /run/openvswitch",
        "mount -t tmpfs ovs /run/openvswitch",
        "ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema",
        "ovsdb-server /run/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --pidfile --detach --no-chdir",
        "ovs-vsctl --no-wait init",
    ] {
        work.script.line(line);
    }
    work.script.run(home, "ovs-vswitchd unix:/run/openvswitch/db.sock --pidfile --detach --no-chdir -vconsole:off");
    for bridge in bridges {
        let mut words = format!("ovs-vsctl add-br {}", bridge.name);
        if bridge.datapath_type == "netdev" {
            words.push_str(&format!(" -- set bridge {} datapath_type=netdev", bridge.name));
            work.needs.insert("config:TUN".to_owned());
        } else {
            work.needs.insert("module:openvswitch".to_owned());
        }
        if let Some(mode) = &bridge.fail_mode {
            words.push_str(&format!(" -- set-fail-mode {} {mode}", bridge.name));
        }
        work.script.line(&words);
        for port in &bridge.ports {
            self::port(work, bridge, port);
        }
        for device in bridge.ports.iter().flat_map(|port| &port.interfaces).filter_map(|interface| interface.device) {
            if owns(work.snapshot, device)
                && let Some(link) = work.snapshot.link(device)
            {
                work.made.insert(device);
                if let Some(mac) = link.mac {
                    work.script.line(&format!(
                        "ovs-vsctl set interface {} mac={}",
                        link.name,
                        quote(&format!("\"{mac}\""))
                    ));
                }
            }
        }
    }
}

fn port(work: &mut Work<'_>, bridge: &OvsBridge, port: &OvsPort) {
    let mut words = String::new();
    if port.name != bridge.name {
        let [interface] = port.interfaces.as_slice() else {
            let what = format!("the bond {} of Open vSwitch bridge {}", port.name, bridge.name);
            work.miss(None, what, "bonds of Open vSwitch are not rebuilt");
            return;
        };
        words = format!("add-port {} {}", bridge.name, port.name);
        words.push_str(&interface_words(interface));
    }
    let mut settings = String::new();
    if let Some(tag) = port.tag {
        settings.push_str(&format!(" tag={tag}"));
    }
    if !port.trunks.is_empty() {
        let trunks: Vec<String> = port.trunks.iter().map(ToString::to_string).collect();
        settings.push_str(&format!(" trunks={}", trunks.join(",")));
    }
    if let Some(mode) = &port.vlan_mode {
        settings.push_str(&format!(" vlan_mode={mode}"));
    }
    if !settings.is_empty() {
        let and = if words.is_empty() { "" } else { " -- " };
        words.push_str(&format!("{and}set port {}{settings}", port.name));
    }
    if !words.is_empty() {
        work.script.line(&format!("ovs-vsctl {words}"));
    }
}

fn interface_words(interface: &OvsInterface) -> String {
    let mut words = String::new();
    if !matches!(interface.kind.as_str(), "" | "system") {
        words.push_str(&format!(" type={}", interface.kind));
    }
    if let Some(number) = interface.ofport.filter(|number| *number > 0) {
        words.push_str(&format!(" ofport_request={number}"));
    }
    for (name, value) in &interface.options {
        words.push_str(&format!(" options:{name}={}", quote(value)));
    }
    if words.is_empty() { words } else { format!(" -- set interface {}{words}", interface.name) }
}

/// The flows, where they are not what a new bridge has.
pub fn flows(work: &mut Work<'_>) {
    for bridge in wanted(work) {
        let flows: Vec<String> = bridge.flows.iter().filter_map(|line| flow(line)).collect();
        if matches!(flows.as_slice(), [only] if only.ends_with("actions=NORMAL") && only.contains("priority=0")) {
            continue;
        }
        work.script.line(&format!("ovs-ofctl del-flows {}", bridge.name));
        if !flows.is_empty() {
            work.script.feed(NetnsId(0), &format!("ovs-ofctl add-flows {} -", bridge.name), &flows.join("\n"));
        }
    }
}

/// A line of `dump-flows` as `add-flow` takes it: without what was counted.
fn flow(line: &str) -> Option<String> {
    const COUNTED: &[&str] = &["cookie=", "duration=", "n_packets=", "n_bytes=", "idle_age=", "hard_age="];
    let (matching, actions) = line.trim().split_once("actions=")?;
    let kept: Vec<&str> = matching
        .split([',', ' '])
        .map(str::trim)
        .filter(|word| !word.is_empty() && !COUNTED.iter().any(|counted| word.starts_with(counted)))
        .collect();
    let comma = if kept.is_empty() { "" } else { "," };
    Some(format!("{}{comma}actions={actions}", kept.join(",")))
}
