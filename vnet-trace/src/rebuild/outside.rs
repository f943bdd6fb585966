//! What lies outside: the far ends of devices that lead where the recording did not look.
//!
//! Hardware, a pair whose other end was not found, and a tun device with its program all look alike from inside: packets
//! leave, and perhaps something comes back. They become one end of a pair whose other end stands in a namespace that
//! loses its name once it is built. A sleeping process keeps it, and nobody who looks for namespaces finds it, as it
//! was in the world that was recorded. If something answered from there, the far end gets the addresses that answered.

use std::net::IpAddr;

use crate::model::exchange::{Fate, Leg, Role};
use crate::model::id::{Device, NetnsId};
use crate::model::snapshot::{Link, LinkKind};
use crate::predict::predict;

use super::Work;

/// The namespace of far ends, while it has a name.
const NAME: &str = "outside";

/// A far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// The device in the scope.
    pub device: Device,
    /// Its far end's name.
    pub name: String,
    /// Up, so that the near end has a carrier.
    pub up: bool,
}

/// Makes the device as one end of a pair with a far end outside.
pub fn stub(work: &mut Work<'_>, device: Device, link: &Link) {
    if work.stubs.is_empty() {
        work.script.line(&format!("ip netns add {NAME}"));
    }
    let name = format!("far{}", work.stubs.len());
    let there =
        if device.netns == NetnsId(0) { String::new() } else { format!(" netns {}", work.script.name(device.netns)) };
    work.script.ip(
        NetnsId(0),
        format!("link add {} index {}{there} type veth peer name {name} netns {NAME}", link.name, link.index.0),
    );
    if let LinkKind::Tun { tap: false } = link.kind {
        work.script.ip(device.netns, format!("link set {} arp off", link.name));
    }
    work.needs.insert("link:veth".to_owned());
    let carrier = link.carrier || matches!(link.kind, LinkKind::Physical) && link.is_up();
    work.stubs.push(Stub { device, name, up: carrier });
}

/// Brings far ends up.
pub fn up(work: &mut Work<'_>) {
    let names: Vec<String> = work.stubs.iter().filter(|stub| stub.up).map(|stub| stub.name.clone()).collect();
    for name in names {
        work.script.line(&format!("ip -n {NAME} link set {name} up"));
    }
}

/// Gives far ends the addresses that answered, and takes the namespace's name away.
pub fn hide(work: &mut Work<'_>) {
    if work.stubs.is_empty() {
        return;
    }
    answers(work);
    // Opened before the process is started, which may be later than the name's end.
    work.script.line(&format!("exec 9</run/netns/{NAME}"));
    work.script.line("sleep infinity >/dev/null 2>&1 &");
    work.script.line("exec 9<&-");
    work.script.line(&format!("ip netns del {NAME}"));
}

/// Something answered from out there: its address, and the next hop's before it.
fn answers(work: &mut Work<'_>) {
    if !work.recording.is_delivered() {
        return;
    }
    let prediction = predict(&work.recording.question, work.snapshot);
    let Some(request) = prediction.exchange.with_role(Role::Request, Leg::Forward).next() else { return };
    let Fate::OutOfSight { last } = request.fate else { return };
    let Some(stub) = work.stubs.iter().find(|stub| stub.device == last) else { return };
    let far = stub.name.clone();
    let Some(netns) = work.snapshot.netns(last.netns) else { return };
    let dst = work.recording.question.dst;
    let gateway = netns
        .routes
        .iter()
        .filter(|route| route.dst.contains(&dst))
        .flat_map(|route| &route.nexthops)
        .filter(|hop| hop.oif == Some(last.ifindex))
        .find_map(|hop| hop.gateway);
    let on_link = |address: IpAddr| {
        let own = netns
            .addresses_of(last.ifindex)
            .filter_map(crate::model::snapshot::Address::net)
            .find(|net| net.contains(&address));
        own.map_or(if address.is_ipv4() { 32 } else { 128 }, |net| net.prefix_len())
    };
    let nodad = if dst.is_ipv6() { " nodad" } else { "" };
    let near = gateway.unwrap_or(dst);
    work.script.line(&format!("ip -n {NAME} link set lo up"));
    work.script.line(&format!("ip -n {NAME} addr add {near}/{} dev {far}{nodad}", on_link(near)));
    if gateway.is_some() {
        work.script.line(&format!("ip -n {NAME} addr add {dst} dev lo{nodad}"));
    }
}
