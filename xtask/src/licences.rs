//! Licences, bans and sources of all dependencies.
//!
//! `cargo deny` does it where it is installed. It cannot always be had, so the same `deny.toml`
//! is otherwise checked here against `cargo metadata`: every licence expression must be
//! satisfiable from the allow list, no denied crate may appear, every package must come from an
//! allowed registry. Only packages that are built for the targets of `[graph]` count, as with
//! `cargo deny`: metadata also lists what a dependency would take under features nobody asked for.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sinew_tests::requirements::workspace_root;

use crate::exec::{Counts, Outcome, cargo};

/// The tier.
pub(crate) fn check() -> Result<Outcome> {
    let installed = Command::new("cargo").args(["deny", "--version"]).output();
    if installed.is_ok_and(|output| output.status.success()) {
        return cargo(&["deny", "check", "licenses", "bans", "sources"], &[]);
    }
    println!("cargo-deny is not installed: deny.toml is checked against cargo metadata by our own code");
    let text = std::fs::read_to_string(workspace_root().join("deny.toml"))?;
    let mut policy = Policy::parse(&text)?;
    let built = built(&policy.targets)?;
    policy.excuse(&built)?;
    let mut packages = packages()?;
    packages.retain(|package| built.contains(&format!("{} v{}", package.name, package.version)));
    let mut findings = 0;
    for finding in packages.iter().filter_map(|package| policy.judge(package)) {
        println!("{finding}");
        findings += 1;
    }
    println!("{} packages, {findings} findings", packages.len());
    Ok(Outcome { ok: findings == 0, counts: Counts::default() })
}

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
}

/// Output of a cargo command that only looks.
fn ask(args: &[&str]) -> Result<Vec<u8>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).current_dir(workspace_root()).args(args).output();
    let output = output.with_context(|| format!("cannot run cargo {}", args[0]))?;
    if !output.status.success() {
        bail!("cargo {}: {}", args[0], String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// Every package that is built for one of `targets`, as "name vVERSION".
fn built(targets: &[String]) -> Result<BTreeSet<String>> {
    let mut built = BTreeSet::new();
    for target in targets {
        let tree = ["tree", "--workspace", "--all-features", "--prefix", "none", "--target", target];
        let text = String::from_utf8(ask(&tree)?)?;
        // Behind name and version stand a folder or marks.
        let named = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?))
        });
        built.extend(named);
    }
    if built.is_empty() {
        bail!("cargo tree lists nothing for the targets of `[graph]` in deny.toml");
    }
    Ok(built)
}

/// What depends on a crate itself, for any of `targets`.
fn parents(name: &str, targets: &[String]) -> Result<BTreeSet<String>> {
    let mut parents = BTreeSet::new();
    for target in targets {
        let tree = [
            "tree",
            "--workspace",
            "--all-features",
            "--prefix",
            "depth",
            "--invert",
            name,
            "--target",
            target,
        ];
        let text = String::from_utf8(ask(&tree)?)?;
        // "0ring v0.17.14", "1snow v0.10.0", "2libp2p-noise v0.47.0".
        let direct = text.lines().filter_map(|line| line.strip_prefix('1')?.split(' ').next());
        parents
            .extend(direct.filter(|name| !name.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned));
    }
    Ok(parents)
}

fn packages() -> Result<Vec<Package>> {
    let json: Value =
        serde_json::from_slice(&ask(&["metadata", "--format-version", "1", "--all-features"])?)?;
    let list = json["packages"].as_array().context("cargo metadata lists packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(list
        .iter()
        .map(|package| Package {
            name: text(&package["name"]).unwrap_or_default(),
            version: text(&package["version"]).unwrap_or_default(),
            licence: text(&package["license"]),
            source: text(&package["source"]),
        })
        .collect())
}

struct Policy {
    allow: Vec<String>,
    /// Crate and the licences allowed for it alone.
    exceptions: Vec<(String, Vec<String>)>,
    /// Crate, and those that may bring it in all the same.
    deny: Vec<(String, Vec<String>)>,
    registries: Vec<String>,
    targets: Vec<String>,
}

impl Policy {
    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().context("deny.toml")?;
        let section = |name: &str| table.get(name).with_context(|| format!("deny.toml has no [{name}]"));
        let (licenses, bans, sources) = (section("licenses")?, section("bans")?, section("sources")?);
        let with = |list: Option<&toml::Value>, key: &str| {
            let entries = list.and_then(toml::Value::as_array).cloned().unwrap_or_default();
            entries
                .into_iter()
                .filter_map(|entry| {
                    let name = entry.get("crate")?.as_str()?.to_owned();
                    Some((name, strings(entry.get(key))))
                })
                .collect::<Vec<_>>()
        };
        Ok(Self {
            allow: strings(licenses.get("allow")),
            exceptions: with(licenses.get("exceptions"), "allow"),
            deny: with(bans.get("deny"), "wrappers"),
            registries: strings(sources.get("allow-registry")),
            targets: strings(section("graph")?.get("targets")),
        })
    }

    /// Drops the bans of crates that come in by nobody but their wrappers.
    fn excuse(&mut self, built: &BTreeSet<String>) -> Result<()> {
        let mut excused = BTreeSet::new();
        for (name, wrappers) in self.deny.iter().filter(|(_, wrappers)| !wrappers.is_empty()) {
            if built.iter().any(|package| package.split(' ').next() == Some(name)) {
                let parents = parents(name, &self.targets)?;
                if parents.iter().all(|parent| wrappers.contains(parent)) {
                    excused.insert(name.clone());
                }
            }
        }
        self.deny.retain(|(name, _)| !excused.contains(name));
        Ok(())
    }

    fn judge(&self, package: &Package) -> Option<String> {
        let Package { name, version, licence, source } = package;
        if self.deny.iter().any(|(denied, _)| denied == name) {
            return Some(format!("{name} {version} is banned"));
        }
        let known = |source: &String| {
            self.registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry.as_str()))
        };
        if let Some(source) = source.as_ref().filter(|source| !known(source)) {
            return Some(format!("{name} {version} comes from {source}"));
        }
        let Some(licence) = licence else {
            return Some(format!("{name} {version} states no licence"));
        };
        let extra = self.exceptions.iter().filter(|(of, _)| of == name).flat_map(|(_, allow)| allow);
        let allowed: Vec<_> = self.allow.iter().chain(extra).map(String::as_str).collect();
        match satisfied(licence, &allowed) {
            Some(true) => None,
            Some(false) => Some(format!("{name} {version}: licence `{licence}` is not allowed")),
            None => Some(format!("{name} {version}: licence `{licence}` cannot be read")),
        }
    }
}

fn strings(value: Option<&toml::Value>) -> Vec<String> {
    let list = value.and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
}

/// Whether an SPDX expression can be met from `allowed`; `None` if it is not one.
/// Grammar: or := and ("OR" and)*, and := term ("AND" term)*, term := "(" or ")" | id ["WITH" id].
fn satisfied(expression: &str, allowed: &[&str]) -> Option<bool> {
    // The old form "MIT/Apache-2.0" means OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let result = reader.any()?;
    reader.words.is_empty().then_some(result)
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a [&'a str],
}

impl Reader<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut result = self.all()?;
        while self.take("OR") {
            result |= self.all()?;
        }
        Some(result)
    }

    fn all(&mut self) -> Option<bool> {
        let mut result = self.term()?;
        while self.take("AND") {
            result &= self.term()?;
        }
        Some(result)
    }

    fn term(&mut self) -> Option<bool> {
        if self.take("(") {
            let inner = self.any()?;
            return self.take(")").then_some(inner);
        }
        let mut id = (*self.next()?).to_owned();
        if self.take("WITH") {
            id = format!("{id} WITH {}", self.next()?);
        }
        Some(self.allowed.contains(&id.as_str()))
    }

    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        (!matches!(*first, "OR" | "AND" | "WITH" | ")" | "(")).then_some(*first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[&str] = &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];

    #[test]
    fn expressions_are_read_as_spdx_defines_them() {
        let table = [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("GPL-3.0/MIT", Some(true)),
            ("GPL-3.0 AND MIT", Some(false)),
            ("ISC AND (GPL-3.0 OR MIT)", Some(true)),
            ("MIT AND ISC OR GPL-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("Apache-2.0", Some(false)),
            ("(MIT", None),
            ("MIT OR", None),
            ("", None),
            ("MIT ISC", None),
        ];
        for (expression, expected) in table {
            assert_eq!(satisfied(expression, ALLOWED), expected, "{expression}");
        }
    }

    fn package(name: &str, licence: Option<&str>, source: Option<&str>) -> Package {
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.map(Into::into),
            source: source.map(Into::into),
        }
    }

    #[test]
    fn a_banned_crate_is_excused_only_where_its_wrappers_alone_bring_it_in() {
        let policy = |wrappers: &str| {
            let text = format!(
                "[graph]\ntargets = [\"x86_64-unknown-linux-gnu\"]\n[licenses]\n[bans]\n\
                 deny = [{{ crate = \"libc\", wrappers = [{wrappers}] }}]\n[sources]\n"
            );
            let mut policy = Policy::parse(&text).unwrap();
            policy.excuse(&BTreeSet::from(["libc v0.2.1".to_owned()])).unwrap();
            policy.deny.len()
        };
        let all = parents("libc", &["x86_64-unknown-linux-gnu".to_owned()]).unwrap();
        assert!(all.len() > 3, "{all:?}");
        let list: Vec<_> = all.iter().map(|name| format!("\"{name}\"")).collect();
        assert_eq!(policy(&list.join(", ")), 0);
        assert_eq!(policy(&list[1..].join(", ")), 1, "one that is no wrapper");
        assert_eq!(policy(""), 1);
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        let policy = Policy::parse(
            "[graph]\ntargets = []\n[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"odd\", allow = [\"ODD\"] }]\n\
             [bans]\ndeny = [{ crate = \"evil\" }]\n[sources]\nallow-registry = [\"https://good\"]\n",
        )
        .unwrap();
        let judge = |name, licence, source| policy.judge(&package(name, licence, source)).is_none();
        assert!(judge("fine", Some("MIT"), None));
        assert!(judge("fine", Some("MIT"), Some("registry+https://good")));
        assert!(judge("odd", Some("ODD"), None));
        assert!(!judge("other", Some("ODD"), None));
        assert!(!judge("evil", Some("MIT"), None));
        assert!(!judge("far", Some("MIT"), Some("git+https://elsewhere")));
        assert!(!judge("bare", None, None));
    }
}
