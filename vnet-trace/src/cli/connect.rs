//! `vnet-trace connect`: whether a TCP or UDP port answers, with the flags and the answer of `ping`.

use std::time::Duration;

use crate::ask::{self, Foretelling, PingOptions};
use crate::cli::asking::Asking;
use crate::cli::how::How;
use crate::cli::{Exit, Failure};
use crate::model::question::Protocol;
use crate::present::json::Asked;

/// How long an attempt may take unless `-W` says otherwise: time for the kernel to repeat its SYN.
const PATIENCE: Duration = Duration::from_secs(3);
/// More attempts than this are refused: each is a socket.
const MOST_ATTEMPTS: u32 = 100;

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Exit code: 0 the port answers, 1 it does not (refused, lost or silent), 2 anything else.\n\
                  -c counts attempts [default: 1], -W is the time of one [default: 3], -s the bytes of a UDP datagram."
)]
pub struct Args {
    /// An address, fe80::1%dev, or a host name
    #[arg(value_name = "HOST")]
    destination: String,
    /// A TCP port, or a UDP port with -u
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Send UDP datagrams instead of opening TCP connections
    #[arg(short, long)]
    udp: bool,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    how: How,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let answer = ask::connect(&args.asked()?).map_err(|error| {
        let help = error.help();
        Failure::new(error, help)
    })?;
    args.how.tell(answer, Asked::Connect, &args.asking)
}

impl Args {
    /// What is asked, checked as far as it can be without looking at the machine.
    fn asked(&self) -> Result<Foretelling, Failure> {
        let options = self.how.apply(self.asking.options(&self.destination)?);
        let timeout_ms = self.asking.timeout.unwrap_or(PATIENCE).as_millis() as u64;
        let count = self.asking.count.unwrap_or(1);
        if count > MOST_ATTEMPTS {
            return Err(Failure::with_help(format!("{count} attempts are too many"), "-c takes up to 100"));
        }
        let (port, sport) = (self.port, 0);
        let protocol = if self.udp { Protocol::Udp { port, sport } } else { Protocol::Tcp { port, sport } };
        Ok(Foretelling { options: PingOptions { count, timeout_ms, ..options }, protocol })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(words: &[&str]) -> Result<Foretelling, String> {
        let line = ["vnet-trace", "connect"].iter().chain(words);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Connect(args) => args.asked().map_err(|failure| failure.to_string()),
            other => panic!("{other:?} instead of connect"),
        }
    }

    #[test]
    fn a_port_and_nothing_else_is_one_attempt_over_tcp() {
        let Foretelling { options, protocol } = asked(&["10.0.0.1", "80"]).expect("good arguments");
        assert_eq!(protocol, Protocol::Tcp { port: 80, sport: 0 });
        assert_eq!((options.count, options.timeout_ms), (1, 3000));
    }

    #[test]
    fn the_flags_of_ping_shape_the_attempts() {
        let line = ["-u", "-c", "2", "-W", "0.5", "-I", "eth0", "--container", "web", "db", "53"];
        let Foretelling { options, protocol } = asked(&line).expect("good arguments");
        assert_eq!(protocol, Protocol::Udp { port: 53, sport: 0 });
        assert_eq!((options.count, options.timeout_ms, options.destination.as_str()), (2, 500, "db"));
        assert!(options.iface.is_some());
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (words, reason) in [
            (vec!["10.0.0.1"], "required"),
            (vec!["10.0.0.1", "0"], "1..=65535"),
            (vec!["10.0.0.1", "http"], "invalid digit"),
            (vec!["-c", "101", "10.0.0.1", "80"], "too many"),
        ] {
            let error = asked(&words).expect_err("nonsense");
            assert!(error.contains(reason), "{words:?}: {error}");
        }
    }
}
