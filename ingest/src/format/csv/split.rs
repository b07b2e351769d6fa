//! One line of CSV to its fields, as RFC 4180 has it.
//!
//! Not with a general reader of CSV files: those go on to the next line, take an open quote as closed at the end, and
//! do not tell a quoted empty field from one without quotes. A record is one line; what looks cut off is rejected.

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

/// A field of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) text: &'a str,
    pub(super) is_quoted: bool,
}

/// The fields of a line, one after the other.
pub(super) struct Fields<'a> {
    dialect: Dialect,
    /// What was not read yet; `None` behind the last field.
    rest: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// The fields of this line, with or without its end.
    pub(super) fn new(line: &'a str, dialect: Dialect) -> Self {
        let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        Self { dialect, rest: Some(line) }
    }

    /// The next field; `None` behind the last. `buffer` takes the text where it does not stand in the line as it is.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut String) -> Result<Option<Field<'b>>, &'static str>
    where
        'a: 'b,
    {
        let Some(rest) = self.rest else { return Ok(None) };
        match rest.as_bytes().first() {
            Some(first) if *first == self.dialect.quote => self.quoted(&rest[1..], buffer).map(Some),
            _ => self.plain(rest).map(Some),
        }
    }

    fn plain(&mut self, rest: &'a str) -> Result<Field<'a>, &'static str> {
        let special = |byte: &u8| *byte == self.dialect.delimiter || *byte == b'\n' || *byte == b'\r';
        let bytes = rest.as_bytes();
        let end = bytes.iter().position(special).unwrap_or(bytes.len());
        match bytes.get(end) {
            Some(b'\n' | b'\r') if bytes[end] != self.dialect.delimiter => return Err(MORE_LINES),
            Some(_) => self.rest = Some(&rest[end + 1..]),
            None => self.rest = None,
        }
        Ok(Field { text: &rest[..end], is_quoted: false })
    }

    /// `rest` begins behind the opening quote.
    fn quoted<'b>(&mut self, mut rest: &'a str, buffer: &'b mut String) -> Result<Field<'b>, &'static str>
    where
        'a: 'b,
    {
        let quote = self.dialect.quote;
        buffer.clear();
        loop {
            let end = rest.bytes().position(|byte| byte == quote).ok_or("a quote is not closed")?;
            let (text, behind) = (&rest[..end], &rest[end + 1..]);
            match behind.as_bytes().first() {
                Some(next) if *next == quote => {
                    buffer.push_str(text);
                    buffer.push(char::from(quote));
                    rest = &behind[1..];
                    continue;
                }
                None => self.rest = None,
                Some(next) if *next == self.dialect.delimiter => self.rest = Some(&behind[1..]),
                Some(b'\n' | b'\r') => return Err(MORE_LINES),
                Some(_) => return Err("text stands behind a closing quote"),
            }
            if buffer.is_empty() {
                return Ok(Field { text, is_quoted: true });
            }
            buffer.push_str(text);
            return Ok(Field { text: buffer, is_quoted: true });
        }
    }
}

const MORE_LINES: &str = "more than one line; a line break within a field needs quotes around it";

#[cfg(test)]
mod tests {
    use super::*;

    const RFC: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn split(line: &str, dialect: Dialect) -> Result<Vec<(String, bool)>, &'static str> {
        let (mut fields, mut buffer, mut all) = (Fields::new(line, dialect), String::new(), Vec::new());
        while let Some(field) = fields.next(&mut buffer)? {
            all.push((field.text.to_owned(), field.is_quoted));
        }
        Ok(all)
    }

    fn texts(line: &str) -> Vec<String> {
        split(line, RFC).unwrap().into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn fields_lie_between_delimiters() {
        assert_eq!(texts("a,b c,,é\r\n"), ["a", "b c", "", "é"]);
        assert_eq!(texts("a\n"), ["a"]);
        assert_eq!(texts(","), ["", ""]);
        assert_eq!(texts(" a , b"), [" a ", " b"]);
        assert_eq!(texts("5\" disk,b"), ["5\" disk", "b"]);
    }

    #[test]
    fn quotes_hold_what_would_end_a_field() {
        assert_eq!(texts(r#""a,b","say ""hi""","""","",x"#), ["a,b", "say \"hi\"", "\"", "", "x"]);
        assert_eq!(texts("\"two\r\nlines\",b\n"), ["two\r\nlines", "b"]);
        let [plain, quoted] = &split(",\"\"", RFC).unwrap()[..] else { panic!() };
        assert!(!plain.1 && quoted.1);
    }

    #[test]
    fn what_looks_cut_off_is_an_error() {
        for line in ["a,\"b", "\"", "\"a\"\"", "\"a\n"] {
            assert_eq!(split(line, RFC), Err("a quote is not closed"), "{line}");
        }
        for line in ["a\nb", "a,\"b\"\nc", "a\rb", "a\n\n"] {
            assert_eq!(split(line, RFC), Err(MORE_LINES), "{line}");
        }
        assert_eq!(split("\"a\"b", RFC), Err("text stands behind a closing quote"));
    }

    #[test]
    fn other_dialects_have_other_characters() {
        let semicolon = Dialect { delimiter: b';', quote: b'\'' };
        let fields: Vec<String> =
            split("a,b;'c;''d''';\"e\"", semicolon).unwrap().into_iter().map(|(text, _)| text).collect();
        assert_eq!(fields, ["a,b", "c;'d'", "\"e\""]);
    }
}
