//! Commands that are understood, and all the ways in which one can reach beyond the network.

use super::*;
use crate::model::snapshot::{Link, Netns};
use crate::rebuild::scope::Scope;

fn snapshot() -> Snapshot {
    let link = |index: u32, name: &str| Link {
        index: crate::model::id::IfIndex(index),
        name: name.to_owned(),
        ..Link::default()
    };
    let own = Netns { links: vec![link(1, "lo"), link(2, "veth0"), link(3, "br0")], ..Netns::default() };
    let far = Netns {
        id: NetnsId(1),
        name: "far".to_owned(),
        path: Some("/run/netns/far".to_owned()),
        named: true,
        links: vec![link(1, "lo"), link(5, "eth0"), link(6, "$(id)")],
        ..Netns::default()
    };
    let odd = Netns { id: NetnsId(2), name: "a;b".to_owned(), named: true, ..Netns::default() };
    Snapshot { namespaces: vec![own, far, odd], ..Snapshot::default() }
}

fn translate(commands: &[&str]) -> Result<Vec<String>, Refusal> {
    let snapshot = snapshot();
    let names = Names::of(&snapshot, &Scope::everything(&snapshot));
    let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
    Translator::new(&snapshot, &names).all(&commands)
}

#[test]
fn what_fixes_are_made_of_is_understood() {
    for command in [
        "ip link set veth0 up",
        "ip link set dev veth0 mtu 1500",
        "ip -n far link set eth0 up",
        "ip link set veth0 netns far",
        "ip -n far addr add 10.0.0.2/24 dev eth0 nodad",
        "ip -6 route add default via fe80::1 dev veth0",
        "ip rule del priority 100 from 10.0.0.0/8 blackhole",
        "ip xfrm policy del src 10.0.0.1/32 dst 10.0.0.2/32 dir out",
        "ip neigh flush to 10.0.0.2 dev veth0 nud all",
        "ip link set dev veth0 xdpgeneric off",
        "ip netns exec far sysctl -w net.ipv4.conf.eth0.rp_filter=2",
        "bridge vlan add dev br0 vid 20 pvid untagged self",
        "bridge fdb append 00:00:00:00:00:00 dev veth0 dst 10.0.0.9",
        "tc filter del dev veth0 ingress pref 49152",
        "tc qdisc del dev veth0 root",
        "nft insert rule inet f input ip saddr 10.0.0.1 icmp type echo-request counter accept comment '\"vnet-trace: icmp\"'",
        "iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE",
        "ip6tables-legacy -t filter -I INPUT 1 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT",
        "ebtables -t filter -I FORWARD 1 -p ARP --arp-op 1 -j ACCEPT",
        "ovs-ofctl --strict del-flows ovs-br table=0,priority=100,icmp",
        "ovs-vsctl set port p1 tag=10",
        "ovs-vsctl add-port ovs-br veth0",
    ] {
        assert_eq!(translate(&[command]), Ok(vec![command.to_owned()]));
    }
}

#[test]
fn a_namespace_is_called_as_it_is_here() {
    assert_eq!(
        translate(&["nsenter --net=/run/netns/far ip link set eth0 up"]),
        Ok(vec!["ip netns exec far ip link set eth0 up".to_owned()])
    );
    assert_eq!(
        translate(&["ip netns exec 'a;b' sysctl -w net.ipv4.ip_forward=1"]),
        Ok(vec!["ip netns exec a-b sysctl -w net.ipv4.ip_forward=1".to_owned()])
    );
}

#[test]
fn what_earlier_commands_make_may_be_named() {
    let made = [
        "ip netns add next",
        "ip link add to-next type veth peer name uplink",
        "ip link set uplink netns next",
        "ip -n next link set uplink up",
        "ip link set to-next master br0",
        "ip link set dev veth0 netns next",
        "ip -n next addr add 10.0.0.1/24 dev veth0",
    ];
    assert_eq!(translate(&made).map(|lines| lines.len()), Ok(made.len()));
}

#[test]
fn what_the_shell_would_do_more_with_is_refused() {
    for command in [
        "ip link set veth0 up; reboot",
        "ip link set veth0 up && reboot",
        "ip link set veth0 up | sh",
        "ip link set $(reboot) up",
        "ip link set `reboot` up",
        "ip link set \"$(reboot)\" up",
        "ip link set \"`reboot`\" up",
        "ip link set veth0 up > /etc/passwd",
        "ip link set veth0 up\nreboot",
        "ip link set veth{0,1} up",
        "ip link set veth* up",
        "ip link set 'veth0 up",
        "",
    ] {
        assert!(matches!(translate(&[command]), Err(Refusal::Shell { .. })), "{command}");
    }
}

#[test]
fn other_programs_are_refused() {
    for command in [
        "reboot",
        "sh -c reboot",
        "/sbin/ip link set veth0 up",
        "./ip link set veth0 up",
        "env ip link set veth0 up",
        "A=1 ip link set veth0 up",
        "ip netns exec far sh -c reboot",
        "ip netns exec far ip netns exec far reboot",
        "nsenter --net=/run/netns/far reboot",
        "nsenter -t 1 -n ip link set veth0 up",
    ] {
        assert!(matches!(translate(&[command]), Err(Refusal::Program { .. })), "{command}");
    }
}

#[test]
fn namespaces_and_devices_outside_are_refused() {
    for command in [
        "ip netns exec other ip link set eth0 up",
        "ip -n other link set eth0 up",
        "ip -n ../far link set eth0 up",
        "ip link set veth0 netns 1",
        "ip link set veth0 netns other",
        "nsenter --net=/proc/1/ns/net ip link set veth0 up",
    ] {
        let refusal = translate(&[command]);
        assert!(matches!(refusal, Err(Refusal::Netns { .. } | Refusal::Argument { .. })), "{command}: {refusal:?}");
    }
    for command in [
        "ip link set ens3 down",
        "ip link del ens3",
        "ip addr add 10.0.0.1/24 dev ens3",
        "ip -n far addr add 10.0.0.1/24 dev veth0",
        "ip link set veth0 master docker0",
        "tc qdisc del dev ens3 root",
        "bridge link set dev ens3 isolated off",
    ] {
        assert!(matches!(translate(&[command]), Err(Refusal::Device { .. })), "{command}");
    }
}

#[test]
fn arguments_that_reach_beyond_the_network_are_refused() {
    for command in [
        "ip -batch x",
        "ip -b x",
        "ip netn exec far reboot",
        "ip -n far netns exec far reboot",
        "ip netns delete far",
        "ip netns add /tmp/x",
        "ip vrf exec red reboot",
        "ip lin set veth0 up",
        "ip link set dev veth0 xdp obj x.o",
        "ip link set dev veth0 xdp o x.o",
        "ip link set dev veth0 xdp pinned x",
        "ip route add 10.0.0.0/8 encap bpf in obj x.o dev veth0",
        "ip route restore",
        "tc exec bpf import x",
        "tc filter add dev veth0 ingress bpf da obj x.o",
        "tc -b x",
        "sysctl -p",
        "sysctl -p x",
        "sysctl --system",
        "sysctl -w kernel.core_pattern=x",
        "sysctl -w net.core.bpf_jit_enable=0",
        "sysctl -w net/../kernel/panic=1",
        "sysctl -w 'net.ipv4.ip_forward=1;reboot'",
        "nft -f x",
        "nft -cf x",
        "nft -D a=b add table ip x",
        "nft add table ip x ';' include '\"x\"'",
        "nft add table ip 'x ; include \"x\"'",
        "nft flush ruleset",
        "iptables --modprobe=x -A INPUT -j ACCEPT",
        "iptables --modp x -A INPUT -j ACCEPT",
        "iptables -M x -A INPUT -j ACCEPT",
        "iptables -nM x -L",
        "iptables -A INPUT -m bpf --object-pinned /x -j ACCEPT",
        "ebtables --atomic-file x --atomic-init",
        "ovs-vsctl --db=tcp:10.0.0.1:6640 del-br ovs-br",
        "ovs-vsctl set-manager ptcp:6640",
        "ovs-vsctl set Open_vSwitch . other_config:x=y",
        "ovs-vsctl add-port ovs-br veth0 -- emer-reset",
        "ovs-ofctl add-flow tcp:10.0.0.1:6653 actions=drop",
        "ovs-ofctl add-flow unix:x actions=drop",
        "ovs-ofctl add-flows ovs-br x",
        "ovs-ofctl replace-flows ovs-br x",
    ] {
        assert!(
            matches!(translate(&[command]), Err(Refusal::Argument { .. })),
            "{command}: {:?}",
            translate(&[command])
        );
    }
}

#[test]
fn hostile_names_stay_words() {
    // A device may be called so; quoted, it is a name like any other.
    assert_eq!(translate(&["ip -n far link set '$(id)' up"]), Ok(vec!["ip -n far link set '$(id)' up".to_owned()]));
    let rule = "nft insert rule inet 'a;b' input ip saddr 10.0.0.1 accept comment '\"$(reboot); `id`\"'";
    assert_eq!(translate(&[rule]), Ok(vec![rule.to_owned()]));
}

#[test]
fn what_has_to_be_chosen_is_not_guessed() {
    let command = "ip route add 10.0.0.0/8 via GATEWAY";
    assert_eq!(translate(&[command]), Err(Refusal::Choice { command: command.to_owned() }));
}
