//! Asks the kernel what it would do with a packet: `ip route get D from S iif DEV`, without sending anything.
//!
//! With an input device the kernel runs its input path, source validation included, and answers with the route or with
//! the error that the packet would meet. All look-ups of one namespace travel together over one rtnetlink connection,
//! opened by a thread that is in the namespace; namespaces are asked side by side.
//!
//! | answer to a look-up with an input device | kernels to 6.12 | from 6.13 |
//! | --- | --- | --- |
//! | the source is an own address, or otherwise martian | EINVAL | EINVAL |
//! | reverse-path filter | EXDEV | EINVAL |
//! | forwarding is off | EHOSTUNREACH | EHOSTUNREACH |
//! | no route to the destination | ENETUNREACH | ENETUNREACH |
//!
//! (`inet_rtm_getroute` in net/ipv4/route.c turned the drop reason, which the look-up has returned since 6.13, into
//! EINVAL.) A destination of type blackhole, unreachable or prohibit answers EINVAL, EHOSTUNREACH, EACCES on the output
//! path of IPv4; IPv6 answers with the route and its type.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, pin_mut};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteVia};

use super::netns::{Handle, NetnsError, run_in};
use super::snapshot::Taken;
use crate::model::id::{IfIndex, NetnsId};
use crate::model::recording::{RouteAnswer, RouteResult};
use crate::model::sight::Gap;

/// The kernel answers within microseconds, on an idle machine; an answer that our library cannot read never comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// One look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLookup {
    /// Where to ask.
    pub netns: NetnsId,
    /// Destination.
    pub dst: IpAddr,
    /// Source; the input path needs one.
    pub src: Option<IpAddr>,
    /// Input device: asks the input path. None asks the output path.
    pub iif: Option<IfIndex>,
    /// Output device demanded, for the output path.
    pub oif: Option<IfIndex>,
    /// fwmark.
    pub mark: u32,
    /// Type of service.
    pub tos: u8,
    /// IPPROTO_* for rules that look at it; 0 leaves it out.
    pub protocol: u8,
}

impl RouteLookup {
    /// A look-up with nothing but a destination.
    pub fn to(netns: NetnsId, dst: IpAddr) -> Self {
        Self { netns, dst, src: None, iif: None, oif: None, mark: 0, tos: 0, protocol: 0 }
    }
}

/// What the kernel said.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// In the order of the look-ups; None where nothing could be learned.
    pub answers: Vec<Option<RouteAnswer>>,
    /// Why not.
    pub gaps: Vec<Gap>,
}

/// Why a namespace could not be asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("cannot open an rtnetlink connection")]
    Connect(#[source] std::io::Error),
}

/// Asks all look-ups in their namespaces.
pub fn ask(taken: &Taken, lookups: &[RouteLookup]) -> Answers {
    let mut by_netns: BTreeMap<NetnsId, Vec<usize>> = BTreeMap::new();
    for (index, lookup) in lookups.iter().enumerate() {
        by_netns.entry(lookup.netns).or_default().push(index);
    }
    let mut answers = Answers { answers: vec![None; lookups.len()], gaps: Vec::new() };
    std::thread::scope(|scope| {
        let asked: Vec<_> = by_netns
            .iter()
            .filter_map(|(netns, indices)| {
                let handle = taken.handle(*netns)?;
                let there: Vec<_> = indices.iter().filter_map(|index| lookups.get(*index)).collect();
                Some((netns, indices, scope.spawn(move || ask_in(handle, &there))))
            })
            .collect();
        for (netns, indices, thread) in asked {
            match thread.join() {
                Ok(Ok(results)) => {
                    for (index, result) in indices.iter().zip(results) {
                        if let (Some(slot), Some(lookup), Some(answer)) =
                            (answers.answers.get_mut(*index), lookups.get(*index), result)
                        {
                            *slot = Some(answered(lookup, answer));
                        }
                    }
                }
                Ok(Err(error)) => {
                    answers.gaps.push(super::snapshot::gap(
                        "route look-ups",
                        taken.snapshot.netns_name(*netns),
                        &error,
                    ));
                }
                Err(_) => {}
            }
        }
    });
    answers
}

fn answered(lookup: &RouteLookup, answer: RouteResult) -> RouteAnswer {
    RouteAnswer {
        netns: lookup.netns,
        dst: lookup.dst,
        src: lookup.src,
        iif: lookup.iif,
        oif: lookup.oif,
        mark: lookup.mark,
        answer,
    }
}

fn ask_in(handle: &Handle, lookups: &[&RouteLookup]) -> Result<Vec<Option<RouteResult>>, AskError> {
    run_in(handle, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskError::Connect)?;
        runtime.block_on(async {
            let (connection, rtnetlink, _) = rtnetlink::new_connection().map_err(AskError::Connect)?;
            let connection = tokio::spawn(connection);
            let results = join_all(lookups.iter().map(|lookup| ask_one(&rtnetlink, lookup))).await;
            connection.abort();
            Ok(results)
        })
    })?
}

async fn ask_one(rtnetlink: &rtnetlink::Handle, lookup: &RouteLookup) -> Option<RouteResult> {
    let replies = rtnetlink.route().get(message(lookup)).execute();
    pin_mut!(replies);
    match tokio::time::timeout(PATIENCE, replies.next()).await.ok()?? {
        Ok(route) => Some(route_result(&route)),
        Err(rtnetlink::Error::NetlinkError(error)) => Some(RouteResult::Errno(error.raw_code().abs())),
        Err(_) => None,
    }
}

fn message(lookup: &RouteLookup) -> RouteMessage {
    let mut message = RouteMessage::default();
    let bits = if lookup.dst.is_ipv4() { 32 } else { 128 };
    message.header.address_family = if lookup.dst.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = bits;
    message.header.tos = lookup.tos;
    // Else the answer names table main whatever table it came from.
    message.header.flags = RouteFlags::LookupTable;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(RouteAddress::from(lookup.dst)));
    if let Some(src) = lookup.src {
        message.header.source_prefix_length = bits;
        attributes.push(RouteAttribute::Source(RouteAddress::from(src)));
    }
    attributes.extend(lookup.iif.map(|iif| RouteAttribute::Iif(iif.0)));
    attributes.extend(lookup.oif.map(|oif| RouteAttribute::Oif(oif.0)));
    attributes.extend((lookup.mark != 0).then_some(RouteAttribute::Mark(lookup.mark)));
    attributes.extend((lookup.protocol != 0).then_some(RouteAttribute::IpProto(lookup.protocol)));
    message
}

fn route_result(route: &RouteMessage) -> RouteResult {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let (mut number, mut out, mut next_hop, mut source) = (u32::from(route.header.table), None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(table) => number = *table,
            RouteAttribute::Oif(oif) => out = Some(IfIndex(*oif)),
            RouteAttribute::Gateway(gateway) => next_hop = address(gateway),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => next_hop = Some(IpAddr::V4(*gateway)),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => next_hop = Some(IpAddr::V6(*gateway)),
            RouteAttribute::PrefSource(prefsrc) => source = address(prefsrc),
            _ => {}
        }
    }
    RouteResult::Route {
        kind: u8::from(route.header.kind),
        table: number,
        oif: out,
        gateway: next_hop,
        prefsrc: source,
    }
}
