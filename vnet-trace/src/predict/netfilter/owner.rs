//! Whose chain it is, by its name: the programs that manage rules name their chains in their own way.

/// A program that manages rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The program.
    pub name: &'static str,
    /// What it uses chains of this name for.
    pub purpose: &'static str,
    /// What makes it set its rules anew.
    pub restored_by: &'static str,
}

/// The owner of a chain, from its name and its table's. None: an admin's own, or nobody's that we know.
pub fn owner_of(table: &str, chain: &str) -> Option<Owner> {
    TABLES
        .iter()
        .find(|(name, ..)| *name == table)
        .or_else(|| CHAINS.iter().find(|(name, ..)| matches(name, chain)))
        .map(|(_, name, purpose, restored_by)| Owner { name, purpose, restored_by })
}

fn matches(pattern: &str, chain: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => chain.starts_with(start),
        None => chain == pattern,
    }
}

type Entry = (&'static str, &'static str, &'static str, &'static str);

const DOCKER: &str = "a restart of dockerd, or a new container or network";
const KUBE_PROXY: &str = "kube-proxy, within seconds";
const CALICO: &str = "Calico's Felix, within its refresh interval";
const LIBVIRT: &str = "a restart of libvirt's network";
const FIREWALLD: &str = "firewall-cmd --reload";
const UFW: &str = "ufw reload";
const NETAVARK: &str = "the start of a container on that network";

/// nftables tables that belong to one program whole.
const TABLES: &[Entry] = &[
    ("firewalld", "firewalld", "zones and policies", FIREWALLD),
    ("kube-proxy", "kube-proxy", "services", KUBE_PROXY),
    ("kube-router", "kube-router", "services and network policies", "kube-router"),
    ("calico", "Calico", "network policy", CALICO),
    ("docker-bridges", "Docker", "networks, isolation between them and published ports", DOCKER),
    ("netavark", "Podman (netavark)", "networks and published ports", NETAVARK),
    ("libvirt_network", "libvirt", "virtual networks", LIBVIRT),
    ("inet-filter-fail2ban", "fail2ban", "bans", "fail2ban"),
    ("f2b-table", "fail2ban", "bans", "fail2ban"),
    ("incus", "Incus", "networks", "a restart of Incus's network"),
    ("lxd", "LXD", "networks", "a restart of LXD's network"),
    ("lxc", "lxc-net", "the lxcbr0 network", "a restart of lxc-net"),
    ("flannel-ipv4", "flannel", "pod traffic", "flannel, within seconds"),
    ("flannel-ipv6", "flannel", "pod traffic", "flannel, within seconds"),
    ("tailscale", "Tailscale", "its subnet routes", "a restart of tailscaled"),
    ("mullvad", "Mullvad VPN", "its kill switch", "the VPN's next connection"),
];

/// Chains by name; `*` stands for any ending. Longer names before shorter ones.
const CHAINS: &[Entry] = &[
    ("DOCKER-USER", "Docker", "rules of your own, which Docker leaves alone", "nobody: it is yours"),
    // What drops in the first stage belongs to networks made with --internal; the others are kept apart in the second.
    ("DOCKER-ISOLATION-STAGE-1", "Docker", "keeps an internal network closed, by design", DOCKER),
    (
        "DOCKER-ISOLATION-STAGE*",
        "Docker",
        "keeps its networks apart, by design: connect both containers to one network",
        DOCKER,
    ),
    ("DOCKER-INGRESS", "Docker", "the ingress network of a swarm", DOCKER),
    ("DOCKER-BRIDGE", "Docker", "leads to each network's own rules", DOCKER),
    ("DOCKER-CT", "Docker", "replies to containers", DOCKER),
    ("DOCKER-INTERNAL", "Docker", "keeps internal networks closed, by design", DOCKER),
    ("DOCKER-FORWARD", "Docker", "traffic of its networks", DOCKER),
    ("DOCKER", "Docker", "published ports", DOCKER),
    ("DOCKER*", "Docker", "its networks", DOCKER),
    (
        "KUBE-FIREWALL",
        "kubelet",
        "drops marked packets, and replies to localhost from outside",
        "kubelet, within seconds",
    ),
    ("KUBE-MARK-*", "kube-proxy", "marks for masquerade or drop", KUBE_PROXY),
    ("KUBE-POSTROUTING", "kube-proxy", "masquerades marked packets", KUBE_PROXY),
    ("KUBE-SERVICES", "kube-proxy", "service addresses", KUBE_PROXY),
    ("KUBE-SVC-*", "kube-proxy", "one service: chooses an endpoint", KUBE_PROXY),
    ("KUBE-SEP-*", "kube-proxy", "one endpoint of a service", KUBE_PROXY),
    ("KUBE-EXT-*", "kube-proxy", "a service reached from outside", KUBE_PROXY),
    ("KUBE-FW-*", "kube-proxy", "a load balancer's source ranges", KUBE_PROXY),
    ("KUBE-NODEPORTS", "kube-proxy", "node ports", KUBE_PROXY),
    ("KUBE-FORWARD", "kube-proxy", "lets service traffic through", KUBE_PROXY),
    ("KUBE-ROUTER-*", "kube-router", "network policy", "kube-router"),
    ("KUBE-NWPLCY-*", "kube-router", "one network policy", "kube-router"),
    ("KUBE-POD-FW-*", "kube-router", "one pod's policies", "kube-router"),
    ("KUBE-*", "Kubernetes", "services", KUBE_PROXY),
    ("cali-pi-*", "Calico", "one policy, towards the workload", CALICO),
    ("cali-po-*", "Calico", "one policy, from the workload", CALICO),
    ("cali-tw-*", "Calico", "traffic to one workload", CALICO),
    ("cali-fw-*", "Calico", "traffic from one workload", CALICO),
    ("cali-*", "Calico", "network policy", CALICO),
    ("cali:*", "Calico", "network policy", CALICO),
    ("FLANNEL-FWD", "flannel", "lets pod traffic through", "flannel, within seconds"),
    ("FLANNEL-POSTRTG", "flannel", "masquerades pod traffic that leaves the cluster", "flannel, within seconds"),
    ("FLANNEL*", "flannel", "pod traffic", "flannel, within seconds"),
    ("CILIUM_*", "Cilium", "pod traffic", "the Cilium agent"),
    ("OLD_CILIUM_*", "Cilium", "pod traffic, being replaced", "the Cilium agent"),
    ("WEAVE-*", "Weave Net", "pod traffic and network policy", "Weave Net"),
    ("ANTREA-*", "Antrea", "pod traffic", "the Antrea agent"),
    ("CNI-HOSTPORT-*", "the CNI portmap plugin", "published ports", "the start of a pod with published ports"),
    ("CNI-DN-*", "the CNI portmap plugin", "one pod's published ports", "the start of that pod"),
    ("CNI-SN-*", "the CNI portmap plugin", "one pod's published ports", "the start of that pod"),
    ("CNI-FORWARD", "the CNI firewall plugin", "lets pods' traffic through", "the start of a pod"),
    ("CNI-ADMIN", "the CNI firewall plugin", "rules of your own", "nobody: it is yours"),
    ("CNI-ISOLATION-STAGE*", "the CNI firewall plugin", "keeps networks apart", "the start of a pod"),
    ("CNI-*", "a CNI plugin", "one pod's masquerade", "the start of that pod"),
    ("NETAVARK_ISOLATION*", "Podman (netavark)", "keeps isolated networks apart", NETAVARK),
    ("NETAVARK-ISOLATION*", "Podman (netavark)", "keeps isolated networks apart", NETAVARK),
    ("NETAVARK_FORWARD", "Podman (netavark)", "lets containers' traffic through", NETAVARK),
    ("NETAVARK_INPUT", "Podman (netavark)", "lets containers reach their name server", NETAVARK),
    ("NETAVARK*", "Podman (netavark)", "networks and published ports", NETAVARK),
    ("LIBVIRT_FW*", "libvirt", "traffic of virtual networks", LIBVIRT),
    ("LIBVIRT_PRT", "libvirt", "masquerades virtual networks", LIBVIRT),
    ("LIBVIRT_*", "libvirt", "virtual networks", LIBVIRT),
    ("libvirt-*", "libvirt", "network filters of virtual machines", LIBVIRT),
    ("FWDI_*", "firewalld", "a zone, forwarded in", FIREWALLD),
    ("FWDO_*", "firewalld", "a zone, forwarded out", FIREWALLD),
    ("FORWARD_IN_ZONES*", "firewalld", "sends packets to the zone they come from", FIREWALLD),
    ("FORWARD_OUT_ZONES*", "firewalld", "sends packets to the zone they go to", FIREWALLD),
    ("FORWARD_direct", "firewalld", "direct rules", FIREWALLD),
    ("INPUT_ZONES*", "firewalld", "sends packets to the zone they come from", FIREWALLD),
    ("INPUT_direct", "firewalld", "direct rules", FIREWALLD),
    ("IN_*", "firewalld", "a zone", FIREWALLD),
    ("PRE_*", "firewalld", "a zone, before routing", FIREWALLD),
    ("POST_*", "firewalld", "a zone, after routing", FIREWALLD),
    ("ufw-user-*", "ufw", "rules that you set with ufw", UFW),
    ("ufw6-user-*", "ufw", "rules that you set with ufw", UFW),
    ("ufw-before-*", "ufw", "its own rules before yours (/etc/ufw/before.rules)", UFW),
    ("ufw-after-*", "ufw", "its own rules after yours (/etc/ufw/after.rules)", UFW),
    ("ufw-*", "ufw", "its own rules", UFW),
    ("ufw6-*", "ufw", "its own rules", UFW),
    ("f2b-*", "fail2ban", "bans", "fail2ban"),
    ("fail2ban-*", "fail2ban", "bans", "fail2ban"),
    ("ts-*", "Tailscale", "its subnet routes", "a restart of tailscaled"),
    ("ISTIO_*", "Istio", "sends a pod's traffic to its proxy", "the start of the pod"),
    ("CATTLE_*", "Rancher", "host ports", "Rancher's agent"),
    ("SHOREWALL*", "Shorewall", "its policy", "shorewall reload"),
    ("neutron-*", "OpenStack Neutron", "security groups and routers", "Neutron's agent"),
    ("nova-*", "OpenStack Nova", "instances", "Nova"),
];
