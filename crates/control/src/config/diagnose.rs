//! From "something is wrong" to one line that says where, what, and what to write instead.
//!
//! The checks speak of keys by path; the parsed document with its spans turns a path into a line,
//! and a span from serde back into a path. So the schema needs no span types, and every message
//! has the same form: `FILE:LINE: KEY: PROBLEM; REMEDY`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// Dotted key, such as `tun.mtu`; empty for syntax errors.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do; may be empty when the problem says it.
    pub remedy: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// A configuration that is not taken: at least one mistake, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The mistakes.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// The file cannot be read at all.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "name the file with --config",
            std::io::ErrorKind::PermissionDenied => "run as root, or let this user read it",
            std::io::ErrorKind::InvalidData => "the file must be UTF-8 text",
            _ => "",
        };
        let problem = format!("cannot be read: {}", plain(error));
        let (problem, remedy) = (problem, remedy.to_owned());
        let file = path.to_owned();
        Self { diagnostics: vec![Diagnostic { file, line: None, key: String::new(), problem, remedy }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

/// The text of an IO error without Rust's "(os error 2)".
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Collects mistakes about one file.
pub(super) struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    document: Option<DeTable<'a>>,
    found: Vec<Diagnostic>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let document = DeTable::parse(text).ok().map(toml::Spanned::into_inner);
        Self { file, text, document, found: Vec::new() }
    }

    /// Notes a mistake at `path`, such as `tun.mtu`, `listen.udp[1]` or `peer[0].uri`.
    pub(super) fn add(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let line =
            self.document.as_ref().and_then(|table| span_of(table, path)).map(|span| self.line(span.start));
        let (file, key) = (self.file.to_owned(), without_indices(path));
        self.found.push(Diagnostic { file, line, key, problem: problem.into(), remedy: remedy.into() });
    }

    /// As [`Problems::add`], with what the key takes as the remedy.
    pub(super) fn bad_value(&mut self, path: &str, problem: impl Into<String>) {
        let takes = keys::find(&without_indices(path)).map_or("", |key| key.takes);
        self.add(path, problem, format!("write {takes}"));
    }

    /// Notes what the parser or serde refused.
    pub(super) fn add_toml(&mut self, error: &toml::de::Error) {
        let start = error.span().map_or(0, |span| span.start);
        let line = Some(self.line(start));
        let path = self.document.as_ref().map(|table| path_at(table, start)).unwrap_or_default();
        let message = error.message();
        let (problem, remedy) = if self.document.is_none() {
            let quoted = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
            let quoted = self.text[quoted..].lines().next().unwrap_or_default().trim();
            (
                format!("not TOML: {} in `{quoted}`", message.lines().collect::<Vec<_>>().join(" ")),
                String::new(),
            )
        } else if message.starts_with("unknown field") {
            ("unknown key".to_owned(), suggest(&path))
        } else {
            let problem = message.split(", expected").next().unwrap_or(message).to_owned();
            (problem, keys::find(&path).map_or(String::new(), |key| format!("write {}", key.takes)))
        };
        self.found.push(Diagnostic { file: self.file.to_owned(), line, key: path, problem, remedy });
    }

    /// The line of a path, for messages that point at two places.
    pub(super) fn line_of(&self, path: &str) -> Option<usize> {
        self.document.as_ref().and_then(|table| span_of(table, path)).map(|span| self.line(span.start))
    }

    /// `Ok(value)` when nothing was found.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|diagnostic| diagnostic.line);
        Err(ConfigError { diagnostics: self.found })
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
    }
}

fn without_indices(path: &str) -> String {
    path.split('.').map(|step| step.split('[').next().unwrap_or(step)).collect::<Vec<_>>().join(".")
}

/// Where the value of a path stands, or its nearest parent that the file has.
fn span_of(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (name, index) = match step.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (step, None),
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let value = match (value.get_ref(), index) {
        (DeValue::Array(items), Some(index)) => items.get(index)?,
        _ => value,
    };
    match (value.get_ref(), rest) {
        (DeValue::Table(inner), Some(rest)) => span_of(inner, rest).or_else(|| Some(value.span())),
        (DeValue::Table(_), None) if index.is_none() => Some(key.span()),
        _ => Some(value.span()),
    }
}

/// The dotted path of the key or value at an offset.
fn path_at(table: &DeTable<'_>, offset: usize) -> String {
    fn within(table: &DeTable<'_>, offset: usize, path: &mut Vec<String>) -> bool {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            if key.span().contains(&offset) || value_holds(value, offset, path) {
                return true;
            }
            path.pop();
        }
        false
    }
    fn value_holds(value: &toml::Spanned<DeValue<'_>>, offset: usize, path: &mut Vec<String>) -> bool {
        match value.get_ref() {
            DeValue::Table(inner) => within(inner, offset, path),
            DeValue::Array(items) => {
                items.iter().any(|item| value_holds(item, offset, path)) || value.span().contains(&offset)
            }
            _ => value.span().contains(&offset),
        }
    }
    let mut path = Vec::new();
    within(table, offset, &mut path);
    path.join(".")
}

/// What an unknown key was probably meant to be.
fn suggest(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let known = keys::inside(section);
    let near = known.iter().map(|&word| (distance(name, word), word)).min();
    if let Some((steps, word)) = near
        && steps <= 1 + name.len() / 4
    {
        return format!("did you mean `{word}`?");
    }
    if let Some(key) = keys::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name)) {
        return format!("did you mean `{}`?", key.path);
    }
    format!("known here: {}", known.join(", "))
}

/// Levenshtein distance: insertions, deletions and replacements from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
