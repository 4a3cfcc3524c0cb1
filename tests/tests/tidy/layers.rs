//! Layering: the table of allowed arrows between crates, held against `cargo metadata`.
//!
//! Arrows go down. Siblings on one row never import each other; they meet in `node` through
//! event values. A crate that is not in the table is refused, so that nobody adds one without
//! deciding where it stands.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::Finding;

/// Crate and what it may use, without the `sinew-` prefix. `ARCHITECTURE.md` draws the same.
const ALLOWED: &[(&str, &[&str])] = &[
    // vocabulary
    ("types", &[]),
    ("wire", &["types"]),
    ("noise", &["types"]),
    // mechanisms
    ("session", &["types", "wire", "noise"]),
    ("routing", &["types", "wire"]),
    ("forwarding", &["types", "wire"]),
    ("overlay", &["types", "wire"]),
    ("path", &["types", "wire"]),
    ("registry", &["types"]),
    ("directory", &["types", "wire"]),
    // composition
    ("node", &["types", "wire", "noise", "session", "routing", "forwarding", "overlay", "path", "directory"]),
    ("sim", &["types", "wire", "node"]),
    // edges
    ("carrier", &["types"]),
    ("tun", &["types"]),
    ("platform", &["types"]),
    ("helper", &["types", "tun", "platform"]),
    ("discovery", &["types", "wire", "directory"]),
    ("store", &["types"]),
    ("dns", &["types"]),
    ("gateway", &[]),
    ("acme", &["platform"]),
    ("control", &["types"]),
    // shell
    (
        "driver",
        &[
            "types",
            "wire",
            "node",
            "carrier",
            "tun",
            "platform",
            "helper",
            "discovery",
            "gateway",
            "registry",
            "acme",
            "store",
            "dns",
            "control",
        ],
    ),
    // binaries
    ("daemon", &["types", "node", "driver", "helper", "control", "platform"]),
    ("cli", &["types", "control", "platform", "overlay"]),
    ("cni", &["types", "control", "platform"]),
];

/// What the tests of a crate may use beyond that.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[
    ("driver", &["noise", "session", "forwarding"]),
    // The example that runs the front on its own orders certificates for it.
    ("gateway", &["acme"]),
];

/// Whole-system tests, the benchmark and developer commands stand outside the picture and may see all.
const OUTSIDE: &[&str] = &["tests", "bench", "xtask"];

/// External crates that would bring IO, a clock or threads into the pure crates, or serde into
/// the core (control alone has it).
const FOREIGN: &[&str] = &[
    "tokio",
    "serde",
    "serde_json",
    "tracing",
    "socket2",
    "nix",
    "libc",
    "rtnetlink",
    "getrandom",
    "rand",
    "tun",
    "quinn-udp",
    "axum",
    "hyper",
];

/// One arrow: crate, the package that it uses, whether only its tests do. `to` keeps the
/// `sinew-` prefix, because foreign packages may bear the same name as one of our crates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) dev: bool,
}

/// The arrows of this workspace.
pub(crate) fn of_workspace() -> Vec<Arrow> {
    let root = sinew_tests::requirements::workspace_root();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let members: BTreeSet<_> = metadata.packages.iter().map(|package| package.id.clone()).collect();
    let mut arrows = Vec::new();
    for package in metadata.packages.iter().filter(|package| members.contains(&package.id)) {
        arrows.extend(package.dependencies.iter().map(|dependency| Arrow {
            from: short(&package.name),
            to: dependency.name.clone(),
            dev: dependency.kind == DependencyKind::Development,
        }));
    }
    assert!(arrows.len() > 50, "cargo metadata gave only {} arrows", arrows.len());
    arrows
}

fn short(name: &str) -> String {
    name.strip_prefix("sinew-").map_or_else(|| name.to_owned(), |rest| rest.to_owned())
}

/// Arrows that the table does not allow.
pub(crate) fn check(arrows: &[Arrow]) -> Vec<Finding> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let in_tests: BTreeMap<_, _> = ALLOWED_IN_TESTS.iter().copied().collect();
    let mut found = Vec::new();
    for Arrow { from, to, dev } in arrows {
        if OUTSIDE.contains(&from.as_str()) {
            continue;
        }
        let place = format!("{from} -> {to}");
        let Some(table) = allowed.get(from.as_str()) else {
            found.push(Finding { place, text: format!("`{from}` is not in the table of layers") });
            continue;
        };
        let extra = |own: &str| in_tests.get(from.as_str()).is_some_and(|list| *dev && list.contains(&own));
        match to.strip_prefix("sinew-") {
            Some(own) if !table.contains(&own) && !extra(own) => {
                let text = format!("`{from}` may use only [{}]", table.join(", "));
                found.push(Finding { place, text });
            }
            None if !dev && crate::PURE.contains(&from.as_str()) && FOREIGN.contains(&to.as_str()) => {
                found.push(Finding { place, text: format!("`{to}` does not belong into a pure crate") });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(from: &str, to: &str, dev: bool) -> usize {
        check(&[Arrow { from: from.into(), to: to.into(), dev }]).len()
    }

    #[test]
    fn siblings_and_upward_arrows_are_found() {
        assert_eq!(findings("session", "sinew-routing", false), 1);
        assert_eq!(findings("types", "sinew-wire", false), 1);
        assert_eq!(findings("routing", "sinew-node", false), 1);
        assert_eq!(findings("cli", "sinew-driver", false), 1);
        assert_eq!(findings("session", "sinew-wire", false), 0);
    }

    #[test]
    fn what_only_tests_use_is_held_to_its_own_table() {
        assert_eq!(findings("session", "sinew-routing", true), 1);
        assert_eq!(findings("driver", "sinew-session", true), 0);
        assert_eq!(findings("driver", "sinew-session", false), 1);
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        assert_eq!(findings("mystery", "sinew-types", false), 1);
        assert_eq!(findings("xtask", "sinew-anything", false), 0);
    }

    #[test]
    fn io_crates_are_kept_out_of_the_pure_ones() {
        assert_eq!(findings("node", "tokio", false), 1);
        assert_eq!(findings("node", "serde", false), 1);
        assert_eq!(findings("driver", "tokio", false), 0);
        assert_eq!(findings("tun", "tun", false), 0, "the foreign package of the same name");
    }
}
