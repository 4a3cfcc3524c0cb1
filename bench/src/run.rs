//! Scenarios × wires × rounds × subjects, interleaved: A B C A B C …

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::args::{Group, Options};
use crate::measure::{self, Numbers, Round};
use crate::peers::Subject;
use crate::stage::{Scenario, Wire};

/// What will be measured.
pub(crate) struct Plan<'a> {
    /// Each with the subjects that can take part.
    settings: Vec<(Scenario, Wire, Vec<&'a Subject>)>,
    rounds: u32,
    /// About how long all of it takes.
    estimate: Duration,
}

impl<'a> Plan<'a> {
    /// The plan for these options; an error when it is empty.
    pub(crate) fn new(options: &Options, subjects: &'a [Subject]) -> Result<Self> {
        let mut settings: Vec<(Scenario, Wire, Vec<&Subject>)> = Vec::new();
        let places: Vec<(Scenario, Wire)> = match options.wan() {
            Some(wan) => vec![(Scenario::Pair, Wire::Wan(wan))],
            None => options.scenario.iter().flat_map(|s| options.wire.iter().map(|w| (*s, *w))).collect(),
        };
        for (scenario, wire) in places {
            let able: Vec<_> = subjects.iter().filter(|subject| subject.peer.supports(scenario)).collect();
            let new = !settings.iter().any(|(s, w, _)| (*s, *w) == (scenario, wire));
            if new && !able.is_empty() {
                settings.push((scenario, wire, able));
            }
        }
        if settings.is_empty() {
            bail!("none of these subjects can take part in that scenario");
        }
        let time = |(scenario, _, able): &(Scenario, Wire, Vec<&Subject>)| {
            let count = u32::try_from(able.len()).unwrap_or(u32::MAX);
            let each = match scenario {
                Scenario::Gateway => measure::gateway::estimate(options),
                Scenario::Pair | Scenario::Relay => each(options),
            };
            each * count * options.rounds()
        };
        let estimate = settings.iter().map(time).sum();
        Ok(Self { settings, rounds: options.rounds(), estimate })
    }
}

/// About how long one subject takes in one round.
fn each(options: &Options) -> Duration {
    let overhead = Duration::from_secs(2) + measure::REST;
    let parts = [
        (Group::Tcp, options.length() * 3 + Duration::from_secs(2)),
        (
            Group::Rtt,
            options.length() + options.pings() * Duration::from_micros(5600) + Duration::from_secs(1),
        ),
        (Group::Rr, options.rr_length()),
        // Five steps at each of two sizes, and the silence after each.
        (Group::Udp, (options.step_length() + Duration::from_millis(200)) * 10),
    ];
    parts.iter().filter(|(group, _)| options.measures(*group)).map(|(_, time)| *time).sum::<Duration>()
        + overhead
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.estimate.as_secs_f64() / 60.0;
        writeln!(f, "Plan: {} rounds, about {minutes:.0} min in all", self.rounds)?;
        for (scenario, wire, subjects) in &self.settings {
            let names: Vec<_> = subjects.iter().map(|subject| subject.name()).collect();
            writeln!(f, "  {}, {wire}: {}", scenario.name(), names.join(" "))?;
        }
        Ok(())
    }
}

/// Everything measured of one subject in one setting.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) wire: Wire,
    pub(crate) subject: String,
    pub(crate) version: String,
    pub(crate) program: String,
    /// Numbers of each round.
    pub(crate) rounds: Vec<Numbers>,
    /// What went wrong, with the round's number.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    fn new(scenario: Scenario, wire: Wire, subject: &Subject) -> Self {
        Self {
            scenario,
            wire,
            subject: subject.name().to_owned(),
            version: subject.version.clone(),
            program: subject.program.display().to_string(),
            rounds: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The samples of one metric, round by round.
    pub(crate) fn samples(&self, key: &str) -> Vec<Option<f64>> {
        self.rounds.iter().map(|numbers| numbers.get(key).copied()).collect()
    }
}

/// Measures the whole plan.
pub(crate) fn all(options: &Options, plan: &Plan<'_>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (scenario, wire, subjects) in &plan.settings {
        let mut here: Vec<_> = subjects.iter().map(|s| Outcome::new(*scenario, *wire, s)).collect();
        for round in 1..=plan.rounds {
            for (subject, outcome) in subjects.iter().zip(&mut here) {
                let start = Instant::now();
                let result = measure::round(subject, *scenario, *wire, options);
                eprintln!("{}", progress(*scenario, *wire, round, subject, &result, start.elapsed()));
                let named = |error| format!("round {round}: {error}");
                outcome.failures.extend(result.errors.into_iter().map(named));
                outcome.rounds.push(result.numbers);
            }
        }
        outcomes.extend(here);
    }
    outcomes
}

/// One line on standard error for each step of a long run.
fn progress(
    scenario: Scenario,
    wire: Wire,
    round: u32,
    subject: &Subject,
    result: &Round,
    took: Duration,
) -> String {
    let show = |key: &str, unit: &str| match result.numbers.get(key) {
        Some(value) => format!("  {value:.1} {unit}"),
        None => String::new(),
    };
    format!(
        "{}, {wire}, round {round}: {:14} {:3.0} s{}{}{}{}",
        scenario.name(),
        subject.name(),
        took.as_secs_f64(),
        show("tcp1_mbps", "Mbit/s") + &show("gw_h1_per_s", "requests/s"),
        show("cpu_daemons", "s/GB") + &show("gw_h1_mb_s", "MB/s"),
        show("foreign_percent", "% foreign CPU"),
        result.errors.iter().map(|error| format!("\n  FAILED {error}")).collect::<String>(),
    )
}
