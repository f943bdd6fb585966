//! Answers made by hand, for the tests of everything that is printed.

use std::net::IpAddr;
use std::sync::Arc;

use super::Report;
use crate::model::diagnosis::{Diagnosis, Evidence, Finding, Fix, Grade, Note, Risk, Source, Verdict};
use crate::model::event::{Event, EventKind};
use crate::model::evidence::Absence;
use crate::model::exchange::{Action, Decision, Exchange, Fate, Headers, Journey, Leg, Loss, Place, Role, Step};
use crate::model::id::{Device, IfIndex, MacAddr, Nanos, NetnsId};
use crate::model::netfilter::{Backend, Family, RuleRef};
use crate::model::question::{Iface, Question};
use crate::model::recording::{PingOutcome, Recording, RouteAnswer, RouteResult, Timing};
use crate::model::sight::{Gap, ProbeSight, Sight, Tier};
use crate::model::snapshot::{Link, LinkKind, Netns, Snapshot};

pub struct Sample {
    pub name: &'static str,
    pub recording: Recording,
    pub observed: Exchange,
    pub predicted: Option<Exchange>,
    pub diagnosis: Diagnosis,
}

impl Sample {
    pub fn report(&self) -> Report<'_> {
        Report {
            recording: &self.recording,
            observed: &self.observed,
            predicted: self.predicted.as_ref(),
            diagnosis: &self.diagnosis,
            proof: None,
        }
    }
}

pub fn all() -> Vec<Sample> {
    vec![martian(), delivered(), undecided(), no_route()]
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn netns(id: u32, name: &str, devices: &[(u32, &str)]) -> Netns {
    Netns {
        id: NetnsId(id),
        inode: 4_026_531_840 + u64::from(id),
        name: name.to_owned(),
        named: name != ".",
        links: devices
            .iter()
            .map(|(index, name)| Link {
                index: IfIndex(*index),
                name: (*name).to_owned(),
                kind: LinkKind::Veth,
                ..Link::default()
            })
            .collect(),
        ..Netns::default()
    }
}

fn recording(namespaces: Vec<Netns>, dst: &str, asker: u32) -> Recording {
    let question = Question { count: 2, icmp_id: 77, ..Question::echo(NetnsId(asker), ip(dst)) };
    Recording {
        tool: "vnet-trace 0.1.0".to_owned(),
        kernel: "6.12.107".to_owned(),
        ping: PingOutcome {
            sent: 2,
            started: Nanos(1_000_000_000),
            ended: Nanos(1_350_000_000),
            ..PingOutcome::default()
        },
        sight: Sight {
            tier: Tier::Fentry,
            probes: vec![
                ProbeSight {
                    name: "drop".to_owned(),
                    tier: Some(Tier::Tracepoint),
                    target: Some("tp_btf/kfree_skb".to_owned()),
                    why: None,
                    blind: "drops and their reasons".to_owned(),
                },
                ProbeSight {
                    name: "macvlan".to_owned(),
                    tier: None,
                    target: None,
                    why: Some("macvlan is not loaded".to_owned()),
                    blind: "which macvlan took a frame".to_owned(),
                },
            ],
            events: 12,
            ..Sight::default()
        },
        timing: Timing { ready_us: 61_000, verdict_us: 402_500, total_us: 431_000, ..Timing::default() },
        ..Recording::of(question, Snapshot { namespaces, ..Snapshot::default() })
    }
}

fn step(us: u64, netns: u32, device: Option<u32>, action: Action) -> Step {
    let time = Some(Nanos(1_000_000_000 + us * 1000));
    Step { time, netns: NetnsId(netns), device: device.map(IfIndex), action, sources: Vec::new() }
}

fn journey(role: Role, leg: Leg, headers: Headers, steps: Vec<Step>, fate: Fate) -> Journey {
    Journey { role, leg, seq: Some(1), headers, steps, copies: Vec::new(), fate, beyond: Vec::new() }
}

fn addresses(src: &str, dst: &str) -> Headers {
    Headers { src: Some(ip(src)), dst: Some(ip(dst)), len: 84, ttl: Some(64), id: Some(77), ..Headers::default() }
}

/// Both ends of a veth pair in one namespace: the ARP request is refused without a word.
pub fn martian() -> Sample {
    let veth1 = Device::new(NetnsId(0), IfIndex(3));
    let mut recording = recording(vec![netns(0, ".", &[(1, "lo"), (2, "veth0"), (3, "veth1")])], "10.1.1.12", 0);
    recording.question.iface = Some(Iface::Device("veth0".to_owned()));
    recording.ping.source = Some(ip("10.1.1.11"));
    recording.ping.cut_short = true;
    recording.events.push(Event {
        time: Nanos(1_000_031_000),
        cpu: 1,
        skb: None,
        head: None,
        device: Some(veth1),
        netns: None,
        mac: None,
        bytes: Arc::default(),
        len: 28,
        pkt_type: 1,
        mark: 0,
        kind: EventKind::Return {
            function: "fib_validate_source".to_owned(),
            value: -22,
            meaning: Some("EINVAL".to_owned()),
        },
    });
    recording.answers.push(RouteAnswer {
        netns: NetnsId(0),
        dst: ip("10.1.1.12"),
        src: Some(ip("10.1.1.11")),
        iif: Some(IfIndex(3)),
        oif: None,
        mark: 0,
        answer: RouteResult::Errno(22),
    });
    let place = Place::at(veth1, "fib_validate_source");
    let request = Journey {
        seq: None,
        ..journey(
            Role::ArpRequest,
            Leg::Forward,
            Headers {
                src: Some(ip("10.1.1.11")),
                dst: Some(ip("10.1.1.12")),
                mac_src: Some(mac(1)),
                mac_dst: Some(MacAddr::BROADCAST),
                ..Headers::default()
            },
            vec![
                step(12, 0, Some(2), Action::Queued),
                step(14, 0, Some(2), Action::Transmitted),
                step(25, 0, Some(3), Action::Received),
                step(
                    31,
                    0,
                    Some(3),
                    Action::Seen { site: "fib_validate_source".to_owned(), note: "returned -22 (EINVAL)".to_owned() },
                ),
                step(33, 0, Some(3), Action::Consumed { location: Some("arp_process".to_owned()) }),
            ],
            Fate::Lost(Loss {
                place: place.clone(),
                decision: Some(Decision::LocalSource { src: ip("10.1.1.11") }),
                certain: true,
            }),
        )
    };
    let finding = Finding {
        code: "martian-local-source".to_owned(),
        grade: Grade::Witnessed,
        role: Role::ArpRequest,
        place,
        summary: "veth1 refuses the ARP request: its sender 10.1.1.11 is an address of the same namespace".to_owned(),
        evidence: vec![
            Evidence {
                source: Source::Event(0),
                text: "fib_validate_source returned -22 (EINVAL) for 10.1.1.11 arriving at veth1".to_owned(),
            },
            Evidence {
                source: Source::Answer(0),
                text: "asked for the way of such a packet, the kernel refuses it: EINVAL".to_owned(),
            },
            Evidence {
                source: Source::State {
                    netns: NetnsId(0),
                    what: "sysctl net.ipv4.conf.veth1.accept_local".to_owned(),
                    value: "0".to_owned(),
                },
                text: "net.ipv4.conf.veth1.accept_local is 0, so packets from own addresses are refused".to_owned(),
            },
        ],
        fixes: vec![
            Fix {
                title: "accept packets from own addresses on veth1".to_owned(),
                risk: Risk::Safe,
                commands: vec![
                    "sysctl -w net.ipv4.conf.veth1.accept_local=1".to_owned(),
                    "sysctl -w net.ipv4.conf.veth0.accept_local=1".to_owned(),
                ],
                undo: vec![
                    "sysctl -w net.ipv4.conf.veth1.accept_local=0".to_owned(),
                    "sysctl -w net.ipv4.conf.veth0.accept_local=0".to_owned(),
                ],
                persist: "write both lines into /etc/sysctl.d/90-vnet.conf".to_owned(),
            },
            Fix {
                title: "move veth1 into a namespace of its own".to_owned(),
                risk: Risk::NeedsChoice,
                commands: vec!["ip netns add ns1 && ip link set veth1 netns ns1".to_owned()],
                undo: Vec::new(),
                persist: String::new(),
            },
        ],
        owner: None,
        origins: Vec::new(),
    };
    Sample {
        name: "martian",
        observed: Exchange { journeys: vec![request], ..Exchange::default() },
        predicted: None,
        diagnosis: Diagnosis {
            verdict: Verdict::Lost,
            primary: Some(finding),
            also: Vec::new(),
            notes: vec![Note {
                code: "loopback-reply".to_owned(),
                place: None,
                summary: "once this works, the reply will go over lo and will not be seen on veth1".to_owned(),
            }],
            gaps: Vec::new(),
            leads: Vec::new(),
            parting: None,
        },
        recording,
    }
}

/// A client, a gateway that masquerades, a server: all is well.
pub fn delivered() -> Sample {
    let namespaces = vec![
        netns(0, ".", &[(1, "lo")]),
        netns(1, "client", &[(2, "eth0")]),
        netns(2, "gw", &[(2, "lan0"), (3, "wan0")]),
        netns(3, "server", &[(2, "eth0")]),
    ];
    let mut recording = recording(namespaces, "203.0.113.9", 1);
    recording.ping.received = 2;
    recording.ping.source = Some(ip("10.0.0.2"));
    recording.ping.rtt_us = vec![(1, 81), (2, 63)];
    recording.ping.ended = Nanos(2_001_000_000);
    let masquerade = RuleRef {
        backend: Backend::Nft,
        family: Family::Ip,
        table: "nat".to_owned(),
        chain: "post".to_owned(),
        position: Some(1),
        handle: Some(4),
        text: "oifname \"wan0\" masquerade".to_owned(),
        policy: false,
    };
    let arp = |src: &str, dst: &str| Headers {
        src: Some(ip(src)),
        dst: Some(ip(dst)),
        mac_src: Some(mac(1)),
        ..Headers::default()
    };
    let to = |netns: u32, device: u32| Fate::Delivered { netns: NetnsId(netns), device: Some(IfIndex(device)) };
    let journeys = vec![
        journey(
            Role::ArpRequest,
            Leg::Forward,
            arp("10.0.0.2", "10.0.0.1"),
            vec![step(2, 1, Some(2), Action::Transmitted), step(4, 2, Some(2), Action::Received)],
            to(2, 2),
        ),
        journey(
            Role::ArpReply,
            Leg::Forward,
            Headers { mac_src: Some(mac(9)), ..arp("10.0.0.1", "10.0.0.2") },
            vec![step(7, 2, Some(2), Action::Transmitted), step(9, 1, Some(2), Action::Received)],
            to(1, 2),
        ),
        journey(
            Role::Request,
            Leg::Forward,
            addresses("10.0.0.2", "203.0.113.9"),
            vec![
                step(0, 1, None, Action::Sent),
                step(
                    1,
                    1,
                    None,
                    Action::Routed { table: 254, oif: Some(IfIndex(2)), gateway: Some(ip("10.0.0.1")), local: false },
                ),
                step(11, 1, Some(2), Action::Transmitted),
                step(13, 2, Some(2), Action::Received),
                step(14, 2, Some(2), Action::SourceChecked),
                step(15, 2, None, Action::Routed { table: 254, oif: Some(IfIndex(3)), gateway: None, local: false }),
                step(16, 2, Some(3), Action::Forwarded),
                step(
                    18,
                    2,
                    Some(3),
                    Action::Rewritten {
                        from: (ip("10.0.0.2"), ip("203.0.113.9")),
                        to: (ip("203.0.113.1"), ip("203.0.113.9")),
                        ports: None,
                        rule: Some(masquerade),
                    },
                ),
                step(20, 2, Some(3), Action::Transmitted),
                step(22, 3, Some(2), Action::Received),
                step(24, 3, Some(2), Action::Delivered),
            ],
            to(3, 2),
        ),
        journey(
            Role::Reply,
            Leg::Return,
            addresses("203.0.113.9", "203.0.113.1"),
            vec![
                step(26, 3, Some(2), Action::Transmitted),
                step(28, 2, Some(3), Action::Received),
                step(
                    29,
                    2,
                    Some(3),
                    Action::Rewritten {
                        from: (ip("203.0.113.9"), ip("203.0.113.1")),
                        to: (ip("203.0.113.9"), ip("10.0.0.2")),
                        ports: None,
                        rule: None,
                    },
                ),
                step(30, 2, Some(2), Action::Forwarded),
                step(31, 2, Some(2), Action::Transmitted),
                step(33, 1, Some(2), Action::Received),
                step(35, 1, Some(2), Action::Delivered),
            ],
            to(1, 2),
        ),
    ];
    Sample {
        name: "delivered",
        recording,
        observed: Exchange { journeys, ..Exchange::default() },
        predicted: None,
        diagnosis: Diagnosis {
            verdict: Verdict::Delivered,
            primary: None,
            also: Vec::new(),
            notes: vec![Note {
                code: "nat-rewritten".to_owned(),
                place: Some(Place::at(Device::new(NetnsId(2), IfIndex(3)), "postrouting")),
                summary: "gw rewrites the source 10.0.0.2 to 203.0.113.1 as the packet leaves by wan0".to_owned(),
            }],
            gaps: Vec::new(),
            leads: Vec::new(),
            parting: None,
        },
    }
}

/// Capture only, and a program of which nobody knows what it does.
pub fn undecided() -> Sample {
    let namespaces =
        vec![netns(0, ".", &[(1, "lo")]), netns(1, "ns1", &[(2, "eth0")]), netns(2, "ns2", &[(2, "eth0")])];
    let mut recording = recording(namespaces, "fd00::2", 1);
    recording.sight = Sight {
        tier: Tier::Capture,
        captured: vec![Device::new(NetnsId(1), IfIndex(2)), Device::new(NetnsId(2), IfIndex(2))],
        gaps: vec![Gap {
            what: "what the kernel did to the packets".to_owned(),
            why: "no probe could be loaded: operation not permitted".to_owned(),
            help: "run it as root, or with CAP_BPF and CAP_PERFMON".to_owned(),
        }],
        ..Sight::default()
    };
    let absence = Absence::of(Role::Reply, Device::new(NetnsId(2), IfIndex(2)), &recording.sight);
    assert!(absence.is_some());
    let request = journey(
        Role::Request,
        Leg::Forward,
        addresses("fd00::1", "fd00::2"),
        vec![step(11, 1, Some(2), Action::Transmitted), step(13, 2, Some(2), Action::Received)],
        Fate::Cut { netns: NetnsId(2), device: Some(IfIndex(2)) },
    );
    Sample {
        name: "undecided",
        recording,
        observed: Exchange { journeys: vec![request], ..Exchange::default() },
        predicted: None,
        diagnosis: Diagnosis {
            verdict: Verdict::Undecided,
            primary: None,
            also: Vec::new(),
            notes: Vec::new(),
            gaps: Vec::new(),
            leads: vec![
                "the request arrived at eth0 in ns2, and no reply left ns2".to_owned(),
                "excluded: firewall rules of ns2, its route back, icmpv6.echo_ignore_all".to_owned(),
                "next: look at ns2 with probes, which need root".to_owned(),
            ],
            parting: None,
        },
    }
}

/// No packet was ever made; a second fault waits behind the first.
pub fn no_route() -> Sample {
    let namespaces = vec![netns(0, ".", &[(1, "lo")]), netns(1, "ns1", &[(2, "veth\u{1b}[2J")])];
    let mut recording = recording(namespaces, "10.0.2.2", 1);
    recording.ping.sent = 0;
    recording.ping.errors = vec![crate::model::recording::PingError {
        seq: None,
        call: "connect".to_owned(),
        errno: Some(101),
        icmp: None,
        offender: None,
        text: "connect: Network is unreachable".to_owned(),
    }];
    let place = Place { netns: NetnsId(1), device: None, function: Some("fib_table_lookup".to_owned()) };
    let later = Place::at(Device::new(NetnsId(1), IfIndex(2)), "__dev_queue_xmit");
    let finding = |code: &str, place: Place, summary: &str, command: &str| Finding {
        code: code.to_owned(),
        grade: Grade::Deduced,
        role: Role::Request,
        place,
        summary: summary.to_owned(),
        evidence: vec![Evidence {
            source: Source::PingError(0),
            text: "connect(2) failed with ENETUNREACH".to_owned(),
        }],
        fixes: vec![Fix {
            title: "give ns1 a default route".to_owned(),
            risk: Risk::NeedsChoice,
            commands: vec![command.to_owned()],
            undo: Vec::new(),
            persist: String::new(),
        }],
        owner: Some("NetworkManager".to_owned()),
        origins: Vec::new(),
    };
    Sample {
        name: "no-route",
        recording,
        observed: Exchange::default(),
        predicted: None,
        diagnosis: Diagnosis {
            verdict: Verdict::Lost,
            primary: Some(finding(
                "no-route",
                place,
                "ns1 has no route to 10.0.2.2, so no packet is ever made",
                "ip -n ns1 route add default via 10.0.1.1",
            )),
            also: vec![finding("link-down", later, "veth\u{1b}[2J in ns1 is down", "ip -n ns1 link set veth1 up")],
            notes: Vec::new(),
            gaps: Vec::new(),
            leads: Vec::new(),
            parting: None,
        },
    }
}
