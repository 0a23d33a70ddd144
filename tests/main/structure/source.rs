//! Rust source as its tokens, and what it names: `use` declarations and paths.

/// A word, `::`, or one other character; comments, lifetimes, and what strings and character
/// literals hold are left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// One name that a `use` declaration brings in: `use a::{b, c as d, e::*}` has three.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Import {
    /// The inline modules around it, outermost first.
    pub(super) within: Vec<String>,
    pub(super) path: Vec<String>,
    /// What it is called here; `*` for everything in `path`.
    pub(super) name: String,
    /// Whether it has a visibility of its own: `pub use`, `pub(crate) use`.
    pub(super) exported: bool,
    pub(super) line: usize,
}

/// A path of two words or more outside `use` declarations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    pub(super) within: Vec<String>,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// What one file names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Source {
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<Named>,
    /// Words outside `use` declarations, with the inline modules around them.
    pub(super) words: Vec<(Vec<String>, String)>,
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        let mut text = String::new();
        match (at(i), at(i + 1)) {
            ('/', '/') => i = end(&chars, i, "\n"),
            ('/', '*') => i = end_of_comment(&chars, i),
            ('"', _) => i = end_of_literal(&chars, i),
            ('\'', c) if c == '\\' || at(i + 2) == '\'' => i = end_of_literal(&chars, i),
            // A lifetime or a label.
            ('\'', _) => i += 1 + chars[i + 1..].iter().take_while(|c| word(**c)).count(),
            (c, _) if word(c) => {
                text = chars[i..].iter().take_while(|c| word(**c)).collect();
                i += text.chars().count();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                if ["r", "br", "cr"].contains(&text.as_str()) && at(i + hashes) == '"' {
                    text.clear();
                    i = end(&chars, i + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
                }
            }
            (':', ':') => {
                text = "::".into();
                i += 2;
            }
            (c, _) => {
                text = c.to_string();
                i += 1;
            }
        }
        if !text.trim().is_empty() {
            tokens.push(Token { text, line });
        }
        line += chars[start..i].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// The place after the next `mark`.
fn end(chars: &[char], from: usize, mark: &str) -> usize {
    let mark: Vec<char> = mark.chars().collect();
    let found = chars[from..].windows(mark.len()).position(|window| window == mark);
    found.map_or(chars.len(), |at| from + at + mark.len())
}

/// Comments of this form nest.
fn end_of_comment(chars: &[char], from: usize) -> usize {
    let (mut i, mut depth) = (from, 0);
    while i < chars.len() {
        match chars[i..] {
            ['/', '*', ..] => (i, depth) = (i + 2, depth + 1),
            ['*', '/', ..] => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

/// The place after a string or character literal, whose end is the character that it begins with.
fn end_of_literal(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() && chars[i] != chars[from] {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

pub(super) fn parse(text: &str) -> Source {
    let tokens = tokens(text);
    let is = |i: usize, text: &str| tokens.get(i).is_some_and(|token| token.text == text);
    let is_word =
        |i: usize| tokens.get(i).is_some_and(|token| token.text.starts_with(|c: char| c.is_alphabetic() || c == '_'));
    let mut source = Source::default();
    // The name of an inline module, or nothing for any other braces.
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let (within, line): (Vec<String>, usize) = (braces.iter().flatten().cloned().collect(), tokens[i].line);
        if is(i, "mod") && is_word(i + 1) && is(i + 2, "{") {
            braces.push(Some(tokens[i + 1].text.clone()));
            i += 3;
        } else if is(i, "mod") && is_word(i + 1) {
            // A declaration does not speak of the module.
            i += 2;
        } else if is(i, "{") {
            braces.push(None);
            i += 1;
        } else if is(i, "}") {
            braces.pop();
            i += 1;
        } else if is(i, "use") && !is(i + 1, "<") {
            let exported = i > 0 && (is(i - 1, "pub") || is(i - 1, ")"));
            i += 1;
            for (path, name) in use_tree(&tokens, &mut i, &[]) {
                source.imports.push(Import { within: within.clone(), path, name, exported, line });
            }
        } else if is_word(i) {
            let mut path = vec![tokens[i].text.clone()];
            while is(i + 1, "::") && is_word(i + 2) {
                i += 2;
                path.push(tokens[i].text.clone());
            }
            let first = i + 1 - (2 * path.len() - 1);
            let continues = first > 0 && is(first - 1, "::");
            let visibility = first > 0 && is(first - 1, "in") && first > 2 && is(first - 3, "pub");
            if !continues && !visibility {
                source.words.push((within.clone(), path[0].clone()));
                if path.len() > 1 {
                    source.paths.push(Named { within, path, line });
                }
            }
            i += 1;
        } else {
            i += 1;
        }
    }
    source
}

/// The paths and names of a `use` tree that begins at token `i`, which moves behind it.
fn use_tree(tokens: &[Token], i: &mut usize, before: &[String]) -> Vec<(Vec<String>, String)> {
    let mut path = before.to_vec();
    let text = |i: &mut usize| {
        let text = tokens.get(*i).map_or(";", |token| token.text.as_str());
        *i += 1;
        text
    };
    loop {
        match text(i) {
            "::" => {}
            "{" => {
                let mut found = Vec::new();
                loop {
                    match tokens.get(*i).map_or("}", |token| token.text.as_str()) {
                        "}" => break,
                        "," => *i += 1,
                        _ => found.extend(use_tree(tokens, i, &path)),
                    }
                }
                *i += 1;
                return found;
            }
            "*" => return vec![(path, "*".into())],
            "as" => {
                let name = text(i).to_owned();
                return vec![(path, name)];
            }
            "self" if !before.is_empty() => {}
            // The end of the declaration, or of this part of a list, which is the caller's.
            "," | "}" | ";" => {
                *i -= 1;
                let name = path.last().cloned().unwrap_or_default();
                return vec![(path, name)];
            }
            word => path.push(word.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    fn imports(text: &str) -> Vec<(String, String)> {
        parse(text).imports.into_iter().map(|import| (import.path.join("::"), import.name)).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        parse(text).paths.into_iter().map(|named| named.path.join("::")).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(path, name)| ((*path).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn comments_and_literals_are_no_tokens() {
        assert_eq!(words("a // crate::b\n/* c /* d */ e */ f /// g"), ["a", "f"]);
        assert_eq!(words(r#"a "b \" c" d 'e' '\'' f"#), ["a", "d", "f"]);
        assert_eq!(words("a r\"b \\\" c br##\"d \"# e\"## r#type"), ["a", "c", "r", "#", "type"]);
        assert_eq!(words("&'a T 'b: loop"), ["&", "T", ":", "loop"]);
        assert_eq!(words("a::b:c"), ["a", "::", "b", ":", "c"]);
        assert_eq!(tokens("a\n\"\n\"\n/*\n*/ b").into_iter().map(|token| token.line).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn use_declarations_are_taken_apart() {
        assert_eq!(imports("use a;"), pairs(&[("a", "a")]));
        assert_eq!(imports("use crate::a::b as c;"), pairs(&[("crate::a::b", "c")]));
        assert_eq!(imports("use super::super::A; use b::*;"), pairs(&[("super::super::A", "A"), ("b", "*")]));
        assert_eq!(
            imports("use crate::{Error, a::{self, B, c::{D as E, F}},\n g::*,};"),
            pairs(&[
                ("crate::Error", "Error"),
                ("crate::a", "a"),
                ("crate::a::B", "B"),
                ("crate::a::c::D", "E"),
                ("crate::a::c::F", "F"),
                ("crate::g", "*"),
            ])
        );
        let exported: Vec<bool> =
            parse("pub use a::B; pub(crate) use c::D; use e::F;").imports.iter().map(|i| i.exported).collect();
        assert_eq!(exported, [true, true, false]);
        // Captured lifetimes are no declaration.
        assert_eq!(imports("fn f<'a>() -> impl Fn() + use<'a> { a::b() }"), []);
    }

    #[test]
    fn paths_are_found_outside_use_declarations() {
        assert_eq!(
            paths("fn f(x: crate::a::B) { c::d(x); e(); <T as super::F>::g() }"),
            ["crate::a::B", "c::d", "super::F"]
        );
        assert_eq!(paths("Vec::<u8>::new(); a::<b::C>(); x.self::y"), ["b::C", "self::y"]);
        assert_eq!(paths("pub(in crate::a) fn b() {} pub(crate) mod c;"), Vec::<String>::new());
    }

    #[test]
    fn inline_modules_are_told_apart() {
        let source = parse("use a::A; mod b { use c::C; mod d { fn e() { f::g() } } } fn h() { i::j() }");
        let within: Vec<String> = source.imports.iter().map(|import| import.within.join("::")).collect();
        assert_eq!(within, ["", "b"]);
        let within: Vec<String> = source.paths.iter().map(|named| named.within.join("::")).collect();
        assert_eq!(within, ["b::d", ""]);
    }
}
