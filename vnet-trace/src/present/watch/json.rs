//! A packet's way for scripts: one JSON object per line. Fields are added, never renamed; `v` is 1.

use serde_json::{Value, json};

use super::{Clock, headline};
use crate::follow::way::{Outcome, Told};
use crate::model::diagnosis::Finding;
use crate::model::frame::Direction;
use crate::model::id::{IfIndex, Nanos, NetnsId};
use crate::model::snapshot::Snapshot;
use crate::present::names::Names;

/// One packet's way.
pub fn way(told: &Told, snapshot: &Snapshot, clock: Clock) -> Value {
    let names = Names::in_snapshot(snapshot);
    let way = &told.way;
    let said = way.followed.packet.first_said();
    let micros = |time: Nanos| time.0 as f64 / 1000.0;
    let since = |time: Option<Nanos>| time.map(|time| micros(Nanos(time.0.saturating_sub(way.first.0))));
    let device = |netns: NetnsId, ifindex: Option<IfIndex>| ifindex.map(|ifindex| names.device(netns, ifindex));
    let path: Vec<Value> = way
        .journey
        .steps
        .iter()
        .filter_map(|step| {
            use crate::model::exchange::Action;
            let direction = match step.action {
                Action::Received => Direction::In,
                Action::Transmitted => Direction::Out,
                _ => return None,
            };
            Some(json!({
                "netns": names.netns(step.netns),
                "dev": device(step.netns, step.device),
                "direction": direction,
                "t_us": since(step.time),
            }))
        })
        .collect();
    let ends: Vec<Value> = way
        .ends
        .iter()
        .map(|ends| {
            json!({
                "netns": ends.device.map(|at| names.netns(at.netns)),
                "dev": ends.device.map(|at| names.device(at.netns, at.ifindex)),
                "src": ends.src,
                "dst": ends.dst,
                "sport": ends.ports.map(|ports| ports.0),
                "dport": ends.ports.map(|ports| ports.1),
            })
        })
        .collect();
    let hops: Vec<Value> = way
        .hops
        .iter()
        .map(|hop| {
            json!({
                "netns": names.netns(hop.netns),
                "in": device(hop.netns, hop.ingress),
                "out": device(hop.netns, hop.egress),
                "us": micros(hop.time),
            })
        })
        .collect();
    let (netns, ifindex) = way.outcome.place();
    let (reason, function) = match &way.outcome {
        Outcome::Dropped { reason, function, .. } => (reason.as_deref(), function.as_deref()),
        _ => (None, None),
    };
    let finding = told.verdict.as_ref().and_then(|verdict| verdict.finding.as_ref());
    let mut value = json!({
        "v": 1,
        "type": "way",
        "number": told.number,
        "time": utc(way.first, clock),
        "packet": headline(&way.followed),
        "protocol": way.protocol,
        "src": said.src,
        "dst": said.dst,
        "sport": said.id.filter(|_| said.port.is_some()),
        "dport": said.port,
        "length": said.len,
        "outcome": outcome(&way.outcome),
        "place": {"netns": names.netns(netns), "dev": device(netns, ifindex), "function": function},
        "latency_us": micros(Nanos(way.last.0 - way.first.0)),
        "path": path,
        "ends": ends,
        "hops": hops,
        "copies": way.journey.copies.len(),
        "cut_short": way.followed.cut_short,
    });
    if let Some(reason) = reason {
        value["reason"] = json!(reason);
    }
    if let Some(finding) = finding {
        value["cause"] = cause(finding, names);
    }
    if let Some(verdict) = &told.verdict {
        value["leads"] = json!(verdict.leads);
    }
    value
}

fn cause(finding: &Finding, names: Names<'_>) -> Value {
    let evidence: Vec<&str> = finding.evidence.iter().map(|evidence| evidence.text.as_str()).collect();
    let fixes: Vec<Value> = finding
        .fixes
        .iter()
        .map(|fix| json!({"title": fix.title, "risk": fix.risk, "commands": fix.commands, "undo": fix.undo, "persist": fix.persist}))
        .collect();
    let place = &finding.place;
    json!({
        "code": finding.code,
        "grade": finding.grade,
        "role": finding.role,
        "place": {
            "netns": names.netns(place.netns),
            "dev": place.device.map(|ifindex| names.device(place.netns, ifindex)),
            "function": place.function,
        },
        "summary": finding.summary,
        "evidence": evidence,
        "fixes": fixes,
    })
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Arrived { .. } => "arrived",
        Outcome::Left { .. } => "left",
        Outcome::Dropped { .. } => "dropped",
        Outcome::Vanished { .. } => "vanished",
        Outcome::Unclear { .. } => "unclear",
    }
}

/// A time as RFC 3339 has it, in UTC.
fn utc(time: Nanos, clock: Clock) -> String {
    let since = u128::from(time.0) + u128::from(clock.realtime_offset);
    let (seconds, nanos) = (since / 1_000_000_000, since % 1_000_000_000);
    let (days, rest) = ((seconds / 86400) as i64, seconds % 86400);
    // Days since 1 March of year 0, counted in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: u64| utc(Nanos(7), Clock { realtime_offset: seconds * 1_000_000_000, ahead: 7200 });
        assert_eq!(at(0), "1970-01-01T00:00:00.000000007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000007Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000000007Z");
    }
}
