//! Nothing is left for later in the code: what is open stands in an issue.

use crate::Finding;
use crate::source::Source;

/// Split, so that this file does not find itself.
const WORDS: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME")];

/// Lines with a leftover marker, tests included.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().zip(1..);
    let hit = |text: &str| WORDS.iter().find(|word| text.contains(**word)).copied();
    lines
        .filter_map(|(text, at)| {
            let word = hit(text)?;
            Some(Finding::new(source, at, format!("`{word}` left behind: do it, or file an issue")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_marker_is_found() {
        for word in WORDS {
            let source = Source::parse("crates/x/src/a.rs", &format!("fn f() {{}}\n// {word}\n"));
            assert_eq!(check(&source).len(), 1, "{word}");
        }
        assert_eq!(check(&Source::parse("crates/x/src/a.rs", "// a to-do list is fine\n")), []);
    }
}
