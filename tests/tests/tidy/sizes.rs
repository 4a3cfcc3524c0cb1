//! Sizes that a reader can hold: functions, files, and a first line that says why.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Finding;
use crate::source::{Source, line};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// Functions over 70 lines, from signature to closing brace, outside tests.
pub(crate) fn functions(source: &Source) -> Vec<Finding> {
    let mut visitor = Functions { source, found: Vec::new() };
    visitor.visit_file(&source.ast);
    visitor.found
}

struct Functions<'a> {
    source: &'a Source,
    found: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (line(signature.span()), block.span().end().line);
        let lines = last + 1 - first;
        if lines > FUNCTION_LINES && !self.source.is_test_line(first) {
            let text = format!("`{}` has {lines} lines, at most {FUNCTION_LINES}", signature.ident);
            self.found.push(Finding::new(self.source, first, text));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Files over 600 lines without their tests.
pub(crate) fn file(source: &Source) -> Vec<Finding> {
    let lines = source.code_lines();
    if lines <= FILE_LINES {
        return Vec::new();
    }
    let text = format!("{lines} lines without tests, at most {FILE_LINES}: split by concern");
    vec![Finding::new(source, 1, text)]
}

/// Files that do not open with `//!`. Tests beside their module need no essay.
pub(crate) fn opening(source: &Source) -> Vec<Finding> {
    let exempt = source.is_test_file() && source.path.contains("/src/");
    let documented = source.ast.attrs.iter().any(|attr| attr.path().is_ident("doc"));
    if exempt || documented {
        return Vec::new();
    }
    vec![Finding::new(source, 1, "open the module with //! why it exists and how it works")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("//! Why.\nfn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
        let check = |lines| functions(&Source::parse("crates/x/src/a.rs", &function(lines))).len();
        assert_eq!((check(70), check(71)), (0, 1));
    }

    #[test]
    fn a_long_test_is_left_alone() {
        let text = format!("#[cfg(test)]\nmod tests {{ {} }}", function(90).replace("//! Why.\n", ""));
        assert_eq!(functions(&Source::parse("crates/x/src/a.rs", &text)), []);
    }

    #[test]
    fn a_file_of_601_lines_is_found_unless_its_tests_make_it_long() {
        let check = |text: &str| file(&Source::parse("crates/x/src/a.rs", text)).len();
        assert_eq!(check(&"// x\n".repeat(601)), 1);
        assert_eq!(check(&"// x\n".repeat(600)), 0);
        assert_eq!(check(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(900))), 0);
    }

    #[test]
    fn a_module_without_a_reason_is_found() {
        let check = |text: &str| opening(&Source::parse("crates/x/src/a.rs", text)).len();
        assert_eq!((check("fn a() {}"), check("//! Why.\nfn a() {}")), (1, 0));
    }
}
