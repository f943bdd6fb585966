//! What `ping` and `predict` are asked with: the flags of ping(8) with ping's meaning, and where the question is asked.

use std::net::IpAddr;
use std::time::Duration;

use crate::ask::{Patience, PingOptions};
use crate::cli::Failure;
use crate::collect::netns;
use crate::collect::ping::{Family, Manner};
use crate::model::question::{Iface, PmtuDiscovery};

/// How many requests are sent unless `-c` says otherwise.
const COUNT: u32 = 3;

/// How long a reply is waited for unless `-W` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The flags of ping(8).
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Asking, as ping(8)")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Asking {
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    pub v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    pub v6: bool,
    /// Keep the source address that was chosen first
    #[arg(short = 'B')]
    pub sticky: bool,
    /// Allow pinging a broadcast address
    #[arg(short = 'b')]
    pub broadcast: bool,
    /// Requests to send [default: 3]
    #[arg(short, value_name = "COUNT", value_parser = count)]
    pub count: Option<u32>,
    /// Seconds between requests
    #[arg(short, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// Device to bind to, or source address
    #[arg(short = 'I', value_name = "DEV|ADDRESS")]
    pub iface: Option<String>,
    /// fwmark of the packets
    #[arg(short, value_name = "MARK", value_parser = number)]
    pub mark: Option<u32>,
    /// Path MTU discovery
    #[arg(short = 'M', value_name = "do|want|probe|dont", value_parser = pmtu)]
    pub pmtu: Option<PmtuDiscovery>,
    /// Numbers only: accepted, names are never looked up for output
    #[arg(short)]
    pub numeric: bool,
    /// Type of service or traffic class
    #[arg(short = 'Q', value_name = "TCLASS", value_parser = tclass)]
    pub tclass: Option<u8>,
    /// Bytes of payload
    #[arg(short, value_name = "BYTES", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=65507))]
    pub size: u16,
    /// TTL or hop limit
    #[arg(short, value_name = "TTL", value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: Option<u8>,
    /// Seconds until the whole command ends
    #[arg(short = 'w', value_name = "SECONDS", value_parser = seconds)]
    pub deadline: Option<Duration>,
    /// Seconds to wait for a reply [default: 1]
    #[arg(short = 'W', value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Ask from this network namespace
    #[arg(short = 'N', long, value_name = "NAME|PATH|PID|container:NAME|pod:NS/NAME", help_heading = "Where")]
    pub netns: Option<String>,
    /// Ask from this container
    #[arg(long, value_name = "NAME", conflicts_with = "netns", help_heading = "Where")]
    pub container: Option<String>,
    /// Ask from this Kubernetes pod, if it runs on this node
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["netns", "container"], help_heading = "Where")]
    pub pod: Option<String>,
}

impl Asking {
    /// What is asked, checked as far as it can be without looking at the machine.
    pub fn options(&self, destination: &str) -> Result<PingOptions, Failure> {
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
            netns: self.place(),
            destination: destination.to_owned(),
            family,
            iface,
            count: self.count.unwrap_or(COUNT),
            interval_ms: self.interval.as_millis() as u64,
            timeout_ms: self.timeout.unwrap_or(TIMEOUT).as_millis() as u64,
            size: self.size,
            ttl: self.ttl,
            tos: self.tclass.unwrap_or(0),
            mark: self.mark.unwrap_or(0),
            pmtu: self.pmtu.unwrap_or_default(),
            manner: Manner { deadline: self.deadline, sticky_source: self.sticky, broadcast: self.broadcast },
            patience: Patience::Decisive,
            tier: None,
        })
    }
}

impl Asking {
    /// Where it is asked.
    pub fn place(&self) -> netns::Asked {
        match (&self.container, &self.pod, &self.netns) {
            (Some(name), ..) => netns::Asked::Container(name.clone()),
            (None, Some(pod), _) => netns::Asked::Pod(pod.clone()),
            (None, None, Some(text)) => netns::Asked::parse(text),
            (None, None, None) => netns::Asked::Own,
        }
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
