//! Prometheus' text format, read as strictly as its scrapers do, and then some.
//!
//! What is let through here: a `HELP` and a `TYPE` line before each family, families in one piece, known types,
//! counters that end in `_total`, well-formed names, labels and escapes, numbers, no series twice, a last line feed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// Labels of one series.
pub type Labels = BTreeMap<String, String>;

/// What one scrape said.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    series: BTreeMap<(String, Labels), f64>,
    families: BTreeSet<String>,
}

impl Scrape {
    /// Reads a whole answer.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "no line feed at the end");
        let mut scrape = Self::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line
                .strip_prefix("# HELP ")
                .and_then(|rest| rest.split_once(' '))
                .with_context(|| format!("a family begins with HELP: {line}"))?;
            ensure!(!help.trim().is_empty() && is_name(name), "{line}");
            let of = format!("# TYPE {name} ");
            let kind = lines.next().and_then(|line| line.strip_prefix(&of)).context(line.to_owned())?;
            ensure!(matches!(kind, "counter" | "gauge"), "{name} is a {kind}");
            ensure!((kind == "counter") == name.ends_with("_total"), "{name} is a {kind}");
            ensure!(scrape.families.insert(name.to_owned()), "{name} is in two pieces");
            let mut found = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (own, labels, value) = sample(line).with_context(|| line.to_owned())?;
                ensure!(own == name, "{line} stands under {name}");
                ensure!(kind == "gauge" || value >= 0.0, "{line}");
                let twice = scrape.series.insert((own.to_owned(), labels), value);
                ensure!(twice.is_none(), "there twice: {line}");
                found += 1;
            }
            ensure!(found > 0, "{name} has no series");
        }
        ensure!(!scrape.families.is_empty(), "nothing at all");
        Ok(scrape)
    }

    /// The series of this name that has these labels among others; the sum if there are more.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let fits = |own: &Labels| {
            labels.iter().all(|(key, value)| own.get(*key).map(String::as_str) == Some(*value))
        };
        let all: Vec<_> = self
            .series
            .iter()
            .filter(|((own, set), _)| own == name && fits(set))
            .map(|(_, value)| *value)
            .collect();
        if all.is_empty() {
            bail!("no {name} with {labels:?}");
        }
        Ok(all.iter().sum())
    }

    /// Names of the families.
    pub fn families(&self) -> &BTreeSet<String> {
        &self.families
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> Result<(&str, Labels, f64)> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name), "bad name");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").context("no label")?;
            let (value, after) = quoted(after)?;
            ensure!(is_name(label), "bad label {label}");
            ensure!(labels.insert(label.to_owned(), value).is_none(), "label {label} twice");
            if let Some(after) = after.strip_prefix("} ") {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').context("no end of the labels")?;
        }
    } else {
        rest = &rest[1..];
    }
    let value: f64 = rest.parse().context("no number")?;
    ensure!(value.is_finite() && !rest.contains(['e', 'E', '+']), "an odd number");
    Ok((name, labels, value))
}

/// A value up to its closing quote, and what comes after.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                _ => bail!("a bad escape"),
            }),
            c => value.push(c),
        }
    }
    bail!("no closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\",y=\"a\\\\\\\"\\nb\"} 2\n\
                        a_total{x=\"2\"} 3\n# HELP b What.\n# TYPE b gauge\nb 0.5\n";

    #[test]
    fn what_is_well_formed_is_understood() {
        let scrape = Scrape::parse(GOOD).unwrap();
        assert_eq!(scrape.sum("a_total", &[]).unwrap(), 5.0);
        assert_eq!(scrape.sum("a_total", &[("y", "a\\\"\nb")]).unwrap(), 2.0);
        assert_eq!(scrape.sum("b", &[]).unwrap(), 0.5);
        assert!(scrape.sum("b", &[("x", "1")]).is_err() && scrape.sum("c", &[]).is_err());
        assert_eq!(scrape.families().len(), 2);
    }

    #[test]
    fn what_scrapers_refuse_is_refused() {
        for (what, from, to) in [
            ("no help", "# HELP b What.\n", ""),
            ("no type", "# TYPE b gauge\n", ""),
            ("another type", "b gauge", "b histogram"),
            ("a counter without _total", "b gauge", "b counter"),
            ("a gauge with it", "a_total counter", "a_total gauge"),
            ("no series", "b 0.5\n", ""),
            ("a series twice", "x=\"2\"", "x=\"1\",y=\"a\\\\\\\"\\nb\""),
            ("a series of another family", "b 0.5", "c 0.5"),
            ("no number", "b 0.5", "b x"),
            ("no such number", "b 0.5", "b NaN"),
            ("a raw quote", "x=\"2\"", "x=\"\"2\""),
            ("a bad escape", "x=\"2\"", "x=\"\\t\""),
            ("a bad label", "x=\"2\"", "x-y=\"2\""),
            (
                "a family in two pieces",
                "# HELP b What.\n# TYPE b gauge\nb",
                "# HELP a_total What.\n# TYPE a_total counter\na_total",
            ),
            ("less than nothing", "} 3", "} -3"),
            ("no last line feed", "b 0.5\n", "b 0.5"),
        ] {
            assert!(GOOD.contains(from), "{what}");
            assert!(Scrape::parse(&GOOD.replacen(from, to, 1)).is_err(), "{what} is let through");
        }
        assert!(Scrape::parse("").is_err() && Scrape::parse("\n").is_err());
    }
}
