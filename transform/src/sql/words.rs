//! The words of SQL text with their places, so that an error can point at one.
//!
//! Polars parses the SQL; its plan no longer knows lines. This looks at the text alone: it skips string literals and
//! comments, and knows no grammar.

/// Line and column of a word, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A keyword or an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// Written as `"word"` or `` `word` ``: then it is never a keyword.
    pub(crate) quoted: bool,
    /// The first character after it that is no space, if any.
    pub(crate) followed_by: Option<char>,
}

impl Word {
    /// Whether it is this word: letter by letter if quoted, in any case if not.
    pub(crate) fn is(&self, word: &str) -> bool {
        if self.quoted { self.text == word } else { self.text.eq_ignore_ascii_case(word) }
    }

    /// Whether it is this keyword or the name of this function.
    pub(crate) fn is_keyword(&self, keyword: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// All words of the text, in order.
pub(crate) fn words(sql: &str) -> Vec<Word> {
    let mut text = Text { rest: sql.chars().collect::<Vec<_>>(), at: 0, line: 1, column: 1 };
    let mut words = Vec::new();
    while let Some(first) = text.peek(0) {
        match (first, text.peek(1)) {
            ('-', Some('-')) => drop(text.take_while(|c| c != '\n')),
            ('/', Some('*')) => text.skip_block_comment(),
            ('\'', _) => drop(text.take_quoted('\'')),
            ('"' | '`', _) => {
                let place = text.place();
                let quoted = text.take_quoted(first);
                words.push(Word { text: quoted, place, quoted: true, followed_by: text.next_visible() });
            }
            (c, _) if c.is_alphabetic() || c == '_' => {
                let place = text.place();
                let word = text.take_while(|c| c.is_alphanumeric() || c == '_');
                words.push(Word { text: word, place, quoted: false, followed_by: text.next_visible() });
            }
            // A number takes the letters that belong to it, as in 1e9, along.
            (c, _) if c.is_ascii_digit() => drop(text.take_while(|c| c.is_alphanumeric() || c == '_')),
            _ => drop(text.next()),
        }
    }
    words
}

struct Text {
    rest: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
}

impl Text {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn place(&self) -> Place {
        Place { line: self.line, column: self.column }
    }

    fn next_visible(&self) -> Option<char> {
        self.rest[self.at..].iter().copied().find(|c| !c.is_whitespace())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek(0).filter(|c| keep(*c)) {
            taken.push(c);
            self.next();
        }
        taken
    }

    /// From an opening quote to the closing one; a doubled quote stands for itself.
    fn take_quoted(&mut self, quote: char) -> String {
        self.next();
        let mut taken = String::new();
        while let Some(c) = self.next() {
            if c == quote {
                if self.peek(0) != Some(quote) {
                    break;
                }
                self.next();
            }
            taken.push(c);
        }
        taken
    }

    /// Comments nest, as in the parser that Polars uses.
    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        while let Some(c) = self.next() {
            match (c, self.peek(0)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => continue,
            }
            self.next();
            if depth == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        words(sql).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn strings_comments_and_numbers_hold_no_words() {
        let sql =
            "SELECT a, 'it''s over (b' AS s -- c over (\n/* d /* e */ f */ FROM \"My \"\"t\" WHERE x > 1e9";
        assert_eq!(texts(sql), ["SELECT", "a", "AS", "s", "FROM", "My \"t", "WHERE", "x"]);
    }

    #[test]
    fn places_count_lines_and_characters() {
        let found = words("SELECT\n  'é', größe(");
        let last = found.last().unwrap();
        assert_eq!(last.place, Place { line: 2, column: 8 });
        assert_eq!(last.followed_by, Some('('));
    }

    #[test]
    fn unfinished_text_ends() {
        for sql in ["'open", "\"open", "/* open", "--", "a"] {
            assert!(words(sql).len() <= 1, "{sql}");
        }
    }

    #[test]
    fn quoted_words_are_no_keywords() {
        let found = words("\"over\" OVER");
        assert!(!found[0].is_keyword("OVER") && found[0].is("over") && !found[0].is("OVER"));
        assert!(found[1].is_keyword("over"));
    }
}
