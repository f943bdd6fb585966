//! The question that is not sent: look at the machine, or into a recording, and say what would happen.
//!
//! The answer is of the same type as an asked one. Its recording has the configuration, the question and the kernel's
//! answers to route look-ups, and nothing else; whoever judges it sees by that that nobody asked.

use std::net::IpAddr;

use super::{Answer, AskError, PingOptions, check_device, judge, lookups, predicted};
use crate::collect::netns::{Asked, run_in};
use crate::collect::ping::{Family, Resolved, resolve};
use crate::collect::snapshot::{Depth, Reach};
use crate::collect::{route_get, snapshot};
use crate::model::exchange::Exchange;
use crate::model::id::NetnsId;
use crate::model::question::{Iface, Protocol, Question};
use crate::model::recording::{Recording, Timing};
use crate::model::sight::Sight;
use crate::model::snapshot::Snapshot;

/// What to foretell.
#[derive(Debug, Clone, PartialEq)]
pub struct Foretelling {
    /// The question, in ping's words.
    pub options: PingOptions,
    /// `--tcp`, `--udp`, or an echo.
    pub protocol: Protocol,
}

/// Foretells on this machine. Nothing is sent.
pub fn foretell(asked: &Foretelling) -> Result<Answer, AskError> {
    let begun = std::time::Instant::now();
    let options = &asked.options;
    let place = options.netns.located()?;
    let handle = place.open()?;
    let resolved = run_in(&handle, || resolve(&options.destination, options.family))??;
    let mut addresses = vec![resolved.address];
    addresses.extend(source(options));
    let request =
        snapshot::Request { asked: place, addresses, protocol: asked.protocol, ..snapshot::Request::default() };
    let mut taken = snapshot::take(&request)?;
    let ready_us = begun.elapsed().as_micros() as u64;
    let question = question(asked, taken.asked, resolved, &taken.snapshot)?;
    let mut unasked = Vec::new();
    let prediction = predicted(&question, &mut taken, &mut unasked);
    let answers = route_get::ask(&taken, &lookups(&question, &prediction.exchange));
    let recording = Recording {
        answers: answers.answers.into_iter().flatten().collect(),
        sight: Sight { gaps: unasked.into_iter().chain(answers.gaps).collect(), ..Sight::default() },
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        ..bare(question, taken.snapshot)
    };
    let mut answer = judge(recording);
    // Ready is when the machine has been read; what follows is the prediction and its judgement.
    let total_us = begun.elapsed().as_micros() as u64;
    answer.recording.timing = Timing { ready_us, verdict_us: total_us, total_us, realtime_offset_ns: 0 };
    Ok(answer)
}

/// The whole machine, and the way of one question through it.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Every namespace that can be found.
    pub snapshot: Snapshot,
    /// The question's destination and what would happen to its packets.
    pub way: Option<(IpAddr, Exchange)>,
}

/// Looks at the whole machine. Nothing is sent. Without a question only the wiring is read.
pub fn survey(place: &Asked, asked: Option<&Foretelling>) -> Result<Survey, AskError> {
    let place = place.located()?;
    let mut request = snapshot::Request {
        asked: place.clone(),
        reach: Reach::Everything,
        depth: Depth::Wiring,
        ..Default::default()
    };
    let Some(asked) = asked else {
        return Ok(Survey { snapshot: snapshot::take(&request)?.snapshot, way: None });
    };
    let resolved = run_in(&place.open()?, || resolve(&asked.options.destination, asked.options.family))??;
    request.depth = Depth::Full;
    request.addresses = std::iter::once(resolved.address).chain(source(&asked.options)).collect();
    request.protocol = asked.protocol;
    let mut taken = snapshot::take(&request)?;
    let question = question(asked, taken.asked, resolved, &taken.snapshot)?;
    let exchange = predicted(&question, &mut taken, &mut Vec::new()).exchange;
    Ok(Survey { way: Some((question.dst, exchange)), snapshot: taken.snapshot })
}

/// Foretells in the world of a recording: its own question without `asked`, else another one. Needs no machine and no rights.
pub fn foretell_recorded(recording: Recording, asked: Option<&Foretelling>) -> Result<Answer, AskError> {
    let question = match asked {
        None => recording.question,
        Some(asked) => {
            let netns = place(&asked.options.netns, &recording)?;
            let literal = literal(&asked.options.destination, asked.options.family)?;
            question(asked, netns, literal, &recording.before)?
        }
    };
    let kernel = recording.kernel;
    Ok(judge(Recording { kernel, ..bare(question, recording.before) }))
}

fn bare(question: Question, before: Snapshot) -> Recording {
    let tool = concat!("vnet-trace ", env!("CARGO_PKG_VERSION")).to_owned();
    Recording { tool, ..Recording::of(question, before) }
}

fn source(options: &PingOptions) -> Option<IpAddr> {
    match options.iface {
        Some(Iface::Address(address)) => Some(address),
        _ => None,
    }
}

fn question(asked: &Foretelling, netns: NetnsId, to: Resolved, snapshot: &Snapshot) -> Result<Question, AskError> {
    let options = &asked.options;
    if let Some(source) = source(options)
        && source.is_ipv4() != to.address.is_ipv4()
    {
        return Err(AskError::Family { source_address: source, destination: to.address });
    }
    let question = Question {
        netns,
        dst: to.address,
        iface: options.iface.clone(),
        zone: to.zone,
        count: options.count,
        interval_ms: options.interval_ms,
        timeout_ms: options.timeout_ms,
        size: options.size,
        ttl: options.ttl,
        tos: options.tos,
        mark: options.mark,
        pmtu: options.pmtu,
        icmp_id: 0,
        protocol: asked.protocol,
    };
    check_device(&question, snapshot)?;
    Ok(question)
}

/// A name can't be resolved in a world that is only a file.
fn literal(text: &str, family: Family) -> Result<Resolved, AskError> {
    let host = text.split_once('%').map_or(text, |(host, _)| host);
    if host.parse::<IpAddr>().is_err() {
        return Err(AskError::NotRecorded { what: "the address of", name: text.to_owned(), known: Vec::new() });
    }
    Ok(resolve(text, family)?)
}

/// The namespace of a recording that a person means.
fn place(asked: &Asked, recording: &Recording) -> Result<NetnsId, AskError> {
    if *asked == Asked::Own {
        return Ok(recording.question.netns);
    }
    let namespaces = &recording.before.namespaces;
    asked.among(namespaces).map(|netns| netns.id).ok_or_else(|| AskError::NotRecorded {
        what: "the network namespace",
        name: asked.to_string(),
        known: namespaces.iter().map(|netns| netns.name.clone()).collect(),
    })
}
