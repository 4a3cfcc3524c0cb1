//! `unsafe` only where the kernel is, and never without its argument.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Finding;
use crate::source::{Source, line};

/// How far above an `unsafe` its `// SAFETY:` may begin.
const REACH: usize = 8;

/// Every `unsafe` where none is allowed, and every one without a `// SAFETY:` comment.
pub(crate) fn check(source: &Source, allowed: bool) -> Vec<Finding> {
    let mut visitor = Unsafe { lines: Vec::new() };
    visitor.visit_file(&source.ast);
    let mut found = Vec::new();
    for at in visitor.lines {
        if !allowed {
            found.push(Finding::new(source, at, "`unsafe` outside tun, carrier and platform"));
        } else if !argued(source, at) {
            found.push(Finding::new(source, at, "`unsafe` without a `// SAFETY:` comment above it"));
        }
    }
    found
}

fn argued(source: &Source, at: usize) -> bool {
    let lines = source.text.lines().take(at).skip(at.saturating_sub(REACH + 1));
    lines.into_iter().any(|line| line.contains("// SAFETY:") || line.contains("/// # Safety"))
}

struct Unsafe {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Unsafe {
    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.lines.push(line(item.span()));
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_signature(&mut self, item: &'ast syn::Signature) {
        self.lines.extend(item.unsafety.map(|token| line(token.span())));
        visit::visit_signature(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.lines.extend(item.unsafety.map(|token| line(token.span())));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.lines.extend(item.unsafety.map(|token| line(token.span())));
        visit::visit_item_trait(self, item);
    }

    fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
        let lets_in = attr.path().is_ident("allow") || attr.path().is_ident("expect");
        if lets_in && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("unsafe_code")) {
            // The permission itself needs no argument; where it is allowed it stands in lib.rs.
            if !matches!(attr.style, syn::AttrStyle::Inner(_)) {
                self.lines.push(line(attr.span()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str, allowed: bool) -> usize {
        check(&Source::parse("crates/x/src/a.rs", text), allowed).len()
    }

    #[test]
    fn every_kind_of_unsafe_is_found_where_none_is_allowed() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl Send for X {}",
            "unsafe trait T {}",
        ] {
            assert_eq!(findings(text, false), 1, "{text}");
        }
    }

    #[test]
    fn where_it_is_allowed_it_needs_an_argument() {
        assert_eq!(findings("fn f() { unsafe { g() } }", true), 1);
        assert_eq!(
            findings("fn f() {\n    // SAFETY: g has no precondition.\n    unsafe { g() }\n}", true),
            0
        );
    }

    #[test]
    fn safe_code_passes() {
        assert_eq!(findings("fn f() { g() }", false), 0);
    }
}
