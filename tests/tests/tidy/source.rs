//! The workspace's Rust files, parsed once, with their test code marked.

use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One parsed file.
pub(crate) struct Source {
    /// Path from the workspace's root.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) ast: syn::File,
    /// Line ranges (first, last) that only tests compile.
    test_lines: Vec<(usize, usize)>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let ast = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut finder = TestFinder(Vec::new());
        finder.visit_file(&ast);
        Self { path: path.to_owned(), text: text.to_owned(), ast, test_lines: finder.0 }
    }

    /// Whether the file lies in the folder of one of `crates`.
    pub(crate) fn is_in(&self, crates: &[&str]) -> bool {
        crates.iter().any(|name| self.path.starts_with(&format!("crates/{name}/src/")))
    }

    /// Whether the whole file is test code: the labs, integration tests, `foo/tests.rs`.
    pub(crate) fn is_test_file(&self) -> bool {
        let parts: Vec<_> = self.path.split('/').collect();
        self.path.starts_with("tests/") || parts.contains(&"tests") || self.path.ends_with("tests.rs")
    }

    /// Whether only tests compile this line.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|&(first, last)| (first..=last).contains(&line))
    }

    /// Lines that are not test code.
    pub(crate) fn code_lines(&self) -> usize {
        (1..=self.text.lines().count()).filter(|&line| !self.is_test_line(line)).count()
    }
}

/// First line of a span.
pub(crate) fn line(span: Span) -> usize {
    span.start().line
}

struct TestFinder(Vec<(usize, usize)>);

impl TestFinder {
    fn mark(&mut self, attrs: &[syn::Attribute], span: Span) {
        if attrs.iter().any(is_test_attribute) {
            let first = attrs.iter().map(|attr| line(attr.span())).min().unwrap_or_else(|| line(span));
            self.0.push((first, span.end().line));
        }
    }
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.mark(&item.attrs, item.span());
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.mark(&item.attrs, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.mark(&item.attrs, item.span());
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.mark(&item.attrs, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.mark(&item.attrs, item.span());
    }
}

fn is_test_attribute(attr: &syn::Attribute) -> bool {
    if attr.path().is_ident("test") {
        return true;
    }
    attr.path().is_ident("cfg") && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

/// Every Rust file of the workspace.
pub(crate) fn workspace() -> Vec<Source> {
    let root = sinew_tests::requirements::workspace_root();
    let mut files = Vec::new();
    for folder in ["crates", "daemon", "cli", "tests", "bench", "xtask", "fuzz"] {
        walk(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |file: &PathBuf| {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let path = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        Source::parse(&path, &text)
    };
    files.iter().map(read).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                walk(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_told_from_code() {
        let text = "fn code() {}\n#[cfg(test)]\nmod tests {\n    fn helper() {}\n}\nfn more() {}\n";
        let source = Source::parse("crates/x/src/a.rs", text);
        let marked: Vec<_> = (1..=6).filter(|&line| source.is_test_line(line)).collect();
        assert_eq!(marked, [2, 3, 4, 5]);
        assert_eq!(source.code_lines(), 2);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        let is_test = |path| Source::parse(path, "").is_test_file();
        assert!(is_test("crates/x/src/foo/tests.rs") && is_test("crates/x/src/foo/tests/deep.rs"));
        assert!(is_test("crates/x/tests/it.rs") && is_test("tests/src/lab.rs"));
        assert!(!is_test("crates/x/src/foo.rs"));
    }
}
