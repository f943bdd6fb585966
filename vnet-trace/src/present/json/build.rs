//! From the model to the document. Every choice of a word that scripts may match on is made here.

use serde_json::{Map, Value, json};

use super::{
    Asked, Document, Evidence, EvidenceKind, Fate, Finding, Fix, Gap, Hop, Icmp, Journey, Note, Origin, Ping,
    PingError, Place, Probe, Probes, Question, Rtt, Sight, Step, Timing, Tool,
};
use crate::model::diagnosis;
use crate::model::event::EventKind;
use crate::model::exchange::{self, Action};
use crate::model::frame::Direction;
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::question::{Iface, Protocol};
use crate::model::recording::{Recording, RouteResult};
use crate::present::names::Names;
use crate::present::way::Told;
use crate::present::{Report, detail, text, words};

/// The document for this answer.
pub fn document(report: Report<'_>, asked: Asked) -> Document {
    let recording = report.recording;
    let make = Make { recording, names: Names::of(recording) };
    let diagnosis = report.diagnosis;
    let (told, journeys) = match (asked, report.predicted) {
        (Asked::Predict, Some(predicted)) => (Told::Predicted, predicted.journeys.as_slice()),
        _ => report.journeys(),
    };
    Document {
        schema: 1,
        tool: tool(&recording.tool),
        question: make.question(asked),
        verdict: diagnosis.verdict,
        summary: text::sentence(report),
        primary: diagnosis.primary.as_ref().map(|finding| make.finding(finding)),
        also: diagnosis.also.iter().map(|finding| make.finding(finding)).collect(),
        proof: report.proof.map(crate::present::proof::json),
        notes: diagnosis.notes.iter().map(|note| make.note(note)).collect(),
        leads: diagnosis.leads.clone(),
        parting: diagnosis.parting.as_ref().map(|parting| super::Parting {
            role: parting.role,
            place: make.place(parting.place.netns, parting.place.device, None),
            summary: parting.text.clone(),
            suspects: parting.suspects.clone(),
        }),
        gaps: report
            .gaps()
            .into_iter()
            .map(|gap| Gap { what: gap.what.clone(), why: gap.why.clone(), help: gap.help.clone() })
            .collect(),
        journeys: journeys.iter().map(|journey| make.journey(told, journey)).collect(),
        ping: make.ping(),
        sight: make.sight(),
        timing_ms: Timing {
            ready: recording.timing.ready_us as f64 / 1000.0,
            verdict: recording.timing.verdict_us as f64 / 1000.0,
            total: recording.timing.total_us as f64 / 1000.0,
        },
    }
}

/// `vnet-trace 0.1.0` taken apart.
fn tool(text: &str) -> Tool {
    let (name, version) = text.split_once(' ').unwrap_or((text, ""));
    Tool { name: name.to_owned(), version: version.to_owned() }
}

#[derive(Clone, Copy)]
struct Make<'a> {
    recording: &'a Recording,
    names: Names<'a>,
}

impl Make<'_> {
    fn question(self, asked: Asked) -> Question {
        let question = &self.recording.question;
        let iface = question.iface.as_ref().map(|iface| match iface {
            Iface::Device(name) => name.clone(),
            Iface::Address(address) => address.to_string(),
        });
        Question {
            kind: asked,
            netns: self.names.netns(question.netns).to_owned(),
            dst: match &question.zone {
                Some(zone) => format!("{}%{zone}", question.dst),
                None => question.dst.to_string(),
            },
            iface,
            src: question.source().or(self.recording.ping.source).map(|source| source.to_string()),
            count: question.count,
            size: question.size,
            ttl: question.ttl,
            mark: (question.mark != 0).then_some(question.mark),
            proto: match question.protocol {
                Protocol::Echo => None,
                Protocol::Tcp { .. } => Some("tcp"),
                Protocol::Udp { .. } => Some("udp"),
            },
            port: question.port(),
            protocol: match question.protocol {
                Protocol::Echo => "echo".to_owned(),
                Protocol::Tcp { port, .. } => format!("tcp/{port}"),
                Protocol::Udp { port, .. } => format!("udp/{port}"),
            },
        }
    }

    fn place(self, netns: NetnsId, device: Option<IfIndex>, function: Option<&str>) -> Place {
        Place {
            netns: Some(self.names.netns(netns).to_owned()),
            dev: device.map(|index| self.names.device(netns, index)),
            ifindex: device.map(|index| index.0),
            function: function.map(str::to_owned),
        }
    }

    fn model_place(self, place: &exchange::Place) -> Place {
        self.place(place.netns, place.device, place.function.as_deref())
    }

    fn finding(self, finding: &diagnosis::Finding) -> Finding {
        Finding {
            code: finding.code.clone(),
            grade: finding.grade,
            role: finding.role,
            place: self.model_place(&finding.place),
            summary: finding.summary.clone(),
            evidence: finding.evidence.iter().map(|evidence| self.evidence(evidence)).collect(),
            fixes: finding
                .fixes
                .iter()
                .map(|fix| Fix {
                    title: fix.title.clone(),
                    risk: fix.risk,
                    commands: fix.commands.clone(),
                    undo: fix.undo.clone(),
                    persist: fix.persist.clone(),
                })
                .collect(),
            owner: finding.owner.clone(),
            provenance: finding
                .origins
                .iter()
                .map(|origin| Origin {
                    setting: origin.setting.clone(),
                    set_by: origin.set_by.clone().unwrap_or_else(|| "unknown".to_owned()),
                    file: origin.at.as_ref().map(|at| at.file.clone()),
                    line: origin.at.as_ref().map(|at| at.line).filter(|line| *line > 0),
                    returns: origin.returns.clone(),
                })
                .collect(),
        }
    }

    fn note(self, note: &diagnosis::Note) -> Note {
        Note {
            code: note.code.clone(),
            place: note.place.as_ref().map(|place| self.model_place(place)).unwrap_or_default(),
            summary: note.summary.clone(),
        }
    }

    /// Nanoseconds from the first request to this time.
    fn since(self, time: Nanos) -> i64 {
        time.0 as i64 - self.recording.ping.started.0 as i64
    }

    fn at(self, device: Device) -> Map<String, Value> {
        object(json!({
            "netns": self.names.netns(device.netns),
            "dev": self.names.device(device.netns, device.ifindex),
            "ifindex": device.ifindex.0,
        }))
    }

    fn evidence(self, evidence: &diagnosis::Evidence) -> Evidence {
        use diagnosis::Source;
        let (kind, details) = match &evidence.source {
            Source::Event(at) => (EvidenceKind::Event, self.event(*at)),
            Source::Frame(at) => (EvidenceKind::Frame, self.frame(*at)),
            Source::State { netns, what, value } => (
                EvidenceKind::State,
                object(json!({ "netns": self.names.netns(*netns), "what": what, "value": value })),
            ),
            Source::Counter { netns, what, by } => {
                (EvidenceKind::State, object(json!({ "netns": self.names.netns(*netns), "what": what, "rose_by": by })))
            }
            Source::Answer(at) => (EvidenceKind::KernelAnswer, self.answer(*at)),
            Source::PingError(at) => {
                let error = self.recording.ping.errors.get(*at);
                let kind = match error {
                    Some(error) if error.icmp.is_some() => EvidenceKind::Event,
                    _ => EvidenceKind::KernelAnswer,
                };
                let mut details = object(json!({ "error": at }));
                if let Some(error) = error {
                    details.insert("call".to_owned(), error.call.clone().into());
                    details.extend(error.errno.map(|errno| ("errno".to_owned(), errno.into())));
                }
                (kind, details)
            }
            Source::Absence(absence) => {
                let mut details = self.at(absence.device());
                details.insert("role".to_owned(), json!(absence.role()));
                (EvidenceKind::Absence, details)
            }
        };
        Evidence { kind, text: evidence.text.clone(), details }
    }

    fn event(self, at: usize) -> Map<String, Value> {
        let mut details = object(json!({ "event": at }));
        let Some(event) = self.recording.events.get(at) else { return details };
        details.insert("t_ns".to_owned(), self.since(event.time).into());
        if let Some(device) = event.device {
            details.extend(self.at(device));
        } else if let Some(netns) = event.netns {
            details.insert("netns".to_owned(), self.names.netns(netns).into());
        }
        let said = match &event.kind {
            EventKind::Drop { reason, location } => {
                json!({ "site": "kfree_skb", "reason": reason, "function": location })
            }
            EventKind::Consume { location } => json!({ "site": "consume_skb", "function": location }),
            EventKind::Return { function, value, meaning } => {
                json!({ "site": "return", "function": function, "value": value, "meaning": meaning })
            }
            EventKind::Enter { function } => json!({ "site": "entry", "function": function }),
            EventKind::FibLookup { table, src, dst, error, .. } => {
                json!({ "site": "fib_table_lookup", "table": table, "src": src, "dst": dst, "value": error })
            }
            EventKind::Netfilter { hook, verdict, .. } => {
                json!({ "site": "nf_hook_slow", "hook": hook, "value": verdict })
            }
            EventKind::Neigh { address, lladdr, state } => {
                json!({ "site": "neigh_update", "address": address, "lladdr": lladdr, "state": state })
            }
            EventKind::IcmpSend { kind, code } => json!({ "site": "icmp_send", "type": kind, "code": code }),
            EventKind::Queue => json!({ "site": "net_dev_queue" }),
            EventKind::Xmit => json!({ "site": "net_dev_start_xmit" }),
            EventKind::NetifRx => json!({ "site": "netif_rx" }),
            EventKind::Receive => json!({ "site": "netif_receive_skb" }),
            EventKind::Clone { .. } => json!({ "site": "skb_clone" }),
        };
        details.extend(object(said).into_iter().filter(|(_, value)| !value.is_null()));
        details
    }

    fn frame(self, at: usize) -> Map<String, Value> {
        let mut details = object(json!({ "frame": at }));
        let Some(frame) = self.recording.frames.get(at) else { return details };
        details.insert("t_ns".to_owned(), self.since(frame.time).into());
        details.extend(self.at(frame.device));
        let direction = match frame.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Unknown => "unknown",
        };
        details.insert("direction".to_owned(), direction.into());
        details.insert("len".to_owned(), frame.len.into());
        details
    }

    fn answer(self, at: usize) -> Map<String, Value> {
        let Some(asked) = self.recording.answers.get(at) else { return object(json!({ "answer": at })) };
        let mut details = object(json!({
            "answer": at,
            "netns": self.names.netns(asked.netns),
            "question": detail::question(self.names, asked),
            "said": detail::answer(self.names, asked),
        }));
        if let RouteResult::Errno(errno) = asked.answer {
            details.insert("errno".to_owned(), errno.into());
        }
        details
    }

    fn journey(self, told: Told, journey: &exchange::Journey) -> Journey {
        let headers = &journey.headers;
        let mut written = object(json!({
            "src": headers.src,
            "dst": headers.dst,
            "mac_src": headers.mac_src,
            "mac_dst": headers.mac_dst,
            "ttl": headers.ttl,
            "id": headers.id,
        }));
        if headers.len > 0 {
            written.insert("len".to_owned(), headers.len.into());
        }
        Journey {
            role: journey.role,
            told,
            leg: journey.leg,
            seq: journey.seq,
            headers: written.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            fate: self.fate(&journey.fate),
            hops: journey.hops().iter().map(|hop| self.hop(hop)).collect(),
            copies: journey.copies.iter().map(|copy| self.journey(told, copy)).collect(),
        }
    }

    fn fate(self, fate: &exchange::Fate) -> Fate {
        match fate {
            exchange::Fate::Delivered { netns, device } => {
                Fate { kind: "delivered", place: self.place(*netns, *device, None) }
            }
            exchange::Fate::Lost(loss) => Fate { kind: "lost", place: self.model_place(&loss.place) },
            exchange::Fate::OutOfSight { last } => {
                Fate { kind: "out-of-sight", place: self.place(last.netns, Some(last.ifindex), None) }
            }
            exchange::Fate::Cut { netns, device } => Fate { kind: "cut", place: self.place(*netns, *device, None) },
        }
    }

    fn hop(self, hop: &exchange::Hop<'_>) -> Hop {
        let device = |index: Option<IfIndex>| index.map(|index| self.names.device(hop.netns, index));
        Hop {
            netns: self.names.netns(hop.netns).to_owned(),
            ingress: device(hop.ingress),
            egress: device(hop.egress),
            steps: hop.steps.iter().map(|step| self.step(step)).collect(),
        }
    }

    fn step(self, step: &exchange::Step) -> Step {
        let (action, site) = action(&step.action);
        Step {
            t_ns: step.time.map(|time| self.since(time)),
            site,
            action,
            dev: step.device.map(|index| self.names.device(step.netns, index)),
            text: words::phrase(self.names, self.recording, step),
        }
    }

    fn ping(self) -> Ping {
        let ping = &self.recording.ping;
        Ping {
            sent: ping.sent,
            received: ping.received,
            rtt_ms: text::rtt(ping).map(|(min, avg, max)| Rtt { min, avg, max }),
            errors: ping
                .errors
                .iter()
                .map(|error| PingError {
                    seq: error.seq,
                    call: error.call.clone(),
                    errno: error.errno,
                    icmp: error.icmp.map(|(kind, code)| Icmp { kind, code }),
                    offender: error.offender.map(|address| address.to_string()),
                    text: error.text.clone(),
                })
                .collect(),
            cut_short: ping.cut_short,
        }
    }

    fn sight(self) -> Sight {
        let sight = &self.recording.sight;
        Sight {
            tier: sight.tier,
            probes: Probes {
                attached: sight.probes.iter().filter(|probe| probe.tier.is_some()).count(),
                unavailable: sight
                    .probes
                    .iter()
                    .filter(|probe| probe.tier.is_none())
                    .map(|probe| Probe {
                        name: probe.name.clone(),
                        why: probe.why.clone().unwrap_or_default(),
                        blind: probe.blind.clone(),
                    })
                    .collect(),
            },
            events: sight.events,
            events_lost: sight.events_lost,
            captured: sight
                .captured
                .iter()
                .map(|device| {
                    format!("{}/{}", self.names.netns(device.netns), self.names.device(device.netns, device.ifindex))
                })
                .collect(),
            frames_lost: sight.frames_lost,
        }
    }
}

/// The word for an action, and where in the kernel it happens.
fn action(action: &Action) -> (&'static str, String) {
    let (word, site) = match action {
        Action::Sent => ("sent", "socket"),
        Action::Routed { .. } => ("routed", "fib_table_lookup"),
        Action::SourceChecked => ("source-checked", "fib_validate_source"),
        Action::Hook { hook, .. } => return ("passed", format!("netfilter {}", hook.word())),
        Action::Rewritten { .. } => ("rewritten", "nf_nat"),
        Action::NeighbourKnown { .. } => ("neighbour-known", "neighbour"),
        Action::NeighbourAsked { .. } => ("neighbour-asked", "neighbour"),
        Action::Queued => ("queued", "net_dev_queue"),
        Action::Transmitted => ("transmitted", "transmit"),
        Action::Received => ("received", "receive"),
        Action::BridgeForwarded { flooded: true, .. } => ("flooded", "bridge"),
        Action::BridgeForwarded { flooded: false, .. } => ("bridged", "bridge"),
        Action::BridgeLocal { .. } => ("bridge-local", "bridge"),
        Action::Encapsulated { .. } => ("encapsulated", "tunnel"),
        Action::Decapsulated => ("decapsulated", "tunnel"),
        Action::Forwarded => ("forwarded", "ip_forward"),
        Action::Delivered => ("delivered", "deliver"),
        Action::Opaque(_) => ("opaque", "program"),
        Action::Seen { site, .. } => return ("seen", site.clone()),
        Action::Dropped { location, .. } => {
            return ("dropped", location.clone().unwrap_or_else(|| "kfree_skb".to_owned()));
        }
        Action::Consumed { location } => {
            return ("consumed", location.clone().unwrap_or_else(|| "consume_skb".to_owned()));
        }
    };
    (word, site.to_owned())
}

/// The members of a JSON object; none if it is no object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
