//! Open vSwitch as its database and its daemon describe it: bridges, ports, interfaces, flows, and what the switch would
//! do with a packet ([`trace`]).
//!
//! The database and the daemon's control socket are asked directly; only flows need `ovs-ofctl`. All of it within a
//! deadline, after which there is a gap. Nothing is asked where there is no database socket.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::command;
use super::snapshot::why;
use crate::model::id::{Device, NetnsId};
use crate::model::ovs::{OvsBridge, OvsInterface, OvsPort, OvsTrace};
use crate::model::sight::Gap;
use crate::model::snapshot::{LinkKind, Snapshot};

pub mod rpc;

use rpc::RpcError;

/// What a daemon that does not answer may cost.
const DEADLINE: Duration = Duration::from_secs(6);
/// Frames asked about: a flood comes through every bridge.
const FRAMES: usize = 24;
/// Flows kept of one bridge.
const FLOWS: usize = 20_000;

/// The switches of the machine, before their interfaces are tied to devices.
#[derive(Debug, Default)]
pub struct Switches {
    /// Bridges; devices and flows are still missing.
    pub bridges: Vec<OvsBridge>,
    /// Inode of the daemon's network namespace, where its devices are.
    pub home: Option<u64>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

/// Where the daemons keep their sockets.
fn directory() -> Option<PathBuf> {
    let own = std::env::var_os("OVS_RUNDIR").map(PathBuf::from);
    own.into_iter()
        .chain(["/run/openvswitch".into(), "/var/run/openvswitch".into()])
        .find(|directory| directory.join("db.sock").exists())
}

/// The daemon's process id, by its pid file.
fn daemon(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("ovs-vswitchd.pid")).ok()?.trim().parse().ok()
}

/// Reads bridges, ports and interfaces. Empty where there is no database.
pub fn read() -> Switches {
    let Some(directory) = directory() else { return Switches::default() };
    let mut switches = Switches::default();
    let home = daemon(&directory).and_then(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).ok());
    switches.home = home.map(|metadata| metadata.ino());
    match database(&directory.join("db.sock")) {
        Ok(bridges) => switches.bridges = bridges,
        Err(error) => switches.gaps.push(Gap {
            what: "the Open vSwitch bridges".into(),
            why: why(&error),
            help: "see whether ovsdb-server runs".into(),
        }),
    }
    switches
}

fn database(socket: &Path) -> Result<Vec<OvsBridge>, RpcError> {
    let select =
        |table: &str, columns: &[&str]| json!({ "op": "select", "table": table, "where": [], "columns": columns });
    let question = json!([
        "Open_vSwitch",
        select("Bridge", &["name", "datapath_type", "fail_mode", "ports"]),
        select("Port", &["_uuid", "name", "interfaces", "tag", "trunks", "vlan_mode"]),
        select("Interface", &["_uuid", "name", "type", "ofport", "options"]),
    ]);
    let answer = rpc::call(socket, "transact", &question, DEADLINE)?;
    Ok(bridges(&answer))
}

/// The answer to three `select` operations, in their order.
fn bridges(answer: &Value) -> Vec<OvsBridge> {
    let rows = |table: usize| answer.pointer(&format!("/{table}/rows")).and_then(Value::as_array).into_iter().flatten();
    let interfaces: BTreeMap<String, OvsInterface> = rows(2)
        .map(|row| {
            let interface = OvsInterface {
                name: text(&row["name"]),
                kind: Some(text(&row["type"])).filter(|kind| !kind.is_empty()).unwrap_or_else(|| "system".into()),
                device: None,
                ofport: number(&row["ofport"]),
                options: map(&row["options"]),
            };
            (uuid(&row["_uuid"]), interface)
        })
        .collect();
    let ports: BTreeMap<String, OvsPort> = rows(1)
        .map(|row| {
            let port = OvsPort {
                name: text(&row["name"]),
                interfaces: set(&row["interfaces"]).filter_map(|id| interfaces.get(&uuid(id)).cloned()).collect(),
                tag: number(&row["tag"]),
                trunks: set(&row["trunks"]).filter_map(number).collect(),
                vlan_mode: set(&row["vlan_mode"]).next().map(text),
            };
            (uuid(&row["_uuid"]), port)
        })
        .collect();
    let mut bridges: Vec<OvsBridge> = rows(0)
        .map(|row| OvsBridge {
            name: text(&row["name"]),
            datapath_type: Some(text(&row["datapath_type"]))
                .filter(|kind| !kind.is_empty())
                .unwrap_or_else(|| "system".into()),
            fail_mode: set(&row["fail_mode"]).next().map(text),
            ports: set(&row["ports"]).filter_map(|id| ports.get(&uuid(id)).cloned()).collect(),
            ..OvsBridge::default()
        })
        .collect();
    bridges.sort_by(|a, b| a.name.cmp(&b.name));
    for bridge in &mut bridges {
        bridge.ports.sort_by_key(|port| port.interfaces.first().and_then(|interface| interface.ofport));
    }
    bridges
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `["uuid", "…"]`.
fn uuid(value: &Value) -> String {
    text(&value[1])
}

/// `["set", […]]`; a set of one is written as its element.
fn set(value: &Value) -> impl Iterator<Item = &Value> {
    let many = (value[0] == "set").then(|| value[1].as_array()).flatten();
    let one = many.is_none().then_some(value).filter(|value| !value.is_null());
    many.into_iter().flatten().chain(one)
}

/// A number, or a set of at most one.
fn number<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    set(value).next()?.as_i64()?.try_into().ok()
}

/// `["map", [[key, value], …]]`.
fn map(value: &Value) -> Vec<(String, String)> {
    let pairs = value[1].as_array().into_iter().flatten();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

impl Switches {
    /// Names of the ports that the switch makes itself, which may have been moved into any namespace.
    pub fn internal(&self) -> Vec<&str> {
        let interfaces = self.bridges.iter().flat_map(|bridge| &bridge.ports).flat_map(|port| &port.interfaces);
        interfaces.filter(|interface| interface.kind == "internal").map(|interface| interface.name.as_str()).collect()
    }

    /// Ties the interfaces to the snapshot's devices: by name in the daemon's namespace; a port that the switch made and
    /// that is not there, wherever a device of its name and kind is.
    pub fn finish(mut self, snapshot: &mut Snapshot) {
        let home = self.home.and_then(|inode| snapshot.netns_by_inode(inode)).map_or(NetnsId(0), |netns| netns.id);
        for bridge in &mut self.bridges {
            for interface in bridge.ports.iter_mut().flat_map(|port| &mut port.interfaces) {
                interface.device = device(snapshot, home, interface);
            }
        }
        snapshot.ovs = self.bridges;
        snapshot.gaps.extend(self.gaps);
    }

    /// Reads the flows of every bridge.
    pub fn flows(&mut self) {
        for bridge in &mut self.bridges {
            match command::output("ovs-ofctl", &["dump-flows", &bridge.name], DEADLINE) {
                Ok(flows) => {
                    let lines = flows.lines().map(str::trim).filter(|line| line.contains("actions="));
                    bridge.flows = lines.take(FLOWS).map(str::to_owned).collect();
                }
                Err(error) => {
                    bridge.flows_unread = true;
                    self.gaps.push(Gap {
                        what: format!("the flows of the Open vSwitch bridge {}", bridge.name),
                        why: why(&error),
                        help: String::new(),
                    });
                }
            }
        }
    }
}

fn device(snapshot: &Snapshot, home: NetnsId, interface: &OvsInterface) -> Option<Device> {
    let there = snapshot.netns(home).and_then(|netns| netns.link_by_name(&interface.name));
    if let Some(link) = there {
        return Some(Device::new(home, link.index));
    }
    if interface.kind != "internal" {
        return None;
    }
    let made = |kind: &LinkKind| matches!(kind, LinkKind::Openvswitch | LinkKind::Tun { tap: true });
    let mut moved = snapshot.devices().filter(|(_, link)| link.name == interface.name && made(&link.kind));
    moved.next().map(|(device, _)| device).filter(|_| moved.next().is_none())
}

/// Asks the switches about these frames, by bridge, and keeps their answers with the bridges. What a switch does not answer it
/// will not answer the next time either: then nothing more is asked.
pub fn ask(bridges: &mut [OvsBridge], frames: &[(String, String)]) -> Vec<Gap> {
    for (name, flow) in frames.iter().take(FRAMES) {
        let Some(bridge) = bridges.iter_mut().find(|bridge| bridge.name == *name) else { continue };
        match trace(name, flow) {
            Ok(answer) => bridge.traces.push(answer),
            // It does not take this frame; the next one may do.
            Err(RpcError::Refused { .. }) => {}
            Err(error) => {
                return vec![Gap {
                    what: format!("what the Open vSwitch bridge {name} would do with the packets"),
                    why: why(&error),
                    help: "see whether ovs-vswitchd runs".into(),
                }];
            }
        }
    }
    Vec::new()
}

/// What the switch would do with a packet: `ovs-appctl ofproto/trace BRIDGE FLOW`, asked of the daemon itself.
pub fn trace(bridge: &str, flow: &str) -> Result<OvsTrace, RpcError> {
    let directory = directory().unwrap_or_else(|| "/run/openvswitch".into());
    let pid = daemon(&directory).unwrap_or(0);
    let socket = directory.join(format!("ovs-vswitchd.{pid}.ctl"));
    let answer = rpc::call(&socket, "ofproto/trace", &json!([bridge, flow]), DEADLINE)?;
    Ok(OvsTrace { flow: flow.to_owned(), text: text(&answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_database_answers() {
        let answer = json!([
            { "rows": [{ "name": "br", "datapath_type": "netdev", "fail_mode": "secure",
                         "ports": ["set", [["uuid", "p1"], ["uuid", "p2"]]] }] },
            { "rows": [
                { "_uuid": ["uuid", "p1"], "name": "br", "interfaces": ["uuid", "i1"], "tag": ["set", []],
                  "trunks": ["set", []], "vlan_mode": ["set", []] },
                { "_uuid": ["uuid", "p2"], "name": "v", "interfaces": ["uuid", "i2"], "tag": 7,
                  "trunks": ["set", [1, 2]], "vlan_mode": "access" }] },
            { "rows": [
                { "_uuid": ["uuid", "i1"], "name": "br", "type": "internal", "ofport": 65534, "options": ["map", []] },
                { "_uuid": ["uuid", "i2"], "name": "v", "type": "", "ofport": 1,
                  "options": ["map", [["peer", "w"]]] }] },
        ]);
        let bridges = bridges(&answer);
        assert_eq!(bridges.len(), 1);
        assert_eq!(bridges[0].fail_mode.as_deref(), Some("secure"));
        let [first, second] = &bridges[0].ports[..] else { panic!("two ports") };
        assert_eq!((first.name.as_str(), first.tag, second.name.as_str()), ("v", Some(7), "br"));
        assert_eq!((first.trunks.as_slice(), first.vlan_mode.as_deref()), (&[1, 2][..], Some("access")));
        assert_eq!(first.interfaces[0].kind, "system");
        assert_eq!(first.interfaces[0].options, [("peer".to_owned(), "w".to_owned())]);
        assert_eq!((second.interfaces[0].kind.as_str(), second.interfaces[0].ofport), ("internal", Some(65534)));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_bridge() {
        for answer in [json!(null), json!([]), json!([{ "rows": 3 }]), json!([{ "rows": [4] }])] {
            assert!(bridges(&answer).iter().all(|bridge| bridge.name.is_empty()));
        }
    }
}
