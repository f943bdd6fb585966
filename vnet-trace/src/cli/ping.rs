//! `vnet-trace ping`: the flags of ping(8) with ping's meaning, and what the answer looks like.

use std::net::IpAddr;
use std::time::Duration;

use crate::ask::{self, Answer, PingOptions};
use crate::cli::output::{self, File, Form, Output};
use crate::cli::{Exit, Failure, last, terminal};
use crate::collect::netns;
use crate::collect::ping::{Family, Manner};
use crate::model::diagnosis::Verdict;
use crate::model::question::{Iface, PmtuDiscovery};
use crate::model::sight::Tier;
use crate::present::json::{self, Asked};
use crate::present::text;

/// How many requests are sent unless `-c` says otherwise.
const COUNT: u32 = 3;

/// Arguments of `ping`.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Asking, as ping(8)",
    args_override_self = true,
    after_help = "Exit code: 0 delivered, 1 lost (or fewer than -c came back by -w), 2 anything else."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// An address, fe80::1%dev, or a host name
    #[arg(value_name = "DST")]
    destination: String,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    v6: bool,
    /// Keep the source address that was chosen first
    #[arg(short = 'B')]
    sticky: bool,
    /// Allow pinging a broadcast address
    #[arg(short = 'b')]
    broadcast: bool,
    /// Requests to send [default: 3]
    #[arg(short, value_name = "COUNT", value_parser = count)]
    count: Option<u32>,
    /// Seconds between requests
    #[arg(short, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Device to bind to, or source address
    #[arg(short = 'I', value_name = "DEV|ADDRESS")]
    iface: Option<String>,
    /// fwmark of the packets
    #[arg(short, value_name = "MARK", value_parser = number)]
    mark: Option<u32>,
    /// Path MTU discovery
    #[arg(short = 'M', value_name = "do|want|probe|dont", value_parser = pmtu)]
    pmtu: Option<PmtuDiscovery>,
    /// Numbers only: accepted, names are never looked up for output
    #[arg(short)]
    numeric: bool,
    /// Type of service or traffic class
    #[arg(short = 'Q', value_name = "TCLASS", value_parser = tclass)]
    tclass: Option<u8>,
    /// Bytes of payload
    #[arg(short, value_name = "BYTES", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=65507))]
    size: u16,
    /// TTL or hop limit
    #[arg(short, value_name = "TTL", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// Seconds until the whole command ends
    #[arg(short = 'w', value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<Duration>,
    /// Seconds to wait for a reply
    #[arg(short = 'W', value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    timeout: Duration,

    /// Ask from this network namespace
    #[arg(short = 'N', long, value_name = "NAME|PATH|PID", help_heading = "Where")]
    netns: Option<String>,
    /// Ask from this container
    #[arg(long, value_name = "NAME", conflicts_with = "netns", help_heading = "Where")]
    container: Option<String>,

    /// Wait as long as ping does, even when the loss is decided
    #[arg(long, help_heading = "How")]
    patient: bool,
    /// Rebuild the packet's way in throw-away namespaces and show that the fix works
    #[arg(long, help_heading = "How")]
    prove: bool,
    /// The best way to attach probes that may be used
    #[arg(long, hide = true, env = "VNET_TRACE_TIER", value_parser = tier)]
    tier: Option<Tier>,

    /// Write a file as well: .vtr recording, .pcapng packets, .json answer
    #[arg(short, value_name = "FILE", value_parser = output::file, help_heading = "Output")]
    output: Vec<File>,
    #[command(flatten)]
    look: Output,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let answer = ask::run(&args.options()?).map_err(|error| {
        let help = error.help();
        Failure::new(error, help)
    })?;
    // A recording that cannot be kept costs a later `explain`, not this answer.
    if let Err(failure) = last::keep(&answer.recording)
        && args.look.verbose > 0
    {
        terminal::warn(&failure);
    }
    for file in &args.output {
        write(file, &answer, args)?;
    }
    let text = if args.look.json {
        json::document(answer.report(), Asked::Ping).to_text(args.look.layout())?
    } else {
        text::ping(answer.report(), args.look.style(), args.look.detail())
    };
    terminal::print(&text)?;
    Ok(exit(&answer, args))
}

/// As ping(8): lost also when a deadline and a count were given and fewer than that came back.
fn exit(answer: &Answer, args: &Args) -> Exit {
    let short = args.deadline.is_some() && args.count.is_some_and(|count| answer.recording.ping.received < count);
    match answer.diagnosis.verdict {
        Verdict::Delivered if !short => Exit::Good,
        _ => Exit::Lost,
    }
}

fn write(file: &File, answer: &Answer, args: &Args) -> Result<(), Failure> {
    match file.form {
        Form::Json => {
            let text = json::document(answer.report(), Asked::Ping).to_text(args.look.layout())?;
            std::fs::write(&file.path, text)
                .map_err(|source| Failure::new(output::Unwritable::at(&file.path, source), None))
        }
        Form::Recording => last::write(&file.path, &answer.recording),
        Form::Pcapng => output::pcapng(&file.path, answer),
    }
}

impl Args {
    /// What is asked, checked as far as it can be without looking at the machine.
    fn options(&self) -> Result<PingOptions, Failure> {
        if self.container.is_some() {
            return Err(Failure::with_help(
                "--container is not implemented yet",
                "`-N PID` asks from the namespace of a process: docker inspect -f '{{.State.Pid}}' NAME",
            ));
        }
        if self.prove {
            return Err(Failure::with_help(
                "--prove is not implemented yet",
                "leave it out: the answer does not depend on it",
            ));
        }
        let family = match (self.v4, self.v6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        let iface = self.iface.as_ref().map(|text| match text.parse::<IpAddr>() {
            Ok(address) => Iface::Address(address),
            Err(_) => Iface::Device(text.clone()),
        });
        if let Some(Iface::Device(name)) = &iface
            && (name.is_empty() || name.len() > 15 || name.contains('/') || name.contains(char::is_whitespace))
        {
            return Err(Failure::with_help(
                format!("`{}` is neither an address nor a device name", name.escape_debug()),
                "`ip link` lists the devices; a device name has at most 15 characters",
            ));
        }
        Ok(PingOptions {
            netns: self.netns.as_deref().map(netns::Asked::parse).unwrap_or_default(),
            destination: self.destination.clone(),
            family,
            iface,
            count: self.count.unwrap_or(COUNT),
            interval_ms: self.interval.as_millis() as u64,
            timeout_ms: self.timeout.as_millis() as u64,
            size: self.size,
            ttl: self.ttl,
            tos: self.tclass.unwrap_or(0),
            mark: self.mark.unwrap_or(0),
            pmtu: self.pmtu.unwrap_or_default(),
            manner: Manner { deadline: self.deadline, sticky_source: self.sticky, broadcast: self.broadcast },
            patience: if self.patient { ask::Patience::AsPing } else { ask::Patience::Decisive },
            tier: self.tier,
        })
    }
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("at least one request has to be sent".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("not a number of requests".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(value) {
        Ok(time) if time.is_zero() => Err("has to be more than zero".to_owned()),
        Ok(time) if time <= Duration::from_hours(24) => Ok(time.max(Duration::from_millis(1))),
        _ => Err("not between 0 and 86400 seconds".to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time < Duration::from_millis(2) {
        return Err("at least 0.002 seconds".to_owned());
    }
    Ok(time)
}

/// Decimal, or hexadecimal after `0x`, as ping takes them.
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a number".to_owned())
}

fn tclass(text: &str) -> Result<u8, String> {
    u8::try_from(number(text)?).map_err(|_| "not between 0 and 255".to_owned())
}

fn pmtu(text: &str) -> Result<PmtuDiscovery, String> {
    Ok(match text {
        "do" => PmtuDiscovery::Do,
        "want" => PmtuDiscovery::Want,
        "probe" => PmtuDiscovery::Probe,
        "dont" => PmtuDiscovery::Dont,
        _ => return Err("do, want, probe or dont".to_owned()),
    })
}

fn tier(text: &str) -> Result<Tier, String> {
    Ok(match text {
        "fentry" => Tier::Fentry,
        "kprobe" => Tier::Kprobe,
        "tracepoint" => Tier::Tracepoint,
        "capture" => Tier::Capture,
        _ => return Err("fentry, kprobe, tracepoint or capture".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(words: &[&str]) -> Result<PingOptions, String> {
        let words = ["vnet-trace", "ping"].iter().chain(words);
        let cli = crate::cli::Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            crate::cli::Command::Ping(args) => args.options().map_err(|failure| failure.to_string()),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn the_defaults_are_those_of_ping() {
        let options = options(&["10.0.0.1"]).expect("options");
        assert_eq!((options.count, options.interval_ms, options.timeout_ms, options.size), (3, 1000, 1000, 56));
        assert_eq!((options.ttl, options.tos, options.mark), (None, 0, 0));
        assert_eq!(options.patience, ask::Patience::Decisive);
        assert_eq!(options.netns, netns::Asked::Own);
    }

    #[test]
    fn the_flags_mean_what_they_mean_to_ping() {
        let words = "-4 -B -c 5 -i 0.2 -I veth0 -M do -n -Q 0x10 -s 1472 -t 9 -w 3 -W 0.5 -m 0x20 -N ns1 10.0.0.1";
        let options = options(&words.split(' ').collect::<Vec<_>>()).expect("options");
        assert_eq!((options.count, options.interval_ms, options.timeout_ms, options.size), (5, 200, 500, 1472));
        assert_eq!((options.ttl, options.tos, options.mark), (Some(9), 16, 32));
        assert_eq!(options.iface, Some(Iface::Device("veth0".to_owned())));
        assert_eq!(options.pmtu, PmtuDiscovery::Do);
        assert_eq!(options.manner.deadline, Some(Duration::from_secs(3)));
        assert!(options.manner.sticky_source);
        assert_eq!(options.netns, netns::Asked::Name("ns1".to_owned()));
    }

    #[test]
    fn an_address_after_dash_i_is_a_source() {
        let options = options(&["-I", "10.0.0.2", "10.0.0.1"]).expect("options");
        assert_eq!(options.iface, Some(Iface::Address([10, 0, 0, 2].into())));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (words, reason) in [
            (vec!["-c", "0", "10.0.0.1"], "at least one request"),
            (vec!["-c", "x", "10.0.0.1"], "not a number"),
            (vec!["-i", "0.0001", "10.0.0.1"], "0.002"),
            (vec!["-W", "0", "10.0.0.1"], "more than zero"),
            (vec!["-t", "0", "10.0.0.1"], "1..=255"),
            (vec!["-s", "65508", "10.0.0.1"], "0..=65507"),
            (vec!["-M", "yes", "10.0.0.1"], "do, want, probe or dont"),
            (vec!["-4", "-6", "10.0.0.1"], "cannot be used with"),
            (vec!["-I", "a/b", "10.0.0.1"], "neither an address nor a device"),
            (vec!["-o", "x.pcap", "10.0.0.1"], "ending decides"),
            (vec![], "required"),
        ] {
            let error = options(&words).expect_err("nonsense");
            assert!(error.contains(reason), "{words:?}: {error}");
        }
    }
}
