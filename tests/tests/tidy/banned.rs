//! What the pure crates may not name: anything that makes two runs from one seed differ.
//!
//! The check works on paths as written, in `use` declarations and in code, so a module that
//! holds a banned item may not be imported whole either: `use std::time;` would hide
//! `time::Instant::now()`.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Finding;
use crate::source::{Source, line};

/// Path prefix, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("std::net::UdpSocket", "return a Transmit; sockets live in `carrier`"),
    ("std::net::TcpStream", "return a Transmit; sockets live in `carrier`"),
    ("std::net::TcpListener", "return a Transmit; sockets live in `carrier`"),
    ("std::net::ToSocketAddrs", "names are resolved by the driver"),
    ("std::os", "the operating system lives in `platform`"),
    ("std::fs", "files live in `platform`"),
    ("std::io", "IO lives in the edges; the core takes and fills byte slices"),
    ("std::env", "configuration is passed in"),
    ("std::process", "the core neither starts nor ends processes"),
    ("std::thread", "the core runs on its caller's thread"),
    ("std::time::SystemTime", "take UnixMicros as an argument"),
    ("std::time::Instant", "take sinew_types::Instant as an argument"),
    ("std::collections::HashMap", "BTreeMap, or FxHashMap where it is never iterated for output"),
    ("std::collections::HashSet", "BTreeSet, or FxHashSet where it is never iterated for output"),
    ("std::collections::hash_map", "BTreeMap, or FxHashMap where it is never iterated for output"),
    ("std::hash::RandomState", "take a seed as an argument"),
    ("tokio", "async lives in `driver`"),
    ("getrandom", "take a seed as an argument"),
    ("rand_core::OsRng", "take a seed as an argument"),
    ("tracing", "return events and counted drop reasons; the driver logs"),
];

const BANNED_MACROS: &[&str] = &["println", "print", "eprintln", "eprint", "dbg"];

/// Every banned name in a file, outside its tests.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut visitor = Names { source, found: Vec::new() };
    visitor.visit_file(&source.ast);
    visitor.found
}

struct Names<'a> {
    source: &'a Source,
    found: Vec<Finding>,
}

impl Names<'_> {
    fn report(&mut self, at: usize, text: String) {
        if !self.source.is_test_line(at) {
            self.found.push(Finding::new(self.source, at, text));
        }
    }

    fn path(&mut self, at: usize, path: &str, imported: bool) {
        for (banned, instead) in BANNED {
            let below = path == *banned || path.starts_with(&format!("{banned}::"));
            let above = imported && banned.starts_with(&format!("{}::", path.trim_end_matches("::*")));
            if below {
                self.report(at, format!("`{path}` in a pure crate: {instead}"));
            } else if above {
                self.report(at, format!("import items of `{path}` one by one: it holds `{banned}`"));
                return;
            }
        }
    }

    fn tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.tree(&join(&path.ident.to_string()), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
            syn::UseTree::Name(name) if name.ident == "self" => self.path(line(name.span()), prefix, true),
            syn::UseTree::Name(name) => {
                self.path(line(name.span()), &join(&name.ident.to_string()), true);
            }
            syn::UseTree::Rename(name) => {
                self.path(line(name.span()), &join(&name.ident.to_string()), true);
            }
            syn::UseTree::Glob(glob) => self.path(line(glob.span()), &join("*"), true),
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.path(line(path.span()), &names.join("::"), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = BANNED_MACROS.iter().find(|name| call.path.is_ident(name)) {
            self.report(line(call.span()), format!("`{name}!` in a pure crate: return an event"));
        }
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Source::parse("crates/wire/src/a.rs", text)).len()
    }

    #[test]
    fn each_banned_name_is_found_imported_and_written_out() {
        for (banned, _) in BANNED {
            assert_eq!(findings(&format!("use {banned};")), 1, "use {banned}");
            assert_eq!(findings(&format!("use {banned} as Other;")), 1, "use {banned} as");
            assert_eq!(findings(&format!("fn f() {{ {banned}::now(); }}")), 1, "{banned} in code");
        }
        for name in BANNED_MACROS {
            assert_eq!(findings(&format!("fn f() {{ {name}!(\"\"); }}")), 1, "{name}!");
        }
    }

    #[test]
    fn a_module_that_holds_a_banned_item_may_not_come_in_whole() {
        for text in
            ["use std::time;", "use std::time::*;", "use std::time::{self, Duration};", "use std::net;"]
        {
            assert_eq!(findings(text), 1, "{text}");
        }
    }

    #[test]
    fn grouped_imports_are_taken_apart() {
        assert_eq!(findings("use std::{fs, collections::{BTreeMap, HashMap}, time::Duration};"), 2);
    }

    #[test]
    fn what_is_pure_passes() {
        let text = "use std::net::{IpAddr, SocketAddr};\nuse std::time::Duration;\n\
                    use std::collections::{BTreeMap, VecDeque};\nuse sinew_types::Instant;\n\
                    fn f(now: Instant) -> Duration { Duration::from_millis(1) }\n";
        assert_eq!(findings(text), 0);
    }

    #[test]
    fn tests_may_do_as_they_like() {
        assert_eq!(findings("#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn f() { println!(); }\n}"), 0);
    }
}
