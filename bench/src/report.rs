//! Tables for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::Options;
use crate::machine::Machine;
use crate::metrics::{self, Metric};
use crate::run::Outcome;
use crate::stats::{self, Summary};

/// Peers that ratios are always given against, where they were measured.
const REFERENCES: &[&str] = &["wireguard-go", "mycelium"];
/// The bare link: neither Sinew nor a peer, and given among the ratios.
const CEILING: &str = "raw";
/// Above this share of foreign CPU a round is called noisy, in per cent.
const NOISY: f64 = 5.0;

/// Everything, ready to print.
pub(crate) fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for group in settings(outcomes) {
        let _ = write!(text, "\n{}\n", title(group));
        for block in metrics::blocks() {
            text.push_str(&table(block, group));
        }
        text.push_str(&ratio_table(group));
        text.push_str(&notes(group));
    }
    text
}

/// Outcomes of one scenario and wire stand together.
fn settings(outcomes: &[Outcome]) -> Vec<&[Outcome]> {
    outcomes.chunk_by(|a, b| (a.scenario, a.wire) == (b.scenario, b.wire)).collect()
}

fn title(group: &[Outcome]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let rounds = group.iter().map(|outcome| outcome.rounds.len()).max().unwrap_or(0);
    format!(
        "══ {}, wire {}: median (min–max) of {rounds} interleaved rounds",
        first.scenario.name(),
        first.wire
    )
}

fn table(block: &str, group: &[Outcome]) -> String {
    let columns: Vec<_> = metrics::ALL
        .iter()
        .filter(|metric| metric.block == block && group.iter().any(|o| summary(o, metric).is_some()))
        .collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut rows =
        vec![std::iter::once(String::new()).chain(columns.iter().map(|m| m.title.to_owned())).collect()];
    for outcome in group {
        let cells = columns.iter().map(|metric| match summary(outcome, metric) {
            Some(found) => cell(found, metric.digits),
            None => "-".into(),
        });
        rows.push(std::iter::once(outcome.subject.clone()).chain(cells).collect());
    }
    format!("\n{block}\n{}", aligned(&rows))
}

fn summary(outcome: &Outcome, metric: &Metric) -> Option<Summary> {
    let values: Vec<_> = outcome.samples(metric.key).into_iter().flatten().collect();
    stats::summary(&values)
}

fn cell(found: Summary, digits: usize) -> String {
    let Summary { median, min, max } = found;
    if (min - max).abs() < f64::EPSILON {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let _ = if at == 0 { write!(line, " {cell}{gap}") } else { write!(line, "  {gap}{cell}") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Whether a subject is Sinew, in whatever build or setting: like the ceiling it has no program that
/// was looked for.
fn is_sinew(outcome: &Outcome) -> bool {
    outcome.program.is_empty() && outcome.subject != CEILING
}

fn is_peer(outcome: &Outcome) -> bool {
    !outcome.program.is_empty()
}

/// Ratio of two subjects in one metric, round by round.
fn ratio(ours: &Outcome, theirs: &Outcome, key: &str) -> Option<Summary> {
    stats::summary(&stats::ratios(&ours.samples(key), &theirs.samples(key)))
}

/// The peer with the best median.
fn best<'a>(group: &'a [Outcome], metric: &Metric) -> Option<&'a Outcome> {
    let higher = metric.higher_is_better?;
    let rated = group.iter().filter(|o| is_peer(o)).filter_map(|o| Some((summary(o, metric)?.median, o)));
    let order = |a: &(f64, &Outcome), b: &(f64, &Outcome)| a.0.total_cmp(&b.0);
    if higher { rated.max_by(order) } else { rated.min_by(order) }.map(|(_, outcome)| outcome)
}

fn ratio_table(group: &[Outcome]) -> String {
    let ours: Vec<_> = group.iter().filter(|outcome| is_sinew(outcome)).collect();
    let mut text = String::new();
    for own in &ours {
        let mut others: Vec<&Outcome> =
            group.iter().filter(|o| REFERENCES.contains(&o.subject.as_str())).collect();
        others.extend(group.iter().filter(|o| o.subject == CEILING));
        others.extend(ours.iter().filter(|o| o.subject != own.subject));
        let any_peer = group.iter().any(is_peer);
        if others.is_empty() && !any_peer {
            continue;
        }
        let mut head = vec![String::new(), "better".into()];
        head.extend(others.iter().map(|other| format!("/ {}", other.subject)));
        if any_peer {
            head.push("/ best peer".into());
        }
        let mut rows = vec![head];
        for metric in metrics::ALL {
            if let Some(row) =
                ratio_row(own, &others, any_peer.then(|| best(group, metric)).flatten(), metric)
            {
                rows.push(row);
            }
        }
        if rows.len() == 1 {
            continue;
        }
        let _ = write!(text, "\n{} ÷ others, round by round\n{}", own.subject, aligned(&rows));
    }
    text
}

fn ratio_row(
    own: &Outcome,
    others: &[&Outcome],
    best: Option<&Outcome>,
    metric: &Metric,
) -> Option<Vec<String>> {
    let better = if metric.higher_is_better? { "more" } else { "less" };
    let show = |other: &Outcome| ratio(own, other, metric.key).map_or("-".into(), |found| cell(found, 2));
    let mut row = vec![format!("{}: {}", short(metric.block), metric.title), better.to_owned()];
    row.extend(others.iter().map(|other| show(other)));
    row.extend(best.map(|best| format!("{} {}", show(best), best.subject)));
    row.iter().skip(2).any(|cell| !cell.starts_with('-')).then_some(row)
}

/// A block's heading up to its unit.
fn short(block: &str) -> &str {
    let end = block.find([',', ':', '(']).unwrap_or(block.len());
    let words = &block[..end];
    words.split(" at ").next().unwrap_or(words).split(" of ").next().unwrap_or(words).trim()
}

fn notes(group: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in group {
        for (at, share) in outcome.samples("foreign_percent").into_iter().enumerate() {
            if let Some(share) = share.filter(|share| *share > NOISY) {
                let _ = writeln!(
                    text,
                    "  noisy: {} round {}: others used {share:.0} % of the machine",
                    outcome.subject,
                    at + 1
                );
            }
        }
        for failure in &outcome.failures {
            let _ = writeln!(text, "  FAILED {} {}", outcome.subject, failure.trim_end());
        }
    }
    if text.is_empty() { text } else { format!("\nNotes\n{text}") }
}

/// Everything, for programs.
pub(crate) fn json(machine: &Machine, options: &Options, outcomes: &[Outcome]) -> Value {
    let results: Vec<_> =
        settings(outcomes).into_iter().flat_map(|g| g.iter().map(|o| result(o, g))).collect();
    json!({
        "schema_version": 1,
        "machine": machine.json(),
        "options": {
            "rounds": options.rounds(), "seconds": options.length().as_secs(), "quick": options.quick,
            "pings": options.pings(), "sinew_config": options.sinew_config,
            "udp_step_ms": options.step_length().as_millis() as u64,
            "rr_ms": options.rr_length().as_millis() as u64,
        },
        "results": results,
    })
}

fn result(outcome: &Outcome, group: &[Outcome]) -> Value {
    let mut numbers = serde_json::Map::new();
    for metric in metrics::ALL {
        let Some(found) = summary(outcome, metric) else { continue };
        numbers.insert(
            metric.key.into(),
            json!({
                "unit": metric.unit, "median": found.median, "min": found.min, "max": found.max,
                "samples": outcome.samples(metric.key),
            }),
        );
    }
    let mut ratios = serde_json::Map::new();
    if is_sinew(outcome) {
        for other in group.iter().filter(|other| other.subject != outcome.subject) {
            ratios.insert(other.subject.clone(), ratios_to(outcome, other));
        }
    }
    json!({
        "scenario": outcome.scenario.name(), "wire": outcome.wire.to_string(), "subject": outcome.subject,
        "version": outcome.version, "program": outcome.program, "failures": outcome.failures,
        "metrics": numbers, "ratios": ratios,
    })
}

fn ratios_to(own: &Outcome, other: &Outcome) -> Value {
    let compared = metrics::ALL.iter().filter(|metric| metric.higher_is_better.is_some());
    let found = compared.filter_map(|metric| Some((metric.key, ratio(own, other, metric.key)?)));
    found
        .map(|(key, r)| (key.to_owned(), json!({ "median": r.median, "min": r.min, "max": r.max })))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Scenario, Wire};

    fn outcome(subject: &str, program: &str, rates: &[f64]) -> Outcome {
        Outcome {
            scenario: Scenario::Pair,
            wire: Wire::Gso,
            subject: subject.into(),
            version: String::new(),
            program: program.into(),
            rounds: rates.iter().map(|rate| [("tcp1_mbps", *rate)].into()).collect(),
            failures: Vec::new(),
        }
    }

    fn example() -> Vec<Outcome> {
        vec![
            outcome("sinew", "", &[800.0, 900.0, 1000.0]),
            outcome("raw", "", &[2000.0, 2000.0, 2000.0]),
            outcome("wireguard-go", "/w", &[400.0, 300.0, 500.0]),
            outcome("mycelium", "/m", &[100.0, 100.0, 100.0]),
        ]
    }

    #[test]
    fn ratios_are_those_of_the_rounds_and_name_the_best_peer() {
        let text = text(&example());
        let row = text.lines().find(|line| line.contains("TCP throughput: 1 stream")).unwrap();
        assert!(row.contains("2.00 (2.00–3.00)") && row.contains("9.00 (8.00–10.00)"), "{row}");
        assert!(row.ends_with("wireguard-go"), "{row}");
        assert!(text.contains("900 (800–1000)"));
    }

    #[test]
    fn columns_line_up_under_their_headings() {
        let rows = vec![vec!["".into(), "µ".into()], vec!["name".into(), "12345".into()]];
        let lengths: Vec<_> = aligned(&rows).lines().map(|line| line.chars().count()).collect();
        assert_eq!(lengths[0], lengths[1]);
    }

    #[test]
    fn rounds_with_much_foreign_cpu_are_named() {
        let mut group = example();
        group[0].rounds[1].insert("foreign_percent", 40.0);
        assert!(notes(&group).contains("sinew round 2: others used 40 %"));
    }

    #[test]
    fn json_holds_samples_and_ratios() {
        let group = example();
        let value = result(&group[0], &group);
        assert_eq!(value.pointer("/metrics/tcp1_mbps/median"), Some(&json!(900.0)));
        assert_eq!(value.pointer("/ratios/raw/tcp1_mbps/median"), Some(&json!(0.45)));
    }
}
