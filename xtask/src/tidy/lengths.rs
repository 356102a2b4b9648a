//! How long functions and files are. What is too long does too much.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Block, Signature};

use super::source::{Source, line};

/// A function is shorter than this, from `fn` to its closing brace.
pub(super) const FUNCTION_LINES: usize = 70;
/// A file is shorter than this.
pub(super) const FILE_LINES: usize = 500;

/// Something with a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub file: std::path::PathBuf,
    pub line: usize,
    /// The function's name; nothing for the whole file.
    pub function: Option<String>,
    pub lines: usize,
}

impl Measure {
    pub(super) fn limit(&self) -> usize {
        if self.function.is_some() { FUNCTION_LINES } else { FILE_LINES }
    }
}

/// The file and its functions.
pub(super) fn measure(source: &Source) -> Vec<Measure> {
    let mut functions = Functions::default();
    functions.visit_file(&source.syntax);
    let file =
        Measure { file: source.path.clone(), line: 1, function: None, lines: source.text.lines().count() };
    let functions = functions.0.into_iter().map(|(name, from, to)| Measure {
        file: source.path.clone(),
        line: from,
        function: Some(name),
        lines: to - from + 1,
    });
    std::iter::once(file).chain(functions).collect()
}

/// Name, first and last line of each function.
#[derive(Default)]
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn add(&mut self, signature: &Signature, body: &Block) {
        let first = signature.constness.map_or_else(|| signature.fn_token.span, |word| word.span);
        let first = signature.asyncness.map_or(first, |word| word.span);
        self.record(signature.ident.to_string(), first, body.brace_token.span.close());
    }

    fn record(&mut self, name: String, first: Span, last: Span) {
        self.0.push((name, line(first), last.end().line));
    }

    /// Functions inside a macro's tokens (`proptest!`, `macro_rules!`): `fn name … { … }`.
    fn in_tokens(&mut self, tokens: TokenStream) {
        let mut open: Option<(String, Span)> = None;
        let mut after_fn: Option<Span> = None;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "fn" => after_fn = Some(word.span()),
                TokenTree::Ident(word) => {
                    if let Some(span) = after_fn.take() {
                        open = Some((word.to_string(), span));
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == ';' => open = None,
                TokenTree::Group(group) => {
                    after_fn = None;
                    if group.delimiter() == Delimiter::Brace
                        && let Some((name, first)) = open.take()
                    {
                        self.record(name, first, group.span_close());
                    }
                    self.in_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.in_tokens(item.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::sample;
    use super::*;

    #[test]
    fn functions_are_measured_wherever_they_are() {
        let text = "//! D\nfn a() {\n}\nimpl T {\n    pub async fn b() {\n\n    }\n}\ntrait U {\n    fn c();\n    fn d() {}\n}\n\
                    proptest! {\n    #[test]\n    fn e(n in 0..3_u8) {\n        f();\n    }\n}\nfn g() {\n    fn h() {}\n}\n";
        let measures = measure(&sample("a.rs", text));
        let found: Vec<_> =
            measures.iter().map(|m| (m.function.as_deref().unwrap_or("file"), m.line, m.lines)).collect();
        let expected = [
            ("file", 1, 21),
            ("a", 2, 2),
            ("b", 5, 3),
            ("d", 11, 1),
            ("e", 15, 3),
            ("g", 19, 3),
            ("h", 20, 1),
        ];
        assert_eq!(found, expected);
    }
}
