//! macvlan (drivers/net/macvlan.c) and ipvlan (drivers/net/ipvlan/): several devices on one lower device.

use crate::model::exchange::{Action, Decision, Place};
use crate::model::id::Device;
use crate::model::snapshot::{IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode};

use super::frame::{Branch, End, Frame, Payload, Trail};
use super::walk::Walk;

impl Walk<'_> {
    fn macvlan_mode(&self, device: Device) -> MacvlanMode {
        match self.link(device).map(|link| &link.kind) {
            Some(LinkKind::Macvlan(mode) | LinkKind::Macvtap(mode)) => *mode,
            _ => MacvlanMode::default(),
        }
    }

    fn siblings(&self, device: Device, lower: Device) -> Vec<Device> {
        self.snapshot
            .uppers(lower)
            .into_iter()
            .filter(|upper| *upper != device)
            .filter(|upper| {
                self.link(*upper).is_some_and(|link| {
                    matches!(link.kind, LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. })
                })
            })
            .collect()
    }

    /// macvlan_queue_xmit: siblings in bridge mode at once, everything else to the wire.
    pub fn macvlan_transmit(&mut self, trail: Trail, device: Device, mode: MacvlanMode, frame: Frame) -> Vec<Branch> {
        let Some(lower) = self.snapshot.lower(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        let mut branches = Vec::new();
        for sibling in self.siblings(device, lower) {
            let theirs = self.macvlan_mode(sibling);
            let mine = frame.dst.is_group() || frame.dst == self.mac(sibling);
            if !mine {
                continue;
            }
            if mode == MacvlanMode::Bridge && theirs == MacvlanMode::Bridge {
                branches.extend(self.receive(trail.clone(), sibling, frame.clone()));
                if !frame.dst.is_group() {
                    return branches;
                }
                continue;
            }
            // What mending would do: the sibling gets it.
            let mut guess = trail.clone();
            let decision = if mode == MacvlanMode::Private || theirs == MacvlanMode::Private {
                Decision::MacvlanPrivate { child: if mode == MacvlanMode::Private { device } else { sibling } }
            } else {
                Decision::MacvlanVepa { child: device, lower, reflector: self.reflector(lower) }
            };
            let place = if matches!(decision, Decision::MacvlanPrivate { .. }) { device } else { lower };
            guess.block(Place::at(place, "macvlan_start_xmit"), decision);
            branches.extend(self.receive(guess, sibling, frame.clone()));
        }
        // The lower device's own namespace does not hear its children, unless the switch reflects.
        if frame.dst.is_group() || frame.dst == self.mac(lower) {
            let mut guess = trail.clone();
            let decision = if mode == MacvlanMode::Vepa {
                Decision::MacvlanVepa { child: device, lower, reflector: self.reflector(lower) }
            } else {
                Decision::ParentIsolation { lower, child: device }
            };
            guess.block(Place::at(lower, "macvlan_start_xmit"), decision);
            guess.step(lower, Action::Received);
            branches.push(Branch { trail: guess, end: End::Stack { device: lower, frame: frame.clone() } });
        }
        branches.extend(self.transmit(trail, lower, frame));
        branches
    }

    /// Children of a lower device that would have taken a frame of its own stack, did they hear it: macvlan and ipvlan children
    /// hear only what comes in from the wire.
    pub fn children_deaf_to(&mut self, trail: &Trail, lower: Device, frame: &Frame) -> Vec<Branch> {
        let sent = trail.steps.iter().rev().filter(|step| step.action == Action::Transmitted).nth(1);
        let by_child = sent
            .and_then(|step| Some(Device::new(step.netns, step.device?)))
            .is_some_and(|sender| sender != lower && self.snapshot.lower(sender) == Some(lower));
        if by_child || !frame.tags.is_empty() {
            return Vec::new();
        }
        let mut branches = Vec::new();
        for child in self.siblings(lower, lower) {
            let (meant, decision) = match (self.link(child).map(|link| &link.kind), &frame.payload) {
                (Some(LinkKind::Ipvlan { .. }), Payload::Ip(packet)) => {
                    (self.has_address(child, packet.dst), Decision::ParentIsolation { lower, child })
                }
                (Some(LinkKind::Macvlan(MacvlanMode::Vepa) | LinkKind::Macvtap(MacvlanMode::Vepa)), _) => (
                    frame.dst.is_group() || frame.dst == self.mac(child),
                    Decision::MacvlanVepa { child, lower, reflector: self.reflector(lower) },
                ),
                _ => (frame.dst.is_group() || frame.dst == self.mac(child), Decision::ParentIsolation { lower, child }),
            };
            if meant {
                let mut guess = trail.clone();
                guess.block(Place::at(lower, "__dev_queue_xmit"), decision);
                branches.extend(self.receive(guess, child, frame.clone()));
            }
        }
        branches
    }

    /// The bridge port outside that would have to reflect frames of this lower device.
    fn reflector(&self, lower: Device) -> Option<Device> {
        let peer = self.snapshot.peer(lower)?;
        let master = self.link(peer)?.master?;
        let bridge = Device::new(peer.netns, master);
        matches!(self.link(bridge)?.kind, LinkKind::Bridge(_)).then_some(peer)
    }

    /// macvlan_handle_frame: a frame comes in from the wire by the lower device.
    pub fn macvlan_receive(
        &mut self,
        mut trail: Trail,
        lower: Device,
        children: &[Device],
        frame: Frame,
    ) -> Vec<Branch> {
        let source = children.iter().copied().find(|child| self.mac(*child) == frame.src);
        let mut branches = Vec::new();
        // A frame that a hairpin port reflects: what mattered was that port, seen from here.
        self.name_reflection(&mut trail, lower);
        if frame.dst.is_group() {
            for &child in children {
                if source == Some(child) {
                    continue;
                }
                let mode = self.macvlan_mode(child);
                let gets = match source.map(|source| self.macvlan_mode(source)) {
                    // From outside: all modes.
                    None => true,
                    // Reflected, the source is in VEPA mode: VEPA and bridge mode get it.
                    Some(MacvlanMode::Vepa) => matches!(mode, MacvlanMode::Vepa | MacvlanMode::Bridge),
                    // Reflected, bridge mode: bridge siblings have it already, VEPA ones get it now.
                    Some(MacvlanMode::Bridge) => mode == MacvlanMode::Vepa,
                    // Reflected, private: to nobody but the sender itself.
                    Some(_) => false,
                };
                let mut copy = trail.clone();
                if !gets {
                    if source.map(|source| self.macvlan_mode(source)) == Some(MacvlanMode::Bridge) {
                        continue;
                    }
                    let private =
                        source.filter(|source| self.macvlan_mode(*source) == MacvlanMode::Private).unwrap_or(child);
                    copy.block(Place::at(lower, "macvlan_handle_frame"), Decision::MacvlanPrivate { child: private });
                }
                branches.extend(self.receive(copy, child, frame.clone()));
            }
            branches.push(Branch { trail, end: End::Stack { device: lower, frame } });
            return branches;
        }
        if let Some(child) = children.iter().copied().find(|child| self.mac(*child) == frame.dst) {
            return self.receive(trail, child, frame);
        }
        if let Some(child) = children.iter().copied().find(|child| self.macvlan_mode(*child) == MacvlanMode::Passthru) {
            return self.receive(trail, child, frame);
        }
        // Nobody's: the lower device's own stack sees it; children whose owner may have been meant are tried behind a block.
        for &child in children {
            let mut guess = trail.clone();
            guess.block(
                Place::at(child, "macvlan_handle_frame"),
                Decision::OtherHost { frame: frame.dst, own: Some(self.mac(child)) },
            );
            guess.step(child, Action::Received);
            branches.push(Branch { trail: guess, end: End::Stack { device: child, frame: frame.clone() } });
        }
        branches.push(Branch { trail, end: End::Stack { device: lower, frame } });
        branches
    }

    /// A hairpin block on the port that faces this lower device was VEPA's: frames of a child came back here.
    fn name_reflection(&self, trail: &mut Trail, lower: Device) {
        let Some(peer) = self.snapshot.peer(lower) else { return };
        let child = trail.steps.iter().rev().find_map(|step| {
            let device = Device::new(step.netns, step.device?);
            let sent = matches!(step.action, Action::Transmitted);
            (sent && self.snapshot.lower(device) == Some(lower) && device != peer).then_some(device)
        });
        for block in &mut trail.blocks {
            if block.decision != (Decision::BridgeHairpin { port: peer }) {
                continue;
            }
            if let Some(child) = child {
                block.place = Place::at(lower, "br_flood");
                block.decision = match self.macvlan_mode(child) {
                    MacvlanMode::Private => Decision::MacvlanPrivate { child },
                    _ => Decision::MacvlanVepa { child, lower, reflector: Some(peer) },
                };
            } else if let Some(child) = self.snapshot.uppers(lower).first().copied() {
                // The lower device itself spoke to a child.
                block.place = Place::at(lower, "br_flood");
                block.decision = match self.macvlan_mode(child) {
                    MacvlanMode::Vepa => Decision::MacvlanVepa { child, lower, reflector: Some(peer) },
                    _ => Decision::ParentIsolation { lower, child },
                };
            }
        }
    }

    /// ipvlan_queue_xmit.
    pub fn ipvlan_transmit(
        &mut self,
        trail: Trail,
        device: Device,
        mode: IpvlanMode,
        flag: IpvlanFlag,
        mut frame: Frame,
    ) -> Vec<Branch> {
        let Some(lower) = self.snapshot.lower(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        let mut branches = Vec::new();
        for sibling in self.siblings(device, lower) {
            let theirs = match &frame.payload {
                Payload::Resolution(resolution) => self.has_address(sibling, resolution.target) || frame.dst.is_group(),
                Payload::Ip(packet) => self.has_address(sibling, packet.dst),
            };
            if !theirs {
                continue;
            }
            let mut copy = trail.clone();
            // Broadcasts reach siblings whatever the flag (ipvlan_multicast_enqueue); unicast does not.
            if !frame.dst.is_group() && flag != IpvlanFlag::Bridge {
                copy.block(
                    Place::at(device, "ipvlan_queue_xmit"),
                    Decision::IpvlanIsolation { child: device, l3: false },
                );
            }
            frame.dst = if frame.dst.is_group() { frame.dst } else { self.mac(sibling) };
            branches.extend(self.receive(copy, sibling, frame.clone()));
            if !frame.dst.is_group() {
                return branches;
            }
        }
        let for_lower = match &frame.payload {
            Payload::Resolution(resolution) => self.has_address(lower, resolution.target),
            Payload::Ip(packet) => self.has_address(lower, packet.dst),
        };
        if for_lower {
            let mut guess = trail.clone();
            guess.block(Place::at(lower, "ipvlan_queue_xmit"), Decision::ParentIsolation { lower, child: device });
            guess.step(lower, Action::Received);
            branches.push(Branch { trail: guess, end: End::Stack { device: lower, frame: frame.clone() } });
        }
        if mode != IpvlanMode::L2
            && let Payload::Ip(packet) = &frame.payload
        {
            // L3 modes route in the lower device's namespace (ipvlan_process_outbound).
            let packet = packet.clone();
            let mut trail = trail;
            if let Some((out, frame)) = self.route_and_resolve(&mut trail, lower.netns, packet) {
                branches.extend(self.transmit(trail, out, frame));
            } else {
                branches.push(Branch { trail, end: End::Dead });
            }
            return branches;
        }
        branches.extend(self.transmit(trail, lower, frame));
        branches
    }

    /// ipvlan_handle_frame: by IP address.
    pub fn ipvlan_receive(&mut self, trail: Trail, lower: Device, children: &[Device], frame: Frame) -> Vec<Branch> {
        let target = match &frame.payload {
            Payload::Resolution(resolution) => resolution.target,
            Payload::Ip(packet) => packet.dst,
        };
        let owner = children.iter().copied().find(|child| self.has_address(*child, target));
        let mut branches = Vec::new();
        if frame.dst.is_group() {
            for &child in children {
                branches.extend(self.receive(trail.clone(), child, frame.clone()));
            }
            branches.push(Branch { trail, end: End::Stack { device: lower, frame } });
            return branches;
        }
        match owner {
            Some(child) => self.receive(trail, child, frame),
            None => vec![Branch { trail, end: End::Stack { device: lower, frame } }],
        }
    }

    fn has_address(&self, device: Device, address: std::net::IpAddr) -> bool {
        self.netns(device.netns).addresses_of(device.ifindex).any(|entry| entry.address == address)
    }
}
