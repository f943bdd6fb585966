//! `vnet-trace ping`: the flags of ping(8) with ping's meaning, and what the answer looks like.

use crate::ask::{self, PingOptions};
use crate::cli::asking::Asking;
use crate::cli::how::How;
use crate::cli::{Exit, Failure};
use crate::present::json::Asked;

/// Arguments of `ping`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Exit code: 0 delivered, 1 lost (or fewer than -c came back by -w), 2 anything else."
)]
pub struct Args {
    /// An address, fe80::1%dev, or a host name
    #[arg(value_name = "DST")]
    destination: String,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    how: How,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let answer = ask::run(&args.options()?).map_err(|error| {
        let help = error.help();
        Failure::new(error, help)
    })?;
    args.how.tell(answer, Asked::Ping, &args.asking)
}

impl Args {
    /// What is asked, checked as far as it can be without looking at the machine.
    fn options(&self) -> Result<PingOptions, Failure> {
        Ok(self.how.apply(self.asking.options(&self.destination)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::netns;
    use crate::model::question::{Iface, PmtuDiscovery};
    use clap::Parser;
    use std::time::Duration;

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
