//! A statement's text in tokens, to put another statement together from parts of it.
//!
//! Nothing is decided by them: what is put together goes to the guard like any other text.

/// A word, a quoted text or a sign. Blanks and comments are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    /// Where it begins in the statement, in bytes.
    pub(super) at: usize,
    /// How many brackets it stands in; a bracket itself counts as outside.
    pub(super) depth: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// Whether it is this word, unquoted, in whatever case.
    pub(super) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// Takes a text apart, as far as it is asked for.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let (mut at, mut depth) = (0, 0usize);
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let blank = blank(rest);
            if blank == 0 {
                break;
            }
            at += blank;
        }
        let rest = text.get(at..)?;
        let found = rest.get(..token(rest)).unwrap_or(rest);
        if matches!(found, ")" | "]" | "}") {
            depth = depth.saturating_sub(1);
        }
        let token = Token { text: found, at, depth };
        if matches!(found, "(" | "[" | "{") {
            depth += 1;
        }
        at += found.len();
        Some(token)
    })
}

/// The length of a blank or a comment at the start of a text; 0 for anything else.
fn blank(rest: &str) -> usize {
    let after = |end: Option<usize>| end.unwrap_or(rest.len());
    match rest {
        _ if rest.starts_with("--") => after(rest.find('\n')),
        _ if rest.starts_with("/*") => after(rest.find("*/").map(|end| end + 2)),
        _ => rest.chars().next().filter(|c| c.is_whitespace()).map_or(0, char::len_utf8),
    }
}

/// The length of the token at the start of a text that doesn't begin with a blank.
fn token(rest: &str) -> usize {
    let first = rest.chars().next().unwrap_or(' ');
    match first {
        '\'' | '"' => quoted(rest, first, false),
        'e' | 'E' if rest.get(1..).is_some_and(|rest| rest.starts_with('\'')) => {
            1 + quoted(rest.get(1..).unwrap_or(""), '\'', true)
        }
        '$' => dollars(rest),
        _ if is_of_word(first) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
        _ => first.len_utf8(),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The length of a text in quotes. A doubled quote falls into two such texts, which is as good.
fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if escapes => drop(characters.next()),
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of `$tag$…$tag$`, or of `$1`.
fn dollars(rest: &str) -> usize {
    let tag = rest.get(1..).and_then(|rest| rest.find(|c| c == '$' || !is_of_word(c)));
    let tag = tag.and_then(|end| rest.get(..end + 2)).filter(|tag| tag.ends_with('$'));
    match tag {
        Some(tag) => {
            let inside = rest.get(tag.len()..).unwrap_or("");
            inside.find(tag).map_or(rest.len(), |end| 2 * tag.len() + end)
        }
        None => 1 + rest.get(1..).map_or(0, |r| r.find(|c| !is_of_word(c)).unwrap_or(r.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn words_quotes_and_signs() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("SELECT a.b", &["SELECT", "a", ".", "b"]),
            ("a -- b\n c", &["a", "c"]),
            ("a /* ; */ b", &["a", "b"]),
            ("'x;''y' z", &["'x;'", "'y'", "z"]),
            ("E'x\\'y' z", &["E'x\\'y'", "z"]),
            ("\"a b\"(1)", &["\"a b\"", "(", "1", ")"]),
            ("$$a;b$$ c", &["$$a;b$$", "c"]),
            ("$t$a $$ b$t$;", &["$t$a $$ b$t$", ";"]),
            ("$1+$2", &["$1", "+", "$2"]),
            ("'never ends", &["'never ends"]),
            ("/* never ends", &[]),
            ("$t$ never ends", &["$t$ never ends"]),
            ("é='ü'", &["é", "=", "'ü'"]),
        ];
        for (text, parts) in cases {
            let found: Vec<&str> = tokens(text).map(|token| token.text).collect();
            assert_eq!(&found, parts, "{text}");
        }
    }

    #[test]
    fn brackets_count() {
        let depths: Vec<usize> = tokens("a(b[c]{d})e)f").map(|t| t.depth).collect();
        assert_eq!(depths, [0, 0, 1, 1, 2, 1, 1, 2, 1, 0, 0, 0, 0]);
    }
}
