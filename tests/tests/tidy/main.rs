//! Hygiene as a test: layering, sizes, what the pure crates may not touch, leftovers.
//!
//! Every check is a function from text (or `cargo metadata`) to a list of findings, and has its
//! own test with a planted fault: a check that finds nothing because it is broken is worse than
//! none. A finding names file and line, and what to do instead.

mod banned;
mod layers;
mod leftovers;
mod names;
mod sizes;
mod source;
mod unsafety;

use source::Source;

/// The pure crates (no IO, no clock, no threads, no `unsafe`): same seed and inputs, same bytes.
pub(crate) const PURE: &[&str] = &[
    "types",
    "wire",
    "noise",
    "session",
    "routing",
    "forwarding",
    "overlay",
    "path",
    "registry",
    "directory",
    "node",
    "sim",
];

/// The only crates that may hold `unsafe`: they talk to the kernel.
pub(crate) const UNSAFE_ALLOWED: &[&str] = &["tun", "carrier", "platform"];

/// One violation, ready to print.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn new(source: &Source, line: usize, text: impl Into<String>) -> Self {
        Self { place: format!("{}:{line}", source.path), text: text.into() }
    }
}

fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> =
        findings.iter().map(|finding| format!("{}: {}", finding.place, finding.text)).collect();
    assert!(lines.is_empty(), "{} findings\n{}", lines.len(), lines.join("\n"));
}

fn each_source(check: impl Fn(&Source) -> Vec<Finding>) {
    let sources = source::workspace();
    assert!(sources.len() > 30, "the walk found only {} files", sources.len());
    let findings: Vec<_> = sources.iter().flat_map(check).collect();
    assert_none(&findings);
}

#[test]
fn arrows_between_crates_go_down() {
    assert_none(&layers::check(&layers::of_workspace()));
}

#[test]
fn functions_fit_a_screen() {
    each_source(sizes::functions);
}

#[test]
fn files_stay_readable() {
    each_source(sizes::file);
}

#[test]
fn every_module_says_why_it_exists() {
    each_source(sizes::opening);
}

#[test]
fn pure_crates_touch_no_clock_socket_file_or_thread() {
    each_source(|source| if source.is_in(PURE) { banned::check(source) } else { Vec::new() });
}

#[test]
fn unsafe_stays_at_the_edge_and_is_argued_for() {
    each_source(|source| unsafety::check(source, source.is_in(UNSAFE_ALLOWED)));
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    each_source(leftovers::check);
}

#[test]
fn tests_have_names_of_their_own() {
    let tests = names::of_workspace();
    assert!(tests.len() > 40, "the walk found only {} tests", tests.len());
    assert_none(&names::check(&tests));
}
