//! Where a packet is when the rules are asked: hook, layer and devices; and who answers what the rules ask of the host.

use std::net::IpAddr;

use crate::model::netfilter::Hook;

/// Where in the kernel the packet is.
#[derive(Clone, Debug, PartialEq)]
pub struct HookContext {
    /// The hook.
    pub hook: Hook,
    /// Whose hook of that name.
    pub layer: Layer,
    /// Device it came in by. None at output, and where the kernel passes none.
    pub input: Option<Device>,
    /// Device it will leave by. None before routing, and at input.
    pub output: Option<Device>,
    /// For a frame that br_netfilter shows to the IP hooks: the ports. `input` and `output` are then the bridge itself.
    pub bridged: Option<BridgePorts>,
}

/// Whose hooks. Each layer has its own prerouting, input, forward and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// IPv4 or IPv6, by the packet: chains of `ip` or `ip6`, and of `inet`.
    Ip,
    /// Frames on a bridge: chains of `bridge`.
    Bridge,
    /// ARP, except on a bridge: chains of `arp`.
    Arp,
    /// One device's ingress or egress: chains of `netdev`, and of `inet` with hook ingress.
    Netdev,
}

/// A device, as far as rules can ask about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Index in its namespace. 0: not known.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge` … None: not known, or a device without kind.
    pub kind: Option<String>,
    /// ARPHRD number. None: not known.
    pub device_type: Option<u16>,
    /// Device group. None: not known.
    pub group: Option<u32>,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
}

impl Device {
    /// A device of which we know only this much.
    pub fn named(ifindex: u32, name: &str) -> Device {
        Device { ifindex, name: name.to_owned(), ..Device::default() }
    }
}

/// The ports of a frame that is being bridged while the IP hooks see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgePorts {
    /// Port by which it came in.
    pub input: Option<String>,
    /// Port by which it will go out. None before the bridge has decided, and for frames to the bridge itself.
    pub output: Option<String>,
}

impl HookContext {
    /// A packet routed at the IP layer.
    pub fn ip(hook: Hook, input: Option<Device>, output: Option<Device>) -> HookContext {
        HookContext { hook, layer: Layer::Ip, input, output, bridged: None }
    }

    /// A frame on a bridge, seen by the bridge's own chains: devices are ports.
    pub fn bridge(hook: Hook, input: Option<Device>, output: Option<Device>) -> HookContext {
        HookContext { hook, layer: Layer::Bridge, input, output, bridged: None }
    }

    /// An ARP packet that enters (`Hook::Input`) or leaves (`Hook::Output`) the host.
    pub fn arp(hook: Hook, input: Option<Device>, output: Option<Device>) -> HookContext {
        HookContext { hook, layer: Layer::Arp, input, output, bridged: None }
    }

    /// A frame at a device's ingress.
    pub fn ingress(device: Device) -> HookContext {
        HookContext { hook: Hook::Ingress, layer: Layer::Netdev, input: Some(device), output: None, bridged: None }
    }

    /// A frame at a device's egress.
    pub fn egress(device: Device) -> HookContext {
        HookContext { hook: Hook::Egress, layer: Layer::Netdev, input: None, output: Some(device), bridged: None }
    }

    /// A frame that br_netfilter shows to the IP hooks while it is being bridged by `bridge`.
    ///
    /// br_nf_pre_routing gives the bridge as input device; br_nf_forward gives it as input and as output device; the ports
    /// are known to `-m physdev` only (net/bridge/br_netfilter_hooks.c, since 5.10 as before).
    pub fn bridged_ip(hook: Hook, bridge: &Device, ports: BridgePorts) -> HookContext {
        let output = match hook {
            Hook::Forward | Hook::Postrouting => Some(bridge.clone()),
            _ => None,
        };
        let input = match hook {
            Hook::Postrouting => None,
            _ => Some(bridge.clone()),
        };
        HookContext { hook, layer: Layer::Ip, input, output, bridged: Some(ports) }
    }
}

/// What the kernel says about an address or a route. Unknown is not the same as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// We cannot tell.
    Unknown,
    /// There is none.
    None,
    /// This.
    Is(T),
}

/// Types of addresses as the routing tables give them (RTN_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// Nothing says what it is.
    Unspecified,
    /// A host elsewhere.
    Unicast,
    /// This host.
    Local,
    /// A subnet's broadcast address.
    Broadcast,
    /// Anycast.
    Anycast,
    /// A group.
    Multicast,
    /// A blackhole route's.
    Blackhole,
    /// An unreachable route's.
    Unreachable,
    /// A prohibit route's.
    Prohibit,
}

/// Answers what rules ask of the host: its addresses and routes. Implemented over a snapshot.
pub trait Oracle {
    /// Type of an address, as seen from a device or (None) from the whole host.
    fn address_type(&self, address: IpAddr, device: Option<&Device>) -> Answer<AddressType>;

    /// Device by which an address would be reached with this mark, optionally bound to a device.
    fn route_device(&self, address: IpAddr, mark: u32, device: Option<&Device>) -> Answer<Device>;

    /// Source address that masquerading takes on this device towards this destination.
    fn masquerade_address(&self, device: &Device, destination: IpAddr) -> Answer<IpAddr>;

    /// This host's first address of the family on this device: where redirect sends an incoming packet.
    fn primary_address(&self, device: &Device, like: IpAddr) -> Answer<IpAddr>;
}

/// Knows nothing: every such question is answered with [`Answer::Unknown`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOracle;

impl Oracle for NoOracle {
    fn address_type(&self, address: IpAddr, _: Option<&Device>) -> Answer<AddressType> {
        // Some addresses say what they are themselves.
        let multicast = match address {
            IpAddr::V4(address) => address.is_multicast(),
            IpAddr::V6(address) => address.is_multicast(),
        };
        if multicast { Answer::Is(AddressType::Multicast) } else { Answer::Unknown }
    }

    fn route_device(&self, _: IpAddr, _: u32, _: Option<&Device>) -> Answer<Device> {
        Answer::Unknown
    }

    fn masquerade_address(&self, _: &Device, _: IpAddr) -> Answer<IpAddr> {
        Answer::Unknown
    }

    fn primary_address(&self, _: &Device, _: IpAddr) -> Answer<IpAddr> {
        Answer::Unknown
    }
}

/// Knows the host's own addresses by device and nothing else. Enough for most rules, and for tests.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses {
    /// Device name and address, in the order in which the kernel lists them.
    pub addresses: Vec<(String, IpAddr)>,
}

impl Oracle for LocalAddresses {
    fn address_type(&self, address: IpAddr, device: Option<&Device>) -> Answer<AddressType> {
        let owned = self
            .addresses
            .iter()
            .any(|(name, own)| *own == address && device.is_none_or(|device| device.name == *name));
        let special = match address {
            IpAddr::V4(v4) if v4.is_multicast() => Some(AddressType::Multicast),
            IpAddr::V4(v4) if v4.is_broadcast() => Some(AddressType::Broadcast),
            IpAddr::V4(v4) if v4.is_loopback() && device.is_none() => Some(AddressType::Local),
            IpAddr::V6(v6) if v6.is_multicast() => Some(AddressType::Multicast),
            IpAddr::V6(v6) if v6.is_loopback() && device.is_none() => Some(AddressType::Local),
            _ => None,
        };
        Answer::Is(if owned { AddressType::Local } else { special.unwrap_or(AddressType::Unicast) })
    }

    fn route_device(&self, _: IpAddr, _: u32, _: Option<&Device>) -> Answer<Device> {
        Answer::Unknown
    }

    fn masquerade_address(&self, device: &Device, destination: IpAddr) -> Answer<IpAddr> {
        self.primary_address(device, destination)
    }

    fn primary_address(&self, device: &Device, like: IpAddr) -> Answer<IpAddr> {
        self.addresses
            .iter()
            .find(|(name, own)| *name == device.name && own.is_ipv4() == like.is_ipv4())
            .map_or(Answer::None, |(_, own)| Answer::Is(*own))
    }
}
