//! One recording laid out for the rules: what was asked, what was seen, what the configuration says should happen.
//!
//! A rule looks at one [`Fault`] of the prediction at a time and says whether it is its cause. It asks the case for words
//! (names of devices, commands that reach a namespace) and never for bytes or for the machine.

use std::net::IpAddr;

use crate::model::diagnosis::{Evidence, Finding, Fix, Grade, Risk, Source};
use crate::model::exchange::{Exchange, Fault, Leg, Place, Role};
use crate::model::id::{Device, IfIndex, NetnsId};
use crate::model::recording::Recording;
use crate::model::snapshot::{Link, LinkKind, Netns, Snapshot};
use crate::predict::filter::Refused;

/// Everything a rule may look at.
pub struct Case<'a> {
    /// What is known.
    pub recording: &'a Recording,
    /// What was seen.
    pub observed: &'a Exchange,
    /// What the configuration says.
    pub predicted: &'a Exchange,
    /// Packets that filters refuse, as the prediction has them at the hook.
    pub refusals: &'a [Refused],
}

/// A rule: whether a fault is its cause, and then what it says about it.
pub type Check = fn(&Case<'_>, &Fault) -> Option<Finding>;

impl<'a> Case<'a> {
    /// The configuration before the question.
    pub fn snapshot(&self) -> &'a Snapshot {
        &self.recording.before
    }

    /// A namespace; an empty one if the recording lacks it.
    pub fn netns(&self, id: NetnsId) -> &'a Netns {
        static EMPTY: std::sync::LazyLock<Netns> = std::sync::LazyLock::new(Netns::default);
        self.snapshot().netns(id).unwrap_or(&EMPTY)
    }

    /// A device.
    pub fn link(&self, device: Device) -> Option<&'a Link> {
        self.snapshot().link(device)
    }

    /// A device's name.
    pub fn name(&self, device: Device) -> String {
        self.snapshot().device_name(device)
    }

    /// A device with its namespace, as people say it: `veth1 in ns2`, or just `veth1` in the unnamed one.
    pub fn place_name(&self, device: Device) -> String {
        let name = self.name(device);
        match self.netns(device.netns).name.as_str() {
            "." => name,
            netns => format!("{name} in {netns}"),
        }
    }

    /// A namespace as people say it.
    pub fn netns_name(&self, id: NetnsId) -> String {
        match self.netns(id).name.as_str() {
            "." => "this namespace".to_owned(),
            name => name.to_owned(),
        }
    }

    /// The name of the device of a place, if it has one.
    pub fn at(&self, place: &Place) -> String {
        match place.device() {
            Some(device) => self.place_name(device),
            None => self.netns_name(place.netns),
        }
    }

    /// A command that runs in a namespace, from where the question was asked.
    pub fn cmd(&self, netns: NetnsId, command: &str) -> String {
        format!("{}{command}", self.prefix(netns))
    }

    /// What has to stand before a command to run it in a namespace.
    pub fn prefix(&self, netns: NetnsId) -> String {
        let space = self.netns(netns);
        match &space.path {
            _ if netns == NetnsId(0) => String::new(),
            Some(_) if space.named => format!("ip netns exec {} ", quote(&space.name)),
            Some(path) => format!("nsenter --net={} ", quote(path)),
            None => String::new(),
        }
    }

    /// An `ip` command in a namespace.
    pub fn ip(&self, netns: NetnsId, command: &str) -> String {
        let space = self.netns(netns);
        if netns != NetnsId(0) && space.named {
            format!("ip -n {} {command}", quote(&space.name))
        } else {
            self.cmd(netns, &format!("ip {command}"))
        }
    }

    /// A `sysctl -w` in a namespace.
    pub fn sysctl(&self, netns: NetnsId, key: &str, value: i64) -> String {
        self.cmd(netns, &format!("sysctl -w {key}={value}"))
    }

    /// A sysctl's change as a fix, with undo and how to keep it.
    pub fn sysctl_fix(&self, netns: NetnsId, title: &str, risk: Risk, settings: &[(String, i64)]) -> Fix {
        let space = self.netns(netns);
        let undo = settings.iter().map(|(key, _)| self.sysctl(netns, key, space.sysctl(key).unwrap_or(0))).collect();
        let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        Fix {
            title: title.to_owned(),
            risk,
            commands: settings.iter().map(|(key, value)| self.sysctl(netns, key, *value)).collect(),
            undo,
            persist: format!("put `{}` into a file under /etc/sysctl.d of the host or container", lines.join("`, `")),
        }
    }

    /// Configuration as evidence.
    pub fn state(&self, netns: NetnsId, what: &str, value: &str) -> Evidence {
        let at = match self.netns(netns).name.as_str() {
            "." => String::new(),
            name => format!(" in {name}"),
        };
        Evidence {
            source: Source::State { netns, what: what.to_owned(), value: value.to_owned() },
            text: if value.is_empty() { format!("{what}{at}") } else { format!("{what} = {value}{at}") },
        }
    }

    /// A sysctl as evidence.
    pub fn sysctl_state(&self, netns: NetnsId, key: &str) -> Evidence {
        let value = self.netns(netns).sysctls.get(key).cloned().unwrap_or_else(|| "not set".to_owned());
        self.state(netns, key, &value)
    }

    /// What the kernel calls the packet of a role.
    pub fn packet_name(&self, role: Role) -> &'static str {
        let ipv6 = self.recording.question.dst.is_ipv6();
        match (role, ipv6) {
            (Role::ArpRequest, false) => "the ARP request",
            (Role::ArpRequest, true) => "the neighbour solicitation",
            (Role::ArpReply, false) => "the ARP reply",
            (Role::ArpReply, true) => "the neighbour advertisement",
            (Role::Request, _) => match self.recording.question.protocol {
                crate::model::question::Protocol::Echo => "the echo request",
                crate::model::question::Protocol::Tcp { .. } => "the TCP SYN",
                crate::model::question::Protocol::Udp { .. } => "the UDP datagram",
            },
            (Role::Reply, _) => match self.recording.question.protocol {
                crate::model::question::Protocol::Echo => "the echo reply",
                crate::model::question::Protocol::Tcp { .. } => "the SYN-ACK",
                crate::model::question::Protocol::Udp { .. } => "the reply",
            },
            (Role::IcmpError, _) => "the ICMP error",
            (Role::Reset, _) => "the RST",
        }
    }

    /// `ipv4` or `ipv6`, as sysctls have it.
    pub fn family(&self) -> &'static str {
        if self.recording.question.dst.is_ipv6() { "ipv6" } else { "ipv4" }
    }

    /// The namespace and device that have an address, if they are in sight.
    pub fn owner(&self, address: IpAddr) -> Option<Device> {
        self.snapshot()
            .namespaces
            .iter()
            .find_map(|netns| netns.owns(address).map(|entry| Device::new(netns.id, entry.ifindex)))
    }

    /// Commands by which the hosts of this exchange forget what they know, or have learned meanwhile, of an address on a
    /// station's link, so that they ask again.
    pub fn forget(&self, station: Device, address: IpAddr) -> Vec<String> {
        let mut hosts: Vec<NetnsId> =
            self.forward_path().into_iter().chain(self.return_path()).map(|device| device.netns).collect();
        hosts.push(self.recording.question.netns);
        let mut commands = Vec::new();
        for device in crate::predict::segment::stations(self.snapshot(), station) {
            let netns = self.netns(device.netns);
            let known = netns
                .neighbours
                .iter()
                .any(|entry| entry.ifindex == device.ifindex && entry.address == address && !entry.is_proxy());
            let talks = hosts.contains(&device.netns)
                && netns.addresses_of(device.ifindex).any(|entry| entry.address.is_ipv4() == address.is_ipv4());
            if known || talks && device.netns != station.netns {
                commands.push(
                    self.ip(device.netns, &format!("neigh flush to {address} dev {} nud all", self.name(device))),
                );
            }
        }
        commands
    }

    /// The prefix length under which a namespace reaches an address on a device, as it would be given to a new address there.
    pub fn prefix_len(&self, netns: NetnsId, ifindex: IfIndex, address: IpAddr) -> u8 {
        self.netns(netns)
            .addresses_of(ifindex)
            .filter_map(|entry| entry.net().filter(|net| net.contains(&address)))
            .map(|net| net.prefix_len())
            .next()
            .unwrap_or(if address.is_ipv4() { 32 } else { 128 })
    }

    /// A finding with this fault's place and role, graded by configuration alone; `confirm` grades it by what was seen.
    pub fn finding(&self, fault: &Fault, code: &str, summary: String) -> Finding {
        Finding {
            code: code.to_owned(),
            grade: Grade::Deduced,
            role: fault.role,
            place: fault.loss.place.clone(),
            summary,
            evidence: Vec::new(),
            fixes: Vec::new(),
            owner: None,
            origins: Vec::new(),
        }
    }

    /// Whether what a device sends leaves all that can be seen from here. The other end of a pair and the lower device of a
    /// stacked one are on this machine; they are beyond our sight only where nothing that could be looked at was closed to us.
    pub fn leads_out(&self, device: Device) -> bool {
        let Some(link) = self.link(device) else { return false };
        if link.has_hidden_end() && !self.snapshot().is_restricted() {
            return true;
        }
        !matches!(
            link.kind,
            LinkKind::Veth
                | LinkKind::Netkit { .. }
                | LinkKind::Vlan { .. }
                | LinkKind::Macvlan(_)
                | LinkKind::Macvtap(_)
                | LinkKind::Ipvlan { .. }
        )
    }

    /// Whether nothing at all was read of a namespace.
    pub fn is_closed(&self, netns: NetnsId) -> bool {
        self.snapshot().netns(netns).is_none_or(Netns::is_closed)
    }

    /// Whether no namespace of the machine is known to be out of sight.
    pub fn sees_all(&self) -> bool {
        !self.snapshot().is_restricted() && !self.snapshot().devices().any(|(_, link)| link.has_hidden_end())
    }

    /// Why the other end of a device, which is on this machine, cannot be seen.
    pub fn hidden_end(&self, device: Device) -> String {
        match self.link(device).and_then(|link| link.link_netns) {
            Some(netns) => format!("it is in {}, which may not be entered", self.netns_name(netns)),
            None => "it is in a network namespace that was not found: run on the host, as root".to_owned(),
        }
    }

    /// The address that the reply goes to, as the owner sees the asker.
    pub fn reply_dst(&self) -> Option<IpAddr> {
        self.predicted.with_role(Role::Reply, Leg::Return).next().and_then(|journey| journey.headers.dst)
    }

    /// The devices that the request comes in and goes out by, in order.
    pub fn forward_path(&self) -> Vec<Device> {
        path_of(self.predicted, Role::Request, Leg::Forward)
    }

    /// The same for the reply.
    pub fn return_path(&self) -> Vec<Device> {
        path_of(self.predicted, Role::Reply, Leg::Return)
    }
}

fn path_of(exchange: &Exchange, role: Role, leg: Leg) -> Vec<Device> {
    let mut path: Vec<Device> = Vec::new();
    for step in exchange.with_role(role, leg).next().map(|journey| journey.steps.as_slice()).unwrap_or_default() {
        if let Some(ifindex) = step.device {
            let device = Device::new(step.netns, ifindex);
            if path.last() != Some(&device) {
                path.push(device);
            }
        }
    }
    path
}

/// A word for the shell.
pub fn quote(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A fix in the making.
pub fn fix(title: &str, risk: Risk, commands: Vec<String>, undo: Vec<String>, persist: &str) -> Fix {
    Fix { title: title.to_owned(), risk, commands, undo, persist: persist.to_owned() }
}

/// What to say about persistence of what `ip` sets.
pub const NETWORK_CONFIG: &str = "set it where the device is configured (systemd-networkd, NetworkManager, /etc/network/interfaces, the CNI or the script that makes it)";
