//! Checks that links between the repository's Markdown pages lead somewhere.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use sinew_tests::requirements::workspace_root;

use crate::exec::{Counts, Outcome};

/// Every relative link must name an existing file, and an anchor an existing heading.
pub(crate) fn check() -> Result<Outcome> {
    let root = workspace_root();
    let mut pages = BTreeMap::new();
    collect(&root, &root, &mut pages)?;
    let mut broken = 0;
    for (page, text) in &pages {
        for link in links(text) {
            if let Err(why) = resolve(&root, &pages, page, &link) {
                println!("{}: [{link}]: {why}", page.display());
                broken += 1;
            }
        }
    }
    println!("{} pages, {broken} broken links", pages.len());
    Ok(Outcome { ok: broken == 0, counts: Counts::default() })
}

fn collect(root: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "corpus" && !name.starts_with('.') {
            collect(root, &path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let key = path.strip_prefix(root).unwrap_or(&path).to_owned();
            pages.insert(key, std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Lines outside fenced code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Targets of inline links, but not of those in code spans.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let spans: String =
            line.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "code" }).collect();
        let mut rest = spans.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            found.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            rest = tail;
        }
    }
    found
}

fn resolve(
    root: &Path,
    pages: &BTreeMap<PathBuf, String>,
    page: &Path,
    link: &str,
) -> std::result::Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        normalize(&page.parent().unwrap_or(Path::new("")).join(file))
    };
    if !root.join(&target).exists() {
        return Err(format!("{} does not exist", target.display()));
    }
    match (anchor, pages.get(&target)) {
        (Some(anchor), Some(text)) if !headings(text).iter().any(|heading| heading == anchor) => {
            Err(format!("{} has no heading `{anchor}`", target.display()))
        }
        _ => Ok(()),
    }
}

fn normalize(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Anchors as forges make them: lower case, spaces to dashes, other punctuation away.
fn headings(text: &str) -> Vec<String> {
    let titles = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    titles.map(anchor).chain(explicit_anchors(text)).collect()
}

/// Anchors that a page sets by itself: `<a id="name"></a>`.
fn explicit_anchors(text: &str) -> impl Iterator<Item = String> {
    let after = |part: &str| part.split_once('"').map(|(name, _)| name.to_owned());
    text.split("<a id=\"").skip(1).filter_map(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "See [a](a.md) and [b](b.md#x \"t\").\n```\n[no](no.md)\n```\nNor `[c](c.md)`.\n";
        assert_eq!(links(text), ["a.md", "b.md#x"]);
    }

    #[test]
    fn a_missing_page_and_a_missing_heading_are_reported() {
        let root = workspace_root();
        let page = PathBuf::from("Cargo.toml");
        let pages = BTreeMap::from([(page.clone(), "# One title!\n".to_owned())]);
        let check = |link| resolve(&root, &pages, &page, link);
        assert_eq!(check("#one-title"), Ok(()));
        assert_eq!(check("https://example.org/x"), Ok(()));
        assert_eq!(check("tests/Cargo.toml"), Ok(()));
        assert!(check("#two").is_err() && check("nowhere.md").is_err());
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(headings("# A b\n## `c` d, e\n"), ["a-b", "c-d-e"]);
        assert_eq!(headings("<a id=\"d1\"></a>\n# A\n"), ["a", "d1"]);
    }
}
