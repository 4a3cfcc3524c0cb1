//! Integration tests have names of their own: the tiers name them to cargo for the workspace as a whole, and two of
//! one name would both run.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Finding;

/// Package folder and name of each integration test.
pub(crate) fn of_workspace() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries =
        |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names = Vec::new();
    for package in
        entries(&root).chain(entries(&root.join("crates"))).filter(|path| path.join("Cargo.toml").is_file())
    {
        for test in entries(&package.join("tests")) {
            let file = test.extension().is_some_and(|extension| extension == "rs");
            if let Some(name) = test.file_stem().filter(|_| file || test.join("main.rs").is_file()) {
                names.push((package.display().to_string(), name.to_string_lossy().into_owned()));
            }
        }
    }
    names
}

pub(crate) fn check(tests: &[(String, String)]) -> Vec<Finding> {
    let mut known = BTreeMap::new();
    let mut findings = Vec::new();
    for (package, name) in tests {
        if let Some(other) = known.insert(name, package) {
            let text = format!("a test of this name is in {other}: give one of them another");
            findings.push(Finding { place: format!("{package}/tests/{name}"), text });
        }
    }
    findings
}

#[test]
fn two_of_one_name_are_found() {
    let tests = [("a", "x"), ("a", "y"), ("b", "x")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(check(&tests).len(), 1);
    assert!(check(&tests[..2]).is_empty());
}
