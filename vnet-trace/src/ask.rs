//! One question from beginning to end: look at the machine, attach the probes, ask, look again, judge.
//!
//! [`run`] does it all on this machine. [`judge`] does the second half for a recording, from this machine or another.
//! What to ask comes as [`PingOptions`], which `cli::ping` fills from the command line; what comes out is an [`Answer`],
//! which `present` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::collect::connect::Caller;
use crate::collect::kernel::{self, AttachError, KernelRecord, ProbeConfig, Probes};
use crate::collect::netns::{self, NetnsError, run_in};
use crate::collect::pcap::{Capture, Filter, Target};
use crate::collect::ping::{Asker, Control, Family, Manner, OpenError, ResolveError, resolve};
use crate::collect::snapshot::{self, SnapshotError, Taken};
use crate::collect::{clock, ovs, route_get};
use crate::correlate::correlate;
use crate::diagnose::case::Case;
use crate::diagnose::diagnose;
use crate::model::diagnosis::{Diagnosis, Grade};
use crate::model::exchange::{Action, Exchange};
use crate::model::id::{Device, NetnsId};
use crate::model::proof::Proof;
use crate::model::question::{Iface, PmtuDiscovery, Protocol, Question};
use crate::model::recording::{PingOutcome, Recording, Timing};
use crate::model::sight::{Gap, Sight, Tier};
use crate::model::snapshot::{LinkKind, Snapshot};
use crate::packet::identity::Key;
use crate::predict::as_seen::as_seen;
use crate::predict::{Prediction, predict};
use crate::present::Report;
use crate::rebuild::redact::Redaction;
use crate::rebuild::redact::recording::RedactError;
use crate::reconstruct::reconstruct;

mod decide;
mod foretell;
mod strangers;
mod vanished;

pub use foretell::{Foretelling, Survey, foretell, foretell_recorded, survey};

/// What to ask and how. The words and meanings are those of ping(8).
#[derive(Debug, Clone, PartialEq)]
pub struct PingOptions {
    /// `-N`, `--netns`: where it is asked.
    pub netns: netns::Asked,
    /// An address, an address with a zone, or a name, as typed.
    pub destination: String,
    /// `-4`, `-6`.
    pub family: Family,
    /// `-I`.
    pub iface: Option<Iface>,
    /// `-c`: echo requests to send, at least 1.
    pub count: u32,
    /// `-i`: milliseconds between requests.
    pub interval_ms: u64,
    /// `-W`: milliseconds to wait for a reply.
    pub timeout_ms: u64,
    /// `-s`: bytes of payload.
    pub size: u16,
    /// `-t`: TTL or hop limit.
    pub ttl: Option<u8>,
    /// `-Q`: type of service or traffic class.
    pub tos: u8,
    /// `-m`: fwmark.
    pub mark: u32,
    /// `-M`: path MTU discovery.
    pub pmtu: PmtuDiscovery,
    /// `-w`, `-B`, `-b`.
    pub manner: Manner,
    /// `--patient`.
    pub patience: Patience,
    /// Hidden `--tier`: the best tier that may be used, for tests.
    pub tier: Option<Tier>,
}

/// When to stop waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patience {
    /// As soon as the evidence is decisive.
    #[default]
    Decisive,
    /// As ping does (`--patient`).
    AsPing,
}

/// A question with all that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was recorded.
    pub recording: Recording,
    /// The packets' way as it was seen.
    pub observed: Exchange,
    /// The packets' way as the configuration has it.
    pub predicted: Option<Exchange>,
    /// What it means.
    pub diagnosis: Diagnosis,
    /// What was shown about the fix, if that was asked for.
    pub proof: Option<Proof>,
}

impl Answer {
    /// What `present` prints.
    pub fn report(&self) -> Report<'_> {
        Report {
            recording: &self.recording,
            observed: &self.observed,
            predicted: self.predicted.as_ref(),
            diagnosis: &self.diagnosis,
            proof: self.proof.as_ref(),
        }
    }
}

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The asked namespace can't be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The destination is no address and no name.
    #[error(transparent)]
    Destination(#[from] ResolveError),
    /// The machine can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// `-I` names a device that the asked namespace does not have.
    #[error("no device {name} in netns {netns}")]
    NoDevice {
        /// As typed.
        name: String,
        /// Where.
        netns: String,
        /// What there is.
        known: Vec<String>,
    },
    /// `-I` is an address of the other family than the destination.
    #[error("{source_address} and {destination} are of different address families")]
    Family {
        /// As typed.
        source_address: IpAddr,
        /// As resolved.
        destination: IpAddr,
    },
    /// The recording knows no such thing.
    #[error("the recording does not know {what} {name}")]
    NotRecorded {
        /// What kind of thing.
        what: &'static str,
        /// As typed.
        name: String,
        /// What it knows instead.
        known: Vec<String>,
    },
    /// No socket to ask with.
    #[error(transparent)]
    Socket(#[from] OpenError),
}

impl AskError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Netns(NetnsError::Container(error)) => Some(error.help().to_owned()),
            Self::Netns(_) => Some(
                "`ip netns list` shows the names; a PID or a path such as /proc/42/ns/net will do as well".to_owned(),
            ),
            Self::Destination(_) => {
                Some("give an address, or a name that the asked namespace can resolve (`getent hosts NAME`)".to_owned())
            }
            Self::Snapshot(_) => Some("run as root, or see `vnet-trace doctor`".to_owned()),
            Self::NoDevice { known, .. } => Some(format!("devices there: {}", known.join(", "))),
            Self::NotRecorded { known, .. } if known.is_empty() => {
                Some("give an address: names can't be resolved in a recording".to_owned())
            }
            Self::NotRecorded { known, .. } => Some(format!("namespaces there: {}", known.join(", "))),
            Self::Family { .. } => Some("give an address of the destination's family with -I, or a device".to_owned()),
            Self::Socket(_) => Some("run as root, or see `vnet-trace doctor`".to_owned()),
        }
    }
}

/// Addresses whose resolution is watched at the most: what the probes' map has room for.
const MOST_ADDRESSES: usize = 1024;

/// Devices that are listened on at the most: those on the predicted way come first.
const MOST_CAPTURED: usize = 48;

/// Who asks: with echo requests, or with connections or datagrams.
enum Sender {
    Echo(Asker),
    Port(Caller),
}

impl Sender {
    /// Has to be called in the asked namespace.
    fn open(question: &Question, manner: Manner) -> Result<Self, OpenError> {
        match question.protocol {
            Protocol::Echo => Asker::open(question, manner).map(Self::Echo),
            Protocol::Tcp { .. } | Protocol::Udp { .. } => Caller::open(question, manner).map(Self::Port),
        }
    }

    /// Writes down what only the sockets know: the identifier and the source port.
    fn complete(&self, question: &mut Question) {
        match self {
            Self::Echo(asker) => question.icmp_id = asker.icmp_id(),
            Self::Port(caller) => (question.icmp_id, question.protocol) = (caller.icmp_id(), caller.protocol()),
        }
    }

    fn run(self, control: &mut dyn Control) -> PingOutcome {
        match self {
            Self::Echo(asker) => asker.run(control),
            Self::Port(caller) => caller.run(control),
        }
    }
}

/// Pings on this machine.
pub fn run(options: &PingOptions) -> Result<Answer, AskError> {
    ask(options, Protocol::Echo)
}

/// Connects to a port on this machine.
pub fn connect(asked: &Foretelling) -> Result<Answer, AskError> {
    ask(&asked.options, asked.protocol)
}

fn ask(options: &PingOptions, protocol: Protocol) -> Result<Answer, AskError> {
    let begun = Instant::now();
    let place = options.netns.located()?;
    let handle = place.open()?;
    // Loading the probes takes about as long as reading the machine, and neither needs the other.
    let config = ProbeConfig {
        tier: options.tier,
        netns: Some(vec![handle.inode() as u32]),
        transport: transport(protocol),
        family: family(options),
        ..ProbeConfig::default()
    };
    let loading = std::thread::Builder::new().name("probes".to_owned()).spawn(move || kernel::attach(&config));
    let resolved = run_in(&handle, || resolve(&options.destination, options.family))??;
    let mut addresses = vec![resolved.address];
    if let Some(Iface::Address(source)) = options.iface {
        if source.is_ipv4() != resolved.address.is_ipv4() {
            return Err(AskError::Family { source_address: source, destination: resolved.address });
        }
        addresses.push(source);
    }
    let request = snapshot::Request { asked: place, addresses, protocol, ..snapshot::Request::default() };
    let mut taken = snapshot::take(&request)?;
    let mut question = Question {
        netns: taken.asked,
        dst: resolved.address,
        iface: options.iface.clone(),
        zone: resolved.zone,
        count: options.count,
        interval_ms: options.interval_ms,
        timeout_ms: options.timeout_ms,
        size: options.size,
        ttl: options.ttl,
        tos: options.tos,
        mark: options.mark,
        pmtu: options.pmtu,
        icmp_id: 0,
        protocol,
    };
    check_device(&question, &taken.snapshot)?;
    let sender = run_in(&handle, || Sender::open(&question, options.manner))??;
    sender.complete(&mut question);
    let mut sight = Sight::default();
    let prediction = predicted(&question, &mut taken, &mut sight.gaps);
    let targets = targets(&taken, &question, &prediction.exchange);
    let wake = decide::Wake::new();
    let key = Key::of(&question, &taken.snapshot).with_addresses(interesting(
        &taken.snapshot,
        &question,
        &prediction.exchange,
    ));
    let notify = wake.notifier();
    let capture = match Capture::start(&targets, &filter(&taken.snapshot, question.protocol), key, notify) {
        Ok((capture, gaps)) => {
            sight.gaps.extend(gaps);
            sight.captured = capture.devices().to_vec();
            Some(capture)
        }
        Err(error) => {
            sight.gaps.push(Gap {
                what: "captured frames".to_owned(),
                why: error.to_string(),
                help: "capturing needs CAP_NET_RAW in each namespace".to_owned(),
            });
            None
        }
    };
    let probes = match loading.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(mut probes))) => match watch(&mut probes, &taken.snapshot, &question, &prediction.exchange) {
            Ok(()) => Some(probes),
            Err(error) => {
                sight.gaps.push(no_probes(&error.to_string()));
                None
            }
        },
        Ok(Ok(Err(error))) => {
            sight.gaps.push(no_probes(&error.to_string()));
            None
        }
        _ => {
            sight.gaps.push(no_probes("the thread that loads them could not run"));
            None
        }
    };
    if let Some(probes) = &probes {
        sight.tier = probes.tier();
        sight.probes = probes.reports().iter().map(kernel::decode::sight).collect();
    }
    let ready = begun.elapsed();
    let mut recording = Recording {
        tool: concat!("vnet-trace ", env!("CARGO_PKG_VERSION")).to_owned(),
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        sight,
        ..Recording::of(question, taken.snapshot.clone())
    };
    // What would be said if this were all: nothing more has to be waited for once it is more than a suspicion.
    let decisive = |ping: &PingOutcome, records: &[KernelRecord]| {
        let mut frames = capture.as_ref().map(|capture| capture.frames(0)).unwrap_or_default();
        frames.sort_by_key(|frame| frame.time);
        let mut so_far = Recording { frames, ping: ping.clone(), ..recording.clone() };
        enter(&mut so_far, records, &mut |_| None);
        judge(so_far).diagnosis.primary.is_some_and(|finding| finding.grade < Grade::Suspected)
    };
    let mut control =
        decide::Decider::new(options.patience, &recording.question, &prediction.exchange, wake, probes, &decisive);
    let ping = sender.run(&mut control);
    let verdict = begun.elapsed();
    let (records, probes) = control.finish();
    recording.ping = ping;
    if let Some(mut probes) = probes {
        recording.sight.events_lost = probes.lost();
        enter(&mut recording, &records, &mut |address| probes.symbol(address));
        recording.sight.events = recording.events.len() as u64;
        probes.detach();
    }
    if let Some(capture) = capture {
        let captured = capture.stop();
        recording.frames = captured.frames;
        recording.sight.frames_lost = captured.lost;
        recording.sight.gaps.extend(captured.gaps);
    }
    recording.after = taken.again().ok();
    let vanished =
        recording.after.as_ref().and_then(|after| vanished::gap(&recording.before, after, &prediction.exchange));
    recording.sight.gaps.extend(vanished);
    let answers = route_get::ask(&taken, &lookups(&recording.question, &prediction.exchange));
    recording.sight.gaps.extend(answers.gaps);
    recording.answers = answers.answers.into_iter().flatten().collect();
    recording.timing = Timing {
        ready_us: ready.as_micros() as u64,
        verdict_us: verdict.as_micros() as u64,
        total_us: begun.elapsed().as_micros() as u64,
        realtime_offset_ns: clock::realtime_offset(),
    };
    Ok(judge(recording))
}

/// Enters what the probes saw, with the namespaces that only they know.
fn enter(recording: &mut Recording, records: &[KernelRecord], symbol: &mut dyn FnMut(u64) -> Option<Arc<str>>) {
    let strangers = strangers::found(&recording.before, records);
    recording.before.namespaces.extend(strangers);
    let by_inode: BTreeMap<u32, NetnsId> =
        recording.before.namespaces.iter().map(|netns| (netns.inode as u32, netns.id)).collect();
    let mut names = kernel::decode::Names { netns: &|inode| by_inode.get(&inode).copied(), symbol };
    recording.events = records.iter().map(|record| kernel::decode::event(record, &mut names)).collect();
}

/// The same answer with other names, addresses and payload, for anybody to read.
pub fn redacted(answer: Answer) -> Result<Answer, RedactError> {
    let recording = answer.recording;
    let mut redaction = Redaction::of(&recording.before);
    if let Some(after) = &recording.after {
        redaction.learn(after);
    }
    Ok(judge(redaction.recording(recording)?))
}

/// Times that switches are asked: what one answers may lead to the next.
const ROUNDS: usize = 3;

/// What the configuration would do, with the word of the switches that the packets come through.
fn predicted(question: &Question, taken: &mut Taken, gaps: &mut Vec<Gap>) -> Prediction {
    let mut prediction = predict(question, &taken.snapshot);
    for _ in 0..ROUNDS {
        if prediction.switched.is_empty() {
            break;
        }
        let known = |snapshot: &Snapshot| snapshot.ovs.iter().map(|bridge| bridge.traces.len()).sum::<usize>();
        let before = known(&taken.snapshot);
        gaps.extend(ovs::ask(&mut taken.snapshot.ovs, &prediction.switched));
        if known(&taken.snapshot) == before {
            break;
        }
        prediction = predict(question, &taken.snapshot);
    }
    prediction
}

/// The address family, as far as the command line tells it: the probes are loaded before a name is looked up.
fn family(options: &PingOptions) -> Option<kernel::Family> {
    let of = |is_ipv4| if is_ipv4 { kernel::Family::Ipv4 } else { kernel::Family::Ipv6 };
    let literal = options.destination.parse::<IpAddr>().ok().map(|address| of(address.is_ipv4()));
    literal.or(match options.family {
        Family::V4 => Some(kernel::Family::Ipv4),
        Family::V6 => Some(kernel::Family::Ipv6),
        Family::Any => None,
    })
}

/// Judges a recording.
pub fn judge(recording: Recording) -> Answer {
    let observed = reconstruct(&correlate(&recording), &recording);
    // What was seen tells which of several next hops the kernel took.
    let seen = as_seen(&recording.before, &observed).map(|before| Recording { before, ..recording.clone() });
    let known = seen.as_ref().unwrap_or(&recording);
    let prediction = predict(&known.question, &known.before);
    let diagnosis = diagnose(&Case {
        recording: known,
        observed: &observed,
        predicted: &prediction.exchange,
        refusals: &prediction.refused,
    });
    Answer { recording, observed, predicted: Some(prediction.exchange), diagnosis, proof: None }
}

/// Tells the probes what belongs to the question.
fn watch(
    probes: &mut Probes,
    snapshot: &Snapshot,
    question: &Question,
    predicted: &Exchange,
) -> Result<(), AttachError> {
    for netns in &snapshot.namespaces {
        probes.watch_netns(netns.inode as u32)?;
    }
    for address in interesting(snapshot, question, predicted).into_iter().take(MOST_ADDRESSES) {
        probes.watch_address(address)?;
    }
    match question.protocol {
        Protocol::Echo => probes.watch_identifier(question.icmp_id),
        Protocol::Tcp { sport, .. } | Protocol::Udp { sport, .. } => probes.watch_port(sport),
    }
}

/// The protocol number of what is not asked with echoes.
fn transport(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Echo => 0,
        Protocol::Tcp { .. } => 6,
        Protocol::Udp { .. } => 17,
    }
}

fn no_probes(why: &str) -> Gap {
    Gap {
        what: "what the kernel says about the packets (drop reasons, return values)".to_owned(),
        why: why.to_owned(),
        help: "run as root, or see `vnet-trace doctor`".to_owned(),
    }
}

fn check_device(question: &Question, snapshot: &Snapshot) -> Result<(), AskError> {
    let Some(netns) = snapshot.netns(question.netns) else { return Ok(()) };
    match question.device() {
        Some(name) if netns.link_by_name(name).is_none() => Err(AskError::NoDevice {
            name: name.to_owned(),
            netns: netns.name.clone(),
            known: netns.links.iter().map(|link| link.name.clone()).collect(),
        }),
        _ => Ok(()),
    }
}

/// The devices to listen on: those of the predicted way, then their neighbours, then everything else in reach.
fn targets(taken: &Taken, question: &Question, predicted: &Exchange) -> Vec<Target> {
    let snapshot = &taken.snapshot;
    let mut wanted: Vec<Device> = Vec::new();
    let mut want = |device: Device| {
        if !wanted.contains(&device) {
            wanted.push(device);
        }
    };
    for step in predicted.journeys.iter().flat_map(|journey| &journey.steps) {
        if let Some(ifindex) = step.device {
            want(Device::new(step.netns, ifindex));
        }
    }
    for fault in &predicted.faults {
        fault.loss.place.device().into_iter().for_each(&mut want);
    }
    for (device, link) in snapshot.devices() {
        if device.netns == question.netns || link.is_up() && !link.is_loopback() {
            want(device);
        }
    }
    wanted
        .into_iter()
        .take(MOST_CAPTURED)
        .filter_map(|device| {
            let link = snapshot.link(device)?;
            Some(Target {
                device,
                name: link.name.clone(),
                netns: taken.handle(device.netns)?.clone(),
                netns_name: snapshot.netns_name(device.netns).to_owned(),
                loopback: link.is_loopback(),
                up: link.is_up(),
            })
        })
        .collect()
}

fn filter(snapshot: &Snapshot, protocol: Protocol) -> Filter {
    let any = |wanted: fn(&LinkKind) -> bool| snapshot.devices().any(|(_, link)| wanted(&link.kind));
    Filter {
        protocol,
        udp_tunnels: any(|kind| matches!(kind, LinkKind::Vxlan(_) | LinkKind::Geneve { .. })),
        ip_tunnels: any(|kind| matches!(kind, LinkKind::Tunnel { .. })),
    }
}

/// Addresses whose resolution may belong to the exchange: the destination, what it is rewritten to on its way, and every
/// address and next hop in sight.
fn interesting(snapshot: &Snapshot, question: &Question, predicted: &Exchange) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::from([question.dst]);
    addresses.extend(question.source());
    addresses
        .extend(predicted.journeys.iter().flat_map(|journey| [journey.headers.src, journey.headers.dst]).flatten());
    for netns in &snapshot.namespaces {
        addresses.extend(netns.addresses.iter().map(|entry| entry.address));
        addresses.extend(netns.routes.iter().flat_map(|route| &route.nexthops).filter_map(|hop| hop.gateway));
    }
    addresses
}

/// What the kernel is asked about routes: at every host of the predicted way, in both directions.
fn lookups(question: &Question, predicted: &Exchange) -> Vec<route_get::RouteLookup> {
    let mut lookups: Vec<route_get::RouteLookup> = Vec::new();
    for journey in &predicted.journeys {
        let (Some(src), Some(dst)) = (journey.headers.src, journey.headers.dst) else { continue };
        let mut seen: BTreeSet<(NetnsId, Device)> = BTreeSet::new();
        for step in &journey.steps {
            let Some(ifindex) = step.device.filter(|_| matches!(step.action, Action::Received)) else { continue };
            let device = Device::new(step.netns, ifindex);
            if seen.insert((step.netns, device)) && lookups.len() < 64 {
                lookups.push(route_get::RouteLookup {
                    src: Some(src),
                    iif: Some(ifindex),
                    ..route_get::RouteLookup::to(step.netns, dst)
                });
            }
        }
    }
    lookups.push(route_get::RouteLookup {
        src: question.source(),
        mark: question.mark,
        ..route_get::RouteLookup::to(question.netns, question.dst)
    });
    lookups
}
