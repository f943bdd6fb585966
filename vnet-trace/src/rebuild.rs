//! The part of a network that an exchange touches, as a shell script that builds it again somewhere else.
//!
//! Takes a [`Recording`], gives a [`Rebuilt`]: a script for `bash -eu` that is meant to run in a lab's sandbox, where the
//! fresh namespace stands for the one in which the question was asked. Pure: the script is text, made from the snapshot
//! alone, and nothing is run here. `lab export` puts it into a file; `--prove` runs it.
//!
//! **What is rebuilt** is decided in [`scope`]: the namespaces on the predicted way with all their devices, and what these
//! depend on. **How** follows the kernel's own order, because order decides: switches before devices (devices inherit
//! them), devices before masters, addresses before links go up, routes while all links are up, and then down again what
//! was down. Where the kernel would make other routes by itself than were recorded, its own are thrown away and the
//! recorded ones put in their recorded order ([`route`]).
//!
//! **What lies outside** (hardware, a device whose other end was not found, a tunnel program) becomes a pair of devices
//! whose far end is in a namespace without a name, so that nobody finds it: silent, or with the addresses that answered.
//!
//! **What can't be rebuilt** is said, as [`Missing`], and never pretended: programs whose code is not ours to read,
//! kinds of devices with secrets. On request a *stand-in* is put in its place that does what was observed; the script says so.
//!
//! Read first: [`rebuild`], then [`script`].

pub mod address;
pub mod link;
pub mod names;
pub mod neigh;
pub mod netfilter;
pub mod outside;
pub mod ovs;
pub mod plain;
pub mod port;
pub mod redact;
pub mod route;
pub mod scope;
pub mod script;
pub mod socket;
pub mod stand_in;
pub mod sysctl;
pub mod tc;
pub mod translate;

use std::collections::BTreeSet;

use crate::model::diagnosis::Finding;
use crate::model::id::{Device, NetnsId};
use crate::model::recording::Recording;
use crate::model::snapshot::{Link, Netns, Snapshot};

use names::Names;
use plain::Unwritable;
use scope::Scope;
use script::Script;

/// A network as a script.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuilt {
    /// For `bash -eu`.
    pub script: String,
    /// What the machine needs for it, as lab files spell needs.
    pub needs: BTreeSet<String>,
    /// How the namespaces are called there.
    pub names: Names,
    /// What is not there, or not as it was.
    pub missing: Vec<Missing>,
}

/// Something that the script can't build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// What it is, with its place.
    pub what: String,
    /// Why not.
    pub why: &'static str,
    /// Where it stands, if it is at a device.
    pub device: Option<Device>,
    /// A stand-in does what was observed of it.
    pub stand_in: bool,
}

/// What all parts of the work share.
pub struct Work<'a> {
    /// What was recorded.
    pub recording: &'a Recording,
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The cause of the loss, if one is named.
    pub cause: Option<&'a Finding>,
    /// What belongs to it.
    pub scope: &'a Scope,
    /// The script so far.
    pub script: Script,
    /// What the machine needs.
    pub needs: BTreeSet<String>,
    /// What is not there.
    pub missing: Vec<Missing>,
    /// Devices that exist already.
    pub made: BTreeSet<Device>,
    /// Far ends of devices that lead outside.
    pub stubs: Vec<outside::Stub>,
}

impl<'a> Work<'a> {
    /// The namespaces that are rebuilt.
    pub fn namespaces(&self) -> impl Iterator<Item = &'a Netns> + use<'a> {
        let (snapshot, scope) = (self.snapshot, self.scope);
        snapshot.namespaces.iter().filter(move |netns| scope.namespaces.contains(&netns.id))
    }

    /// The devices of a namespace that are rebuilt.
    pub fn links(&self, netns: &'a Netns) -> impl Iterator<Item = (Device, &'a Link)> + use<'a> {
        let scope = self.scope;
        let with_device = netns.links.iter().map(|link| (Device::new(netns.id, link.index), link));
        with_device.filter(move |(device, _)| scope.devices.contains(device))
    }

    /// Whether a device is rebuilt.
    pub fn has(&self, device: Device) -> bool {
        self.scope.devices.contains(&device)
    }

    /// A device as people say it.
    pub fn place(&self, device: Device) -> String {
        let name = self.snapshot.device_name(device);
        match self.snapshot.netns_name(device.netns) {
            "." => name,
            netns => format!("{name} in {netns}"),
        }
    }

    fn miss(&mut self, device: Option<Device>, what: String, why: &'static str) {
        self.missing.push(Missing { what, why, device, stand_in: false });
    }
}

/// Makes the script for what belongs to `scope`. A program that is named as the `cause` of the loss gets a
/// stand-in, if it can't be rebuilt itself.
/// Nothing is made of a recording that has words which are more than that to a shell.
pub fn rebuild(recording: &Recording, scope: &Scope, cause: Option<&Finding>) -> Result<Rebuilt, Unwritable> {
    let snapshot = &recording.before;
    plain::check(snapshot, scope)?;
    let names = Names::of(snapshot, scope);
    let mut work = Work {
        recording,
        snapshot,
        cause,
        scope,
        script: Script::new(names.clone()),
        needs: BTreeSet::new(),
        missing: Vec::new(),
        made: BTreeSet::new(),
        stubs: Vec::new(),
    };
    let others: Vec<NetnsId> = work.namespaces().map(|netns| netns.id).filter(|id| *id != NetnsId(0)).collect();
    for id in others {
        let name = work.script.name(id).to_owned();
        work.script.line(&format!("ip netns add {name}"));
    }
    sysctl::namespaces(&mut work);
    link::make(&mut work);
    ovs::make(&mut work);
    port::enslave(&mut work);
    sysctl::devices(&mut work);
    address::add(&mut work);
    link::up(&mut work);
    route::make(&mut work);
    link::down(&mut work);
    address::on_down_devices(&mut work);
    port::settings(&mut work);
    neigh::entries(&mut work);
    neigh::fdb(&mut work);
    netfilter::make(&mut work);
    tc::make(&mut work);
    tc::ipsec(&mut work);
    ovs::flows(&mut work);
    stand_in::programs(&mut work);
    socket::listen(&mut work);
    outside::hide(&mut work);
    address::settle(&mut work);
    Ok(Rebuilt { script: work.script.finish(), needs: work.needs, names, missing: work.missing })
}
