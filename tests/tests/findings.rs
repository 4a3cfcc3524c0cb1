//! The page of findings tells the truth: what it names exists.
//!
//! `docs/protocol/08-findings.md` says for each finding which function enforces its rule and which
//! tests fail without it. Functions move and tests are renamed; this finds what the page missed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Findings that must have a row: all that concern what is built (protocol 0.5).
const MUST: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17];
const SHOULD: &[u32] = &[18, 19, 20, 21, 22, 23, 25, 26, 27, 28, 29, 30, 31, 32];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read(&root().join("docs/protocol/08-findings.md"))
}

/// One line of a table: finding or counter, rule, functions, tests, what was taken out.
struct Row {
    name: String,
    rule: String,
    functions: Vec<String>,
    tests: Vec<String>,
    seen: String,
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows(page: &str) -> Vec<Row> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    let cells = cells.filter(|cells| cells[0] != "#" && cells[0] != "counted as");
    let row = |cells: Vec<&str>| {
        let [name, rule, functions, tests, seen] = cells[..] else { panic!("not five cells: {cells:?}") };
        Row {
            name: name.into(),
            rule: rule.into(),
            functions: quoted(functions),
            tests: quoted(tests),
            seen: seen.into(),
        }
    };
    cells.map(row).collect()
}

/// Rust sources below `dir`.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name of the function that begins in `line`.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let starts = before.is_empty() || before.ends_with(' ');
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    starts.then_some(&after[..end])
}

/// Names of the tests in one source text.
fn tests_in(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        marked |= line == "#[test]";
        if let Some(name) = function(line) {
            if marked {
                names.insert(name.to_owned());
            }
            marked = false;
        }
    }
    names
}

#[test]
fn every_test_on_the_page_exists_in_its_crate() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows(&page()) {
        assert!(!row.tests.is_empty(), "{}: {} has no test", row.name, row.rule);
        for test in row.tests {
            let (krate, name) = test.split_once("::").unwrap_or_else(|| panic!("`{test}` is no crate::test"));
            let tests = known.entry(krate.to_owned()).or_insert_with(|| {
                let mut files = Vec::new();
                sources(&root().join("crates").join(krate), &mut files);
                files.iter().flat_map(|path| tests_in(&read(path))).collect()
            });
            assert!(tests.contains(name), "{}: there is no test `{name}` in crates/{krate}", row.name);
        }
    }
}

#[test]
fn every_function_on_the_page_exists_in_its_file() {
    for row in rows(&page()) {
        assert!(!row.functions.is_empty(), "{}: {} is enforced nowhere", row.name, row.rule);
        for place in row.functions {
            let (file, name) =
                place.split_once(':').unwrap_or_else(|| panic!("`{place}` is no file:function"));
            let text = read(&root().join("crates").join(file));
            let found = text.lines().any(|line| function(line) == Some(name));
            assert!(found, "{}: there is no function `{name}` in crates/{file}", row.name);
        }
    }
}

#[test]
fn every_finding_about_what_is_built_has_a_row_and_each_row_was_seen_to_fail() {
    let rows = rows(&page());
    for finding in MUST.iter().chain(SHOULD) {
        assert!(rows.iter().any(|row| row.name == finding.to_string()), "finding {finding} has no row");
    }
    for row in rows {
        assert!(!row.seen.is_empty(), "{}: {} was never taken out", row.name, row.rule);
    }
}

/// How a heading is named in links: GitHub's way.
fn slug(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_page_leads_to_a_heading() {
    let (page, dir) = (page(), root().join("docs/protocol"));
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    for target in targets {
        let (file, anchor) = target.split_once('#').unwrap_or_else(|| panic!("`{target}` has no anchor"));
        let text = read(&dir.join(file));
        let mut headings = text.lines().filter_map(|line| line.strip_prefix('#'));
        let heading = headings.any(|line| slug(line.trim_start_matches('#').trim()) == anchor);
        assert!(heading || text.contains(&format!("id=\"{anchor}\"")), "`{target}` leads nowhere");
    }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let text = "#[test]\n#[ignore]\nfn a() {}\nfn b() {}\n    #[test]\n    fn c() {\n}\n// #[test] fn d()\n";
    assert_eq!(tests_in(text), BTreeSet::from(["a".to_owned(), "c".to_owned()]));
    assert_eq!(function("    pub(crate) const fn x<T>(t: T)"), Some("x"));
    assert_eq!(function("let often = 1;"), None);
}
