//! From characters to tokens, by the lexical part of the CEL specification.

use std::sync::Arc;

use crate::source::Problem;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Ident(String),
    /// `` `a.b` ``, a field name only.
    Quoted(String),
    Int(String),
    Uint(String),
    Float(String),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    True,
    False,
    Null,
    In,
    Op(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// Characters before it.
    pub(crate) at: usize,
    /// Characters before what follows.
    pub(crate) end: usize,
}

const OPERATORS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%",
];

/// All tokens, the last one [`TokenKind::End`].
pub(crate) fn tokens(source: &[char]) -> Result<Vec<Token>, Problem> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let kind = lexer.token()?;
        let done = kind == TokenKind::End;
        tokens.push(Token {
            kind,
            at,
            end: lexer.at,
        });
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.source.get(self.at + ahead).copied()
    }

    fn skip_space(&mut self) {
        while let Some(one) = self.peek(0) {
            if one == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|one| one != '\n') {
                    self.at += 1;
                }
            } else if matches!(one, ' ' | '\t' | '\n' | '\r' | '\u{c}') {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn unknown(&self, from: usize) -> Problem {
        let end = self.at.max(from + 1).min(self.source.len());
        let text: String = self.source[from..end].iter().collect();
        Problem {
            at: from,
            text: format!("Syntax error: token recognition error at: '{text}'"),
        }
    }

    fn token(&mut self) -> Result<TokenKind, Problem> {
        let Some(first) = self.peek(0) else {
            return Ok(TokenKind::End);
        };
        if let Some(length) = self.string_prefix() {
            return self.string(length);
        }
        if first.is_ascii_digit()
            || first == '.' && self.peek(1).is_some_and(|one| one.is_ascii_digit())
        {
            return Ok(self.number());
        }
        if first == '_' || first.is_ascii_alphabetic() {
            let word = self.take(|one| one == '_' || one.is_ascii_alphanumeric());
            return Ok(match word.as_str() {
                "true" => TokenKind::True,
                "false" => TokenKind::False,
                "null" => TokenKind::Null,
                "in" => TokenKind::In,
                _ => TokenKind::Ident(word),
            });
        }
        if first == '`' {
            let from = self.at;
            self.at += 1;
            let allowed = |one: char| {
                one.is_ascii_alphanumeric() || matches!(one, '_' | '.' | '-' | '/' | ' ')
            };
            let word = self.take(allowed);
            if word.is_empty() || self.peek(0) != Some('`') {
                return Err(self.unknown(from));
            }
            self.at += 1;
            return Ok(TokenKind::Quoted(word));
        }
        for operator in OPERATORS {
            let mut ahead = 0;
            if operator.chars().all(|one| {
                ahead += 1;
                self.peek(ahead - 1) == Some(one)
            }) {
                self.at += ahead;
                return Ok(TokenKind::Op(operator));
            }
        }
        Err(self.unknown(self.at))
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let from = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
        self.source[from..self.at].iter().collect()
    }

    fn number(&mut self) -> TokenKind {
        let from = self.at;
        let digit = |one: char| one.is_ascii_digit();
        if self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|one| one.is_ascii_hexdigit())
        {
            self.at += 2;
            self.take(|one| one.is_ascii_hexdigit());
        } else {
            self.take(digit);
            let mut float = false;
            if self.peek(0) == Some('.') && self.peek(1).is_some_and(digit) {
                float = true;
                self.at += 1;
                self.take(digit);
            }
            if matches!(self.peek(0), Some('e' | 'E')) {
                let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
                if self.peek(1 + sign).is_some_and(digit) {
                    float = true;
                    self.at += 1 + sign;
                    self.take(digit);
                }
            }
            if float {
                return TokenKind::Float(self.source[from..self.at].iter().collect());
            }
        }
        let text: String = self.source[from..self.at].iter().collect();
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return TokenKind::Uint(text);
        }
        TokenKind::Int(text)
    }

    /// The characters before the quote, if a string begins here.
    fn string_prefix(&self) -> Option<usize> {
        let mut length = 0;
        let (mut raw, mut bytes) = (false, false);
        loop {
            match self.peek(length)? {
                '"' | '\'' => return Some(length),
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => return None,
            }
            length += 1;
        }
    }

    fn string(&mut self, prefix: usize) -> Result<TokenKind, Problem> {
        let from = self.at;
        let letters = &self.source[from..from + prefix];
        let raw = letters.iter().any(|one| matches!(one, 'r' | 'R'));
        let is_bytes = letters.iter().any(|one| matches!(one, 'b' | 'B'));
        self.at += prefix;
        let quote = self.source[self.at];
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        let mut content = Content {
            is_bytes,
            ..Content::default()
        };
        loop {
            let Some(one) = self.peek(0) else {
                return Err(self.unknown(from));
            };
            if one == quote
                && (!triple || self.peek(1) == Some(quote) && self.peek(2) == Some(quote))
            {
                self.at += if triple { 3 } else { 1 };
                break;
            }
            if !triple && matches!(one, '\n' | '\r') {
                return Err(self.unknown(from));
            }
            self.at += 1;
            if one == '\\' && !raw {
                if self.escape(&mut content).is_none() {
                    return Err(self.unknown(from));
                }
            } else {
                content.character(one);
            }
        }
        Ok(if is_bytes {
            TokenKind::Bytes(content.bytes.into())
        } else {
            TokenKind::String(content.text.into())
        })
    }

    fn escape(&mut self, content: &mut Content) -> Option<()> {
        let one = self.peek(0)?;
        self.at += 1;
        let plain = match one {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => one,
            'x' | 'X' => return content.code(self.digits(2, 16)?),
            'u' if !content.is_bytes => return content.code(self.digits(4, 16)?),
            'U' if !content.is_bytes => return content.code(self.digits(8, 16)?),
            '0'..='3' => {
                self.at -= 1;
                return content.code(self.digits(3, 8)?);
            }
            _ => return None,
        };
        content.character(plain);
        Some(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count {
            let digit = self.peek(0)?.to_digit(radix)?;
            value = value.checked_mul(radix)?.checked_add(digit)?;
            self.at += 1;
        }
        Some(value)
    }
}

#[derive(Default)]
struct Content {
    is_bytes: bool,
    text: String,
    bytes: Vec<u8>,
}

impl Content {
    fn character(&mut self, one: char) {
        if self.is_bytes {
            let mut buffer = [0; 4];
            self.bytes
                .extend_from_slice(one.encode_utf8(&mut buffer).as_bytes());
        } else {
            self.text.push(one);
        }
    }

    /// A number in an escape: a byte in bytes, a character in text.
    fn code(&mut self, code: u32) -> Option<()> {
        if self.is_bytes {
            self.bytes.push(u8::try_from(code).ok()?);
        } else {
            self.text.push(char::from_u32(code)?);
        }
        Some(())
    }
}
