//! `nat-missing`: it left with a source that its peer cannot answer, and masquerading that should apply does not.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Action, Decision, Fault, Leg, NearMiss, Role};
use crate::model::id::Device;
use crate::model::netfilter::{Backend, Hook};
use crate::model::snapshot::LinkKind;
use crate::predict::netfilter::nft_comment;
use std::net::IpAddr;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if let Decision::ForeignReply { src, port } = fault.loss.decision.as_ref()? {
        return hairpin(case, fault, *src, *port);
    }
    let owner = case.predicted.owner?;
    if fault.leg != Leg::Return || fault.underlay {
        return None;
    }
    let dst = match fault.loss.decision.as_ref()? {
        Decision::NoRoute { dst, .. } => *dst,
        Decision::NoOwner { gateway: true, .. } | Decision::NotForwarding { .. } | Decision::RouteKind { .. } => {
            fault.headers.dst?
        }
        Decision::NoOwner { gateway: false, address } => *address,
        _ => return None,
    };
    let asker = case.recording.question.netns;
    case.netns(asker).owns(dst)?;
    // A rule that rewrites sources, at a forwarder on the way, which this packet missed.
    let miss = case.predicted.near_misses.iter().find(|miss| {
        miss.leg == Leg::Forward
            && miss.hook == Hook::Postrouting
            && miss.netns != asker
            && miss.netns != owner.netns
            && miss.failed.len() == 1
    });
    let gateway = match miss {
        Some(miss) => Device::new(miss.netns, miss.output?),
        None => container_gateway(case, dst, owner)?,
    };
    let summary = match miss {
        Some(miss) => format!(
            "{} should rewrite the source {dst} on the way out by {}, but its rule does not match: {}",
            case.netns_name(miss.netns),
            case.name(gateway),
            miss.rule.text
        ),
        None => format!(
            "nothing rewrites the container's source {dst} as it leaves {} by {}, and {} can't answer to it",
            case.netns_name(gateway.netns),
            case.name(gateway),
            case.netns_name(owner.netns)
        ),
    };
    let mut finding = case.finding(fault, "nat-missing", summary);
    match miss {
        Some(miss) => {
            finding.evidence.push(case.state(
                miss.netns,
                &format!("rule in chain {}", miss.rule.chain),
                &miss.rule.text,
            ));
            finding.evidence.push(case.state(miss.netns, "the packet leaves by", &case.name(gateway)));
            if let Some((condition, actual)) = miss.failed.first() {
                finding.evidence.push(case.state(
                    miss.netns,
                    &format!("the rule wants {condition}; the packet has"),
                    actual,
                ));
            }
        }
        None => finding.evidence.push(case.state(gateway.netns, "source NAT for this packet", "no rule")),
    }
    finding.evidence.push(case.state(fault.loss.place.netns, &format!("route to {dst}"), "none that leads back"));
    finding.fixes.push(masquerade(case, gateway, dst, miss));
    Some(finding)
}

/// The destination was rewritten on the way and the source was not, and the answer goes straight to the asker: nobody
/// rewrites its source back.
fn hairpin(case: &Case<'_>, fault: &Fault, src: IpAddr, port: u16) -> Option<Finding> {
    let asked = case.recording.question.dst;
    let asker = fault.headers.dst?;
    let requests = case.predicted.with_role(Role::Request, Leg::Forward);
    let mut steps = requests.flat_map(|journey| journey.steps.iter().chain(&journey.beyond));
    let (netns, rule) = steps.find_map(|step| match &step.action {
        Action::Rewritten { from, to, rule, .. } if from.1 == asked && to.1 == src => Some((step.netns, rule.clone())),
        _ => None,
    })?;
    let gateway = case.forward_path().into_iter().rev().find(|device| device.netns == netns)?;
    let name = case.netns_name(netns);
    let summary = format!(
        "{name} rewrites the destination {asked} to {src} and leaves the source as it is, so the answer goes from {src} \
         straight to {asker}, which waits for one from {asked}"
    );
    let mut finding = case.finding(fault, "nat-missing", summary);
    if let Some(rule) = &rule {
        finding.evidence.push(case.state(netns, &format!("rule in chain {}", rule.chain), &rule.text));
    }
    finding.evidence.push(case.state(netns, "source NAT for this packet", "no rule"));
    let program = match (rule.map(|rule| rule.backend), src.is_ipv6()) {
        (Some(Backend::IptablesLegacy), false) => "iptables-legacy",
        (Some(Backend::IptablesLegacy), true) => "ip6tables-legacy",
        (_, true) => "ip6tables",
        (_, false) => "iptables",
    };
    let protocol = if case.recording.question.protocol_number() == 17 { "udp" } else { "tcp" };
    let out = case.name(gateway);
    let spec = format!("POSTROUTING -s {asker} -d {src} -o {out} -p {protocol} --dport {port} -j MASQUERADE");
    finding.fixes.push(fix(
        &format!("masquerade such packets as they leave {name} by {out}, so that the answer comes back through it"),
        Risk::ChangesPolicy,
        vec![case.cmd(netns, &format!("{program} -t nat -A {spec}"))],
        vec![case.cmd(netns, &format!("{program} -t nat -D {spec}"))],
        "put the rule beside the one that rewrites the destination",
    ));
    Some(finding)
}

/// The device by which a container network's packets leave its host: the host has the container's network on a bridge of
/// its own, and the packet leaves by another device that is no bridge.
fn container_gateway(case: &Case<'_>, source: IpAddr, owner: Device) -> Option<Device> {
    let private = match source {
        IpAddr::V4(source) => source.is_private() || source.is_shared_like(),
        IpAddr::V6(source) => source.is_unique_local(),
    };
    if !private {
        return None;
    }
    let path = case.forward_path();
    let host = case.snapshot().namespaces.iter().find(|netns| {
        netns.id != owner.netns
            && netns.id != case.recording.question.netns
            && netns.links.iter().any(|link| {
                matches!(link.kind, LinkKind::Bridge(_))
                    && netns.addresses_of(link.index).any(|entry| entry.net().is_some_and(|net| net.contains(&source)))
            })
    })?;
    path.into_iter().rev().find(|device| {
        device.netns == host.id
            && case.link(*device).is_some_and(|link| link.master.is_none() && !matches!(link.kind, LinkKind::Bridge(_)))
    })
}

/// Addresses that are no destination in the Internet.
trait SharedLike {
    /// 100.64.0.0/10, RFC 6598.
    fn is_shared_like(&self) -> bool;
}

impl SharedLike for std::net::Ipv4Addr {
    fn is_shared_like(&self) -> bool {
        let [a, b, ..] = self.octets();
        a == 100 && (64..128).contains(&b)
    }
}

/// A masquerading rule for the source's network, where the rule that missed stands, or in iptables' own chain.
fn masquerade(
    case: &Case<'_>,
    gateway: Device,
    source: IpAddr,
    miss: Option<&NearMiss>,
) -> crate::model::diagnosis::Fix {
    let netns = gateway.netns;
    let space = case.netns(netns);
    let out = case.name(gateway);
    let inside = space
        .addresses
        .iter()
        .filter(|entry| entry.ifindex != gateway.ifindex)
        .filter_map(crate::model::snapshot::Address::net)
        .find(|net| net.contains(&source));
    let net = inside.map_or_else(|| source.to_string(), |net| net.to_string());
    let family = if source.is_ipv6() { "ip6" } else { "ip" };
    let (add, del) = match miss.map(|miss| &miss.rule) {
        Some(rule) if rule.backend == Backend::Nft => {
            let chain = format!("{} {} {}", rule.family.word(), rule.table, rule.chain);
            let label = format!("masquerade {}", net.replace('/', " prefix "));
            let (comment, del) = nft_comment(&case.prefix(netns), &chain, &label);
            let rule = format!("oifname {out} {family} saddr {net} masquerade {comment}");
            (case.cmd(netns, &format!("nft add rule {chain} {rule}")), del)
        }
        other => {
            let program = match (other.map(|rule| rule.backend), source.is_ipv6()) {
                (Some(Backend::IptablesLegacy), false) => "iptables-legacy",
                (Some(Backend::IptablesLegacy), true) => "ip6tables-legacy",
                (_, true) => "ip6tables",
                (_, false) => "iptables",
            };
            let spec = format!("POSTROUTING -s {net} -o {out} -j MASQUERADE");
            let [add, del] = ["-A", "-D"].map(|what| case.cmd(netns, &format!("{program} -t nat {what} {spec}")));
            (add, del)
        }
    };
    fix(
        &format!("masquerade what leaves {out} from {net}"),
        Risk::ChangesPolicy,
        vec![add],
        vec![del],
        "the container engine or CNI plugin writes this rule: switch masquerading on there (Docker: com.docker.network.bridge.enable_ip_masquerade)",
    )
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_a_containers_source_leaks_out() {
        let found = World::container().found(check);
        assert!(found.at.starts_with('o'), "{}", found.at);
        assert_eq!(found.commands, ["iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE"]);
    }

    /// A client and a server on one link with a router that redirects its own port 8080 to the server.
    fn hairpin() -> World {
        World::switch()
            .forwarding("c", 1)
            .iptables("c", "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.0.0.3/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.2:80\nCOMMIT\n")
            .ask("a", "10.0.0.3")
            .connect(8080)
    }

    #[test]
    fn fires_when_the_answer_goes_past_the_translator() {
        let found = hairpin().found(check);
        assert_eq!(found.at, "a/eth0");
        let rule = "POSTROUTING -s 10.0.0.1 -d 10.0.0.2 -o eth0 -p tcp --dport 80 -j MASQUERADE";
        assert_eq!(found.commands, [format!("ip netns exec c iptables -t nat -A {rule}")]);
    }

    #[test]
    fn silent_when_the_source_is_rewritten_as_well() {
        let rules = "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.0.0.3/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.2:80\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n";
        assert!(
            World::switch().forwarding("c", 1).iptables("c", rules).ask("a", "10.0.0.3").connect(8080).is_silent(check)
        );
    }

    #[test]
    fn silent_when_it_is_masqueraded() {
        assert!(
            World::container()
                .iptables(
                    ".",
                    "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE\nCOMMIT\n"
                )
                .is_silent(check)
        );
    }

    #[test]
    fn silent_when_the_server_has_a_route_back() {
        assert!(World::container().route("o", "172.17.0.0/16 via 192.0.2.1").is_silent(check));
    }
}
