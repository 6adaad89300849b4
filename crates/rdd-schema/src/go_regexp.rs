//! Go's dialect of patterns (RE2): what it refuses, and how the `regex` crate writes it.

use std::collections::BTreeSet;

/// A pattern as the `regex` crate reads it, in time linear in its length.
///
/// Sizes are not looked at: see the limit with which the translation is compiled.
///
/// # Errors
/// Why Go does not compile the pattern, in its words.
pub fn read(text: &str) -> Result<String, String> {
    let mut scan = Scan {
        text,
        at: 0,
        out: String::with_capacity(text.len()),
        many: 0,
        sets: BTreeSet::new(),
        unnamed: false,
    };
    scan.all()?;
    Ok(scan.out)
}

/// The most sets of Unicode in one pattern, each of which has hundreds of ranges.
const SETS_MAX: usize = 500;

type Found<T> = Result<T, String>;

struct Scan<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// How many sets of Unicode there were.
    many: usize,
    /// Names of sets that are known to exist.
    sets: BTreeSet<&'a str>,
    /// Whether no name of a set ends in the rest.
    unnamed: bool,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let one = self.peek()?;
        self.at += one.len_utf8();
        Some(one)
    }

    fn all(&mut self) -> Found<()> {
        let mut open = 0_usize;
        // Whether there is something to repeat, and where the last repetition began.
        let (mut atom, mut repeated) = (false, None);
        while let Some(one) = self.peek() {
            let start = self.at;
            match one {
                '(' => {
                    self.group()?;
                    // A group that only sets flags is none: `(?i)`.
                    if !self.text[start..self.at].ends_with(')') {
                        open += 1;
                    }
                    (atom, repeated) = (false, None);
                }
                ')' => {
                    if open == 0 {
                        return Err(format!("unexpected ): `{}`", self.text));
                    }
                    open -= 1;
                    self.keep(1);
                    (atom, repeated) = (true, None);
                }
                '|' => {
                    self.keep(1);
                    (atom, repeated) = (false, None);
                }
                '[' => {
                    self.class()?;
                    (atom, repeated) = (true, None);
                }
                '*' | '+' | '?' | '{' => {
                    let Some(length) = self.repetition()? else {
                        self.at += 1;
                        self.out.push_str("\\{");
                        (atom, repeated) = (true, None);
                        continue;
                    };
                    let mut end = start + length;
                    if self.text[end..].starts_with('?') {
                        end += 1;
                    }
                    if !atom {
                        return Err(format!(
                            "missing argument to repetition operator: `{}`",
                            &self.text[start..end]
                        ));
                    }
                    if let Some(first) = repeated {
                        return Err(format!(
                            "invalid nested repetition operator: `{}`",
                            &self.text[first..end]
                        ));
                    }
                    self.keep(end - start);
                    repeated = Some(start);
                }
                '\\' => {
                    self.escape(false)?;
                    (atom, repeated) = (true, None);
                }
                _ => {
                    self.keep(one.len_utf8());
                    (atom, repeated) = (true, None);
                }
            }
        }
        if open > 0 {
            return Err(format!("missing closing ): `{}`", self.text));
        }
        Ok(())
    }

    /// Takes over what both dialects write alike.
    fn keep(&mut self, length: usize) {
        self.out.push_str(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    fn group(&mut self) -> Found<()> {
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.keep(1);
            return Ok(());
        }
        if rest.starts_with("(?P<") || rest.starts_with("(?<") {
            let begin = rest.find('<').unwrap_or_default() + 1;
            let Some(end) = rest.find('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let name = rest.get(begin..end).unwrap_or_default();
            let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(word) {
                return Err(format!("invalid named capture: `{}`", &rest[..=end]));
            }
            // Names mean nothing here, and may begin with a digit in Go.
            self.out.push('(');
            self.at += end + 1;
            return Ok(());
        }
        let (mut flags, mut negative) = (false, false);
        for (offset, one) in rest.char_indices().skip(2) {
            let end = offset + one.len_utf8();
            match one {
                'i' | 'm' | 's' | 'U' => flags = true,
                '-' if !negative => (negative, flags) = (true, false),
                ':' | ')' if !negative || flags => {
                    if end > 3 || one == ':' {
                        self.keep(end);
                    } else {
                        self.at += end;
                    }
                    return Ok(());
                }
                _ => {
                    return Err(format!(
                        "invalid or unsupported Perl syntax: `{}`",
                        &rest[..end]
                    ));
                }
            }
        }
        Err(format!("missing closing ): `{}`", self.text))
    }

    /// The length of a repetition operator; a brace that opens none is a character.
    fn repetition(&self) -> Found<Option<usize>> {
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix('{') else {
            return Ok(Some(1));
        };
        // Looking no further than there can be a repetition keeps this linear.
        let digits = inner
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b',')
            .count();
        let Some(inner) = inner[digits..].strip_prefix('}').map(|_| &inner[..digits]) else {
            return Ok(None);
        };
        let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            (plain && (text == "0" || !text.starts_with('0')))
                .then(|| text.parse().unwrap_or(u32::MAX))
        };
        let Some(low) = number(low) else {
            return Ok(None);
        };
        let high = match high {
            "" => low,
            high => match number(high) {
                Some(high) => high,
                None => return Ok(None),
            },
        };
        let length = inner.len() + 2;
        if low > 1000 || high > 1000 || low > high {
            return Err(format!("invalid repeat count: `{}`", &rest[..length]));
        }
        Ok(Some(length))
    }

    /// What follows a backslash. Within a class the result stands between brackets.
    fn escape(&mut self, class: bool) -> Found<Option<u32>> {
        let start = self.at;
        self.next();
        let Some(one) = self.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let set = match one {
            'd' => "[0-9]",
            'w' => "[0-9A-Za-z_]",
            's' => r"[\t\n\x0C\r ]",
            'D' => "[^0-9]",
            'W' => "[^0-9A-Za-z_]",
            'S' => r"[^\t\n\x0C\r ]",
            'b' | 'B' if !class => {
                self.out.push_str("(?-u:\\");
                self.out.push(one);
                self.out.push(')');
                return Ok(None);
            }
            'A' | 'z' if !class => {
                self.out.push('\\');
                self.out.push(one);
                return Ok(None);
            }
            'Q' if !class => {
                let rest = self.rest();
                let (literal, length) = match rest.find("\\E") {
                    Some(end) => (&rest[..end], end + 2),
                    None => (rest, rest.len()),
                };
                self.out.push_str(&regex::escape(literal));
                self.at += length;
                return Ok(None);
            }
            'C' if !class => "(?s:.)",
            'p' | 'P' => {
                let rest = self.rest();
                let name = match rest.strip_prefix('{') {
                    Some(inner) => inner.find('}').map(|end| &rest[..end + 2]),
                    None => rest.chars().next().map(|one| &rest[..one.len_utf8()]),
                };
                let name = name.unwrap_or_default();
                let pattern = format!("\\{one}{name}");
                if name.is_empty() || !self.is_set(name, &pattern) {
                    return Err(format!("invalid character class range: `{pattern}`"));
                }
                self.many += 1;
                if self.many > SETS_MAX {
                    return Err(format!("expression too large: `{}`", self.text));
                }
                self.at += name.len();
                self.out.push_str(&pattern);
                return Ok(None);
            }
            _ => "",
        };
        if !set.is_empty() {
            self.out.push_str(set);
            return Ok(None);
        }
        let code = match one {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '0'..='7' if one == '0' || matches!(self.peek(), Some('0'..='7')) => {
                let mut code = one.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    match self.peek().and_then(|next| next.to_digit(8)) {
                        Some(digit) => {
                            code = code * 8 + digit;
                            self.next();
                        }
                        None => break,
                    }
                }
                code
            }
            'x' => self.hexadecimal(start)?,
            one if one.is_ascii() && !one.is_ascii_alphanumeric() => u32::from(one),
            _ => {
                return Err(format!(
                    "invalid escape sequence: `{}`",
                    &self.text[start..self.at]
                ));
            }
        };
        self.out.push_str(&format!("\\x{{{code:x}}}"));
        Ok(Some(code))
    }

    fn hexadecimal(&mut self, start: usize) -> Found<u32> {
        let rest = self.rest();
        let (digits, length) = match rest.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((digits, _)) => (digits, digits.len() + 2),
                None => ("", 0),
            },
            None => (rest.get(..2).unwrap_or_default(), 2),
        };
        let code = u32::from_str_radix(digits, 16).ok();
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match code.filter(|code| plain && char::from_u32(*code).is_some()) {
            Some(code) => {
                self.at += length;
                Ok(code)
            }
            None => Err(format!(
                "invalid escape sequence: `{}`",
                &self.text[start..self.at]
            )),
        }
    }

    fn class(&mut self) -> Found<()> {
        let start = self.at;
        let unclosed = |scan: &Self| format!("missing closing ]: `{}`", &scan.text[start..]);
        self.keep(1);
        if self.peek() == Some('^') {
            self.keep(1);
        }
        let mut first = true;
        loop {
            let from = self.at;
            match self.peek() {
                None => return Err(unclosed(self)),
                Some(']') if !first => break,
                Some('[') if self.named_end() > 0 => {
                    let length = self.named_end();
                    let name = &self.rest()[..length];
                    if !self.is_set(name, &format!("[{name}]")) {
                        return Err(format!("invalid character class range: `{name}`"));
                    }
                    self.keep(length);
                    first = false;
                    continue;
                }
                Some(_) => {}
            }
            first = false;
            let Some(low) = self.member()? else {
                continue;
            };
            let rest = self.rest();
            if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
                self.keep(1);
                let high = self.member()?;
                if high.is_none_or(|high| high < low) {
                    return Err(format!(
                        "invalid character class range: `{}`",
                        &self.text[from..self.at]
                    ));
                }
            }
        }
        self.keep(1);
        Ok(())
    }

    /// Whether a set of that name exists.
    fn is_set(&mut self, name: &'a str, pattern: &str) -> bool {
        self.sets.contains(name) || (regex::Regex::new(pattern).is_ok() && self.sets.insert(name))
    }

    /// The length of what looks like the name of a set, `[:alpha:]`; zero if it does not.
    fn named_end(&mut self) -> usize {
        let rest = self.rest();
        if self.unnamed || !rest.starts_with("[:") {
            return 0;
        }
        let end = rest.find(":]").map_or(0, |end| end + 2);
        self.unnamed = end == 0;
        end
    }

    /// One character of a class, or a whole set, which has no code.
    fn member(&mut self) -> Found<Option<u32>> {
        if self.peek() == Some('\\') {
            return self.escape(true);
        }
        let Some(one) = self.next() else {
            return Ok(None);
        };
        if one.is_ascii() && !one.is_ascii_alphanumeric() {
            self.out.push_str(&format!("\\x{{{:x}}}", u32::from(one)));
        } else {
            self.out.push(one);
        }
        Ok(Some(u32::from(one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_go_refuses() {
        for (pattern, expect) in [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("x[a-z", "missing closing ]: `[a-z`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("^(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<=a)b", "invalid named capture: `(?<=a)b`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(read(pattern), Err(expect.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn a_long_pattern_is_read_in_linear_time() {
        for part in [
            "{",
            "{1,",
            "[:",
            "[[:",
            r"\pL",
            "[[:alpha:]]",
            "(?P<a>",
            r"\Q",
        ] {
            let begin = std::time::Instant::now();
            let _ = read(&part.repeat(1_000_000 / part.len()));
            assert!(begin.elapsed().as_secs() < 5, "{part}");
        }
    }

    #[test]
    fn what_go_reads_means_the_same() {
        for (pattern, fits, not) in [
            (r"^\d+$", "12", "\u{664}"),
            (r"^\w$", "a", "\u{e4}"),
            (r"^[[.\]-]+$", "[.]-", "a"),
            (r"^[a&&b~~]+$", "a&b~", "c"),
            ("^{a}$", "{a}", "a"),
            ("^a{,2}$", "a{,2}", "aa"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^\<\/$", "</", ""),
            (r"^\x41\101$", "AA", "a"),
            ("^(?i)a(?P<1x>b)?$", "AB", "c"),
            (r"^[\d.-]+$", "1.-", "a"),
            ("^[[:alpha:]]$", "x", "1"),
            (r"^\pL$", "\u{e4}", "1"),
        ] {
            let regex = regex::Regex::new(&read(pattern).expect(pattern)).expect(pattern);
            assert!(regex.is_match(fits), "{pattern} {fits}");
            assert!(!regex.is_match(not), "{pattern} {not}");
        }
    }
}
