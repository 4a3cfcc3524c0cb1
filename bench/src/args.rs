//! The command line of `cargo bench-net`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::stage::{Scenario, Wan, Wire};

/// What is measured; each needs its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// iperf3: one stream, four streams, reverse; CPU per gigabyte, retransmits.
    Tcp,
    /// UDP ping-pong, idle and beside one iperf3 stream.
    Rtt,
    /// 64-byte TCP requests and responses, one at a time.
    Rr,
    /// Highest UDP rate with less than 1 % lost, at 1,200 and 200 bytes.
    Udp,
}

const AFTER: &str = "\
Subjects: sinew (UDP carrier), sinew-tcp (TCP carrier), raw (the bare link, the ceiling), and of
wireguard-go, boringtun-cli, gotatun, nebula, yggdrasil, mycelium, tincd those that are installed or given
with --peer. Only Sinew, raw, nebula, yggdrasil, mycelium and tincd take part in the scenario `relay`; Sinew, nginx
and haproxy in `gateway`, which has measurements of its own (--measure is for the others).

Examples:
  cargo bench-net --quick
  cargo bench-net --only sinew,wireguard-go --scenario pair --wire gso --json result.json
  cargo bench-net --scenario gateway --wire gso
  cargo bench-net --peer mycelium=/opt/mycelium --peer gotatun=/opt/gotatun
  cargo bench-net --sinew before=/tmp/old/target/release --only sinew,before --measure tcp
  cargo bench-net --loss 1 --rtt 20 --measure tcp,rtt";

/// Measures Sinew, raw veth and other overlays side by side, in network namespaces of this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-net", after_help = AFTER, max_term_width = 110)]
pub(crate) struct Options {
    /// Rounds; each measures every subject once, started afresh.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Length of each throughput measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// One short round: shows that everything works, not how fast it is.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these subjects, in this order.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) only: Vec<String>,
    /// Which machines: pair (A–B), relay (A–R–B, no route from A to B but through R's daemon), gateway (a client, a
    /// gateway, a web server behind it).
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values = ["pair", "relay"])]
    pub(crate) scenario: Vec<Scenario>,
    /// Which wire: gso (veth as it is, carries 64 KB at once), segmented (single packets, as a card's driver
    /// without segmentation offload would see them).
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values = ["gso", "segmented"])]
    pub(crate) wire: Vec<Wire>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values = ["tcp", "rtt", "rr", "udp"])]
    pub(crate) measure: Vec<Group>,
    /// A peer's program where it is not on the PATH, or not the one to be measured.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_path)]
    pub(crate) peer: Vec<(String, PathBuf)>,
    /// Another build of Sinew as a subject of its own: the folder with its sinewd and sinew.
    #[arg(long, value_name = "NAME=DIR", value_parser = named_path)]
    pub(crate) sinew: Vec<(String, PathBuf)>,
    /// TOML for the end of every Sinew configuration file.
    #[arg(long, value_name = "TOML", default_value = "", hide_default_value = true)]
    pub(crate) sinew_config: String,
    /// Packets lost at random on the link, in per cent (pair only; packet by packet, no offloads).
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub(crate) loss: f64,
    /// Round trip added to the link, in ms (pair only).
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2000))]
    pub(crate) rtt: u32,
    /// Random delay added on top, each way, at most this many ms (needs --rtt; packets keep their order).
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub(crate) jitter: u32,
    /// Packets that overtake the ones in front (skip the delay), in per cent (needs --rtt).
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub(crate) reorder: f64,
    /// Rate of the stream beside which round trips are measured, in Mbit/s: the same for all. Without it, as fast
    /// as each can.
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) load: Option<u32>,
    /// Writes everything measured, sample by sample, to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Names the subjects that would be measured, and ends.
    #[arg(long)]
    pub(crate) list: bool,
}

impl Options {
    /// Rounds to do.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }

    /// Length of one throughput measurement.
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { u64::from(self.seconds) })
    }

    /// Length of one request/response measurement.
    pub(crate) fn rr_length(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 2000 })
    }

    /// Length of one rate step of the UDP search.
    pub(crate) fn step_length(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 1000 })
    }

    /// Probes of an idle round-trip measurement.
    pub(crate) fn pings(&self) -> u32 {
        if self.quick { 100 } else { 400 }
    }

    /// Whether a group is asked for.
    pub(crate) fn measures(&self, group: Group) -> bool {
        self.measure.contains(&group)
    }

    /// The impaired link, when one is asked for.
    pub(crate) fn wan(&self) -> Option<Wan> {
        let wan = Wan {
            loss_percent: self.loss,
            rtt_ms: self.rtt,
            jitter_ms: self.jitter,
            reorder_percent: self.reorder,
        };
        (self.loss > 0.0 || self.rtt > 0).then_some(wan)
    }
}

/// Reads the command line; on failure, and after `--help`, the exit code.
pub(crate) fn parse() -> Result<Options, ExitCode> {
    try_parse(std::env::args_os()).map_err(|error| {
        if error.use_stderr() {
            eprintln!("{} (--help tells more)", one_line(&error));
            return ExitCode::from(1);
        }
        // The reader of the help may have gone (`| head`).
        let _ = error.print();
        ExitCode::SUCCESS
    })
}

fn try_parse<T: Into<std::ffi::OsString> + Clone>(
    words: impl IntoIterator<Item = T>,
) -> Result<Options, clap::Error> {
    let options = Options::try_parse_from(words)?;
    let refuse = |text: &str| Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, text));
    if options.rtt == 0 && (options.jitter > 0 || options.reorder > 0.0) {
        return refuse("--jitter and --reorder need --rtt");
    }
    if options.load.is_some() && !options.measures(Group::Rtt) {
        return refuse("--load needs --measure rtt");
    }
    if options.wan().is_some() && !options.scenario.contains(&Scenario::Pair) {
        return refuse("--loss and --rtt are for the scenario pair");
    }
    Ok(options)
}

/// The first paragraph of clap's message: what is wrong, with the values that would be right.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    first.join(" ")
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.into(), path.into())),
        _ => Err("not of the form NAME=PATH".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=50.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 50 is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        try_parse(std::iter::once("bench").chain(line.split_whitespace())).map_err(|error| one_line(&error))
    }

    #[test]
    fn without_options_everything_is_measured_five_times() {
        let options = parsed("").unwrap();
        assert_eq!((options.rounds(), options.length()), (5, Duration::from_secs(5)));
        assert_eq!((options.scenario.len(), options.wire.len(), options.measure.len()), (2, 2, 4));
        assert!(options.wan().is_none());
    }

    #[test]
    fn lists_and_paths_are_taken_apart() {
        let options =
            parsed("--only raw,sinew --peer a=/b --peer c=/d --wire gso --loss 1 --rtt 20").unwrap();
        assert_eq!(options.only, ["raw", "sinew"]);
        assert_eq!(options.peer, [("a".into(), "/b".into()), ("c".into(), "/d".into())]);
        assert_eq!((options.wire, options.rtt), (vec![Wire::Gso], 20));
    }

    #[test]
    fn bad_input_gets_one_line_that_names_it() {
        for (line, part) in [
            ("--runs 0", "--runs"),
            ("--wire wet", "segmented"),
            ("--peer mycelium", "NAME=PATH"),
            ("--loss 99", "0 to 50"),
            ("--jitter 3", "--rtt"),
            ("--load 500 --measure tcp", "rtt"),
            ("--rtt 3 --scenario relay", "pair"),
            ("--nonsense", "--nonsense"),
        ] {
            let message = parsed(line).map(|_| ()).unwrap_err();
            assert!(message.contains(part) && !message.contains('\n'), "{line}: {message}");
        }
    }
}
