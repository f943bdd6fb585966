//! What people call the namespaces and devices of a recording.

use crate::model::exchange::Place;
use crate::model::id::{Device, IfIndex, NetnsId};
use crate::model::recording::Recording;
use crate::model::snapshot::{Netns, Snapshot};

/// The names in a recording: as they were before the question, or, for what appeared meanwhile, afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    before: &'a Snapshot,
    after: Option<&'a Snapshot>,
}

impl<'a> Names<'a> {
    /// The names of this recording.
    pub fn of(recording: &'a Recording) -> Self {
        Self { before: &recording.before, after: recording.after.as_ref() }
    }

    /// The names in a snapshot.
    pub fn in_snapshot(snapshot: &'a Snapshot) -> Self {
        Self { before: snapshot, after: None }
    }

    fn find(self, id: NetnsId) -> Option<&'a Netns> {
        self.before.netns(id).or_else(|| self.after.and_then(|after| after.netns(id)))
    }

    /// The namespace as JSON has it: its name, or `.` for the unnamed one where the command was started.
    pub fn netns(self, id: NetnsId) -> &'a str {
        self.find(id).map_or("?", |netns| &netns.name)
    }

    /// The namespace for a reader: `.` is called `here`.
    pub fn netns_spoken(self, id: NetnsId) -> &'a str {
        match self.netns(id) {
            "." => "here",
            name => name,
        }
    }

    /// The device's name within its namespace, or `ifN`.
    pub fn device(self, netns: NetnsId, ifindex: IfIndex) -> String {
        let device = Device::new(netns, ifindex);
        match self.before.link(device).or_else(|| self.after.and_then(|after| after.link(device))) {
            Some(link) => link.name.clone(),
            None => format!("if{}", ifindex.0),
        }
    }

    /// Whether the recording knows one namespace only, so that naming it says nothing.
    pub fn is_single(self) -> bool {
        self.before.namespaces.len() <= 1
    }

    /// A device with its namespace: `veth1`, `veth1 in ns1`.
    pub fn device_in(self, device: Device) -> String {
        let name = self.device(device.netns, device.ifindex);
        match self.netns(device.netns) {
            "." => name,
            netns => format!("{name} in {netns}"),
        }
    }

    /// A device as interfaces of a capture are called: `ns1/veth1`, or `veth1` in the unnamed namespace.
    pub fn qualified(self, device: Device) -> String {
        let name = self.device(device.netns, device.ifindex);
        match self.netns(device.netns) {
            "." => name,
            netns => format!("{netns}/{name}"),
        }
    }

    /// A place: `veth1 in ns1, fib_validate_source`.
    pub fn place(self, place: &Place) -> String {
        let mut text = match place.device() {
            Some(device) => self.device_in(device),
            None if self.netns(place.netns) == "." => "here".to_owned(),
            None => format!("namespace {}", self.netns(place.netns)),
        };
        if let Some(function) = &place.function {
            text.push_str(", in ");
            text.push_str(function);
        }
        text
    }
}
