//! The file that `network policy set` takes.
//!
//! ```toml
//! default = "deny"            # or "allow", which is what a file without it says
//!
//! [[rule]]                    # in order: the first that fits decides
//! from  = "group:web"         # any, group:NAME, workload:NAME, member:NODE; or a list of these
//! to    = "workload:db"
//! allow = ["tcp/5432"]        # or deny = [...]
//!
//! [[test]]                    # optional: what must be so, judged before the policy is set
//! from  = "workload:web1"
//! to    = "workload:db"
//! allow = ["tcp/5432"]
//! deny  = ["tcp/22"]
//! ```
//! All mistakes are found at once, each with its place and what to write instead.

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use crate::api::{Action, Flow, Policy, Rule, Selector, Service};

/// A judged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// The policy.
    pub policy: Policy,
    /// What must be so.
    pub tests: Vec<PolicyTest>,
    /// Line of each rule in `policy`, for warnings about it. A rule with several protocols became
    /// several.
    pub rule_lines: Vec<usize>,
}

/// One expectation: a single flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTest {
    /// The flow.
    pub flow: Flow,
    /// What must happen to it.
    pub expect: Action,
    /// Where the file says so, from 1.
    pub line: usize,
}

/// One mistake: `FILE:LINE:COLUMN: PROBLEM; REMEDY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write instead; may be empty when the problem says it.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.problem)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    default: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<Entry>>,
    #[serde(default)]
    test: Vec<Spanned<Entry>>,
}

/// A `[[rule]]` or a `[[test]]`: they are written alike.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    from: Option<Spanned<OneOrMore>>,
    to: Option<Spanned<OneOrMore>>,
    allow: Option<Spanned<Vec<Spanned<String>>>>,
    deny: Option<Spanned<Vec<Spanned<String>>>>,
}

/// `"any"` or `["group:a", "group:b"]`. Read by hand: serde's untagged enums forget places.
enum OneOrMore {
    One(String),
    More(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes, or a list of these")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(OneOrMore::More(list))
            }
        }
        deserializer.deserialize_any(Take)
    }
}

/// Each text with its place.
fn texts(one_or_more: &Spanned<OneOrMore>) -> Vec<(usize, &str)> {
    match one_or_more.get_ref() {
        OneOrMore::One(text) => vec![(one_or_more.span().start, text)],
        OneOrMore::More(list) => {
            list.iter().map(|text| (text.span().start, text.get_ref().as_str())).collect()
        }
    }
}

impl PolicyFile {
    /// Judges `text`; `file` serves the messages.
    ///
    /// # Errors
    /// Every mistake, in the order of the file.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader { file, text, mistakes: Vec::new() };
        let root: Root = match toml::from_str(text) {
            Ok(root) => root,
            Err(error) => {
                reader.toml(&error);
                return Err(reader.mistakes);
            }
        };
        let default = root.default.map_or(Action::Allow, |word| reader.action(&word));
        let rules = root.rule.iter().flat_map(|entry| reader.rules(entry)).collect::<Vec<_>>();
        let (rule_lines, rules) = rules.into_iter().unzip();
        let tests = root.test.iter().flat_map(|entry| reader.test(entry)).collect();
        reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        if reader.mistakes.is_empty() {
            Ok(Self { policy: Policy { default, rules }, tests, rule_lines })
        } else {
            Err(reader.mistakes)
        }
    }
}

/// The file that says what `policy` says, without tests.
pub fn write(policy: &Policy) -> String {
    let mut text = format!("default = \"{}\"\n", policy.default.as_str());
    for rule in &policy.rules {
        let services: Vec<_> = rule.services.iter().map(|service| format!("\"{service}\"")).collect();
        let (action, services) = (rule.action.as_str(), services.join(", "));
        let (from, to) = (ends(&rule.from), ends(&rule.to));
        let _ = write!(text, "\n[[rule]]\nfrom  = {from}\nto    = {to}\n{action:<5} = [{services}]\n");
    }
    text
}

fn ends(selectors: &[Selector]) -> String {
    match selectors {
        [one] => format!("\"{one}\""),
        more => {
            let list: Vec<_> = more.iter().map(|selector| format!("\"{selector}\"")).collect();
            format!("[{}]", list.join(", "))
        }
    }
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
    }

    fn add(&mut self, offset: usize, problem: impl Into<String>, remedy: impl Into<String>) {
        let before = self.text.get(..offset).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let (problem, remedy) = (problem.into(), remedy.into());
        let mistake =
            Mistake { file: self.file.to_owned(), line: self.line(offset), column, problem, remedy };
        self.mistakes.push(mistake);
    }

    /// What the parser or serde refused.
    fn toml(&mut self, error: &toml::de::Error) {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let Some(unknown) = message.strip_prefix("unknown field ") else {
            let remedy =
                if message.starts_with("invalid type") { "see `sinew network policy --help`" } else { "" };
            return self.add(at, message, remedy);
        };
        let (name, _) = unknown.split_once(", expected").unwrap_or((unknown, ""));
        // `defalut` at the top is told apart from a key of a rule by where serde expected it.
        let known = if unknown.contains("`default`") {
            "default, [[rule]], [[test]]"
        } else {
            "from, to, allow, deny"
        };
        self.add(at, format!("unknown key {name}"), format!("known here: {known}"));
    }

    fn action(&mut self, word: &Spanned<String>) -> Action {
        match word.get_ref().as_str() {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            other => {
                let problem = format!("unknown value `{}`", other.escape_debug());
                self.add(word.span().start, problem, "write \"allow\" or \"deny\"");
                Action::Deny
            }
        }
    }

    /// What a text means; its refusal says itself what would be taken: `problem; remedy`.
    fn value<T: FromStr<Err = String>>(&mut self, at: usize, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(message) => {
                let (problem, remedy) = message.split_once("; ").unwrap_or((&message, ""));
                self.add(at, problem, remedy);
                None
            }
        }
    }

    /// Both ends of an entry.
    fn ends(&mut self, entry: &Spanned<Entry>) -> Option<(Vec<Selector>, Vec<Selector>)> {
        let mut end = |name: &str, names: &Option<Spanned<OneOrMore>>| {
            let texts = names.as_ref().map(texts).unwrap_or_default();
            if texts.is_empty() {
                let remedy = format!("add {name} = \"any\" to mean everybody");
                self.add(entry.span().start, format!("no `{name}`"), remedy);
                return None;
            }
            let known: Vec<_> = texts.iter().filter_map(|&(at, text)| self.value(at, text)).collect();
            Some(known).filter(|known| known.len() == texts.len())
        };
        let (from, to) = (end("from", &entry.get_ref().from), end("to", &entry.get_ref().to));
        Some((from?, to?))
    }

    fn services(&mut self, list: &Spanned<Vec<Spanned<String>>>) -> Vec<Service> {
        if list.get_ref().is_empty() {
            self.add(
                list.span().start,
                "an empty list applies to nothing",
                "write [\"any\"] to mean everything",
            );
        }
        list.get_ref().iter().filter_map(|text| self.value(text.span().start, text.get_ref())).collect()
    }

    /// An entry as rules with their line: one for each protocol, since a signed rule has one.
    fn rules(&mut self, entry: &Spanned<Entry>) -> Vec<(usize, Rule)> {
        let line = self.line(entry.span().start);
        let ends = self.ends(entry);
        let (action, list) = match (&entry.get_ref().allow, &entry.get_ref().deny) {
            (Some(list), None) => (Action::Allow, list),
            (None, Some(list)) => (Action::Deny, list),
            (Some(_), Some(deny)) => {
                let remedy = "make two rules, in the order you mean";
                self.add(deny.span().start, "a rule with both `allow` and `deny`", remedy);
                return Vec::new();
            }
            (None, None) => {
                let remedy = "add allow = [\"tcp/80\"] or deny = [\"any\"]";
                self.add(entry.span().start, "a rule without effect", remedy);
                return Vec::new();
            }
        };
        let services = self.services(list);
        let Some((from, to)) = ends else { return Vec::new() };
        let rule = |services| (line, Rule { from: from.clone(), to: to.clone(), action, services });
        by_protocol(services).into_iter().map(rule).collect()
    }

    fn test(&mut self, entry: &Spanned<Entry>) -> Vec<PolicyTest> {
        let ends = self.ends(entry);
        let line = self.line(entry.span().start);
        let mut tests = Vec::new();
        let lists = [(Action::Allow, &entry.get_ref().allow), (Action::Deny, &entry.get_ref().deny)];
        if lists.iter().all(|(_, list)| list.is_none()) {
            self.add(
                entry.span().start,
                "a test that expects nothing",
                "add allow = [\"tcp/80\"] or deny = [\"tcp/22\"]",
            );
        }
        for (expect, list) in lists.into_iter().filter_map(|(expect, list)| Some((expect, list.as_ref()?))) {
            for text in list.get_ref() {
                let Some(service) = self.value(text.span().start, text.get_ref()) else { continue };
                let Some((protocol, port)) = one(&service) else {
                    self.add(
                        text.span().start,
                        "a test asks about one flow",
                        "name one protocol and port, such as \"tcp/80\"",
                    );
                    continue;
                };
                let Some((from, to)) = &ends else { continue };
                for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
                    let flow = Flow { from: from.to_string(), to: to.to_string(), protocol, port };
                    tests.push(PolicyTest { flow, expect, line });
                }
            }
        }
        tests
    }
}

/// Services in groups of one protocol, in the order of their first.
fn by_protocol(services: Vec<Service>) -> Vec<Vec<Service>> {
    let number = |service: &Service| match service {
        Service::Any => None,
        Service::Protocol { number, .. } => Some(*number),
    };
    let mut groups: Vec<Vec<Service>> = Vec::new();
    for service in services {
        match groups.iter_mut().find(|group| number(&group[0]) == number(&service)) {
            Some(group) => group.push(service),
            None => groups.push(vec![service]),
        }
    }
    groups
}

/// The protocol and port of a service that stands for one flow.
pub fn one(service: &Service) -> Option<(u8, Option<u16>)> {
    /// Without a port it would be left open which flow is meant.
    const NEED_PORT: [u8; 2] = [6, 17];
    match *service {
        Service::Protocol { number, ports: Some((first, last)) } if first == last => {
            Some((number, Some(first)))
        }
        Service::Protocol { number, ports: None } if !NEED_PORT.contains(&number) => Some((number, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
