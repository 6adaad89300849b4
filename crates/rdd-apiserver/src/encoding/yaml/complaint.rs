//! Syntax errors of YAML in the words of Go's parser, which users search the web for.
//!
//! Go counts lines from zero, prefers the place where the surrounding construct began
//! over the place of the trouble, and says no line when that number is zero. Only the
//! errors of its scanner, the stage that cuts the text into tokens, count from one.

use saphyr_parser::{Marker, ScanError};

use crate::encoding::json::SyntaxError;

/// Which stage of Go's parser complains, and from where it counts.
enum Stage {
    /// The scanner, about the place where the trouble is.
    Scanner,
    /// The scanner, about a key that stands on the last line with text before the trouble.
    Key,
    /// The parser, about the place where the trouble is.
    Parser,
    /// The parser, about the map or list around the trouble.
    Around,
}

/// What Go says about this error; `around` is the line, from one, on which the innermost
/// open map or list began.
pub(super) fn complaint(error: &ScanError, source: &str, around: Option<usize>) -> SyntaxError {
    let at = error.marker();
    if error.info().ends_with("found unknown anchor") {
        let name = alias(source, at);
        return SyntaxError(format!("yaml: unknown anchor '{name}' referenced"));
    }
    let (stage, text) = go_text(error.info());
    let trouble = at.line().saturating_sub(1);
    let line = match stage {
        Stage::Scanner if trouble == 0 && text.contains("violates indentation") => 2,
        Stage::Scanner if trouble == 0 => 0,
        Stage::Scanner => trouble + 1,
        Stage::Key => last_text_line(source, trouble),
        Stage::Parser => trouble,
        Stage::Around => match around.map(|line| line.saturating_sub(1)) {
            None | Some(0) => trouble,
            Some(line) => line,
        },
    };
    SyntaxError(if line == 0 {
        format!("yaml: {text}")
    } else {
        format!("yaml: line {line}: {text}")
    })
}

/// The stage and the words for what the parser at hand says.
fn go_text(info: &str) -> (Stage, &str) {
    const NO_TOKEN: &str = "found character that cannot start any token";
    let text = match info.split_once(", ") {
        Some((context, text)) if context.starts_with("while ") => text,
        _ => info,
    };
    match text {
        "found a tab" => (
            Stage::Scanner,
            "found a tab character that violates indentation",
        ),
        "simple key expect ':'" | "simple key expected" => {
            (Stage::Key, "could not find expected ':'")
        }
        "invalid indentation in quoted scalar" => {
            (Stage::Scanner, "found unexpected end of stream")
        }
        "misplaced bracket" => (Stage::Parser, "did not find expected node content"),
        "illegal placement of ':' indicator" => (Stage::Around, "did not find expected ',' or ']'"),
        "expected ',' or ']'" => (Stage::Around, "did not find expected ',' or ']'"),
        "invalid trailing content after double-quoted scalar" => {
            (Stage::Around, "did not find expected key")
        }
        "did not find expected key"
        | "did not find expected '-' indicator"
        | "did not find expected ',' or '}'" => (Stage::Around, text),
        "did not find expected node content" | "did not find expected <document start>" => {
            (Stage::Parser, text)
        }
        _ if text.starts_with("tab") || text.starts_with("unexpected character") => {
            (Stage::Scanner, NO_TOKEN)
        }
        _ => (Stage::Scanner, text),
    }
}

/// The last line, from one, that holds text among the first ones; 0 for the first itself.
fn last_text_line(source: &str, lines: usize) -> usize {
    let before = source.lines().take(lines).enumerate();
    before
        .filter(|(at, line)| *at > 0 && !line.trim().is_empty())
        .last()
        .map_or(0, |(at, _)| at + 1)
}

/// The name of the alias at this place.
fn alias<'s>(source: &'s str, at: &Marker) -> &'s str {
    let line = source.lines().nth(at.line().saturating_sub(1));
    let from = line.and_then(|line| {
        line.char_indices()
            .nth(at.col() + 1)
            .map(|(at, _)| &line[at..])
    });
    from.and_then(|text| text.split([' ', '\t', ',', ']', '}']).next())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::encoding::yaml::parse;

    #[test]
    fn errors_speak_as_the_parser_that_users_know() {
        let check = |text: &str, expect: &str| {
            let error = parse(text.as_bytes()).err().map(|error| error.0);
            assert_eq!(error.as_deref(), Some(expect), "{text:?}");
        };
        check(
            "a: b: c",
            "yaml: mapping values are not allowed in this context",
        );
        check(
            "x: 1\na: b: c\n",
            "yaml: line 2: mapping values are not allowed in this context",
        );
        check("{", "yaml: line 1: did not find expected node content");
        check("v: [A,", "yaml: line 1: did not find expected node content");
        check(
            "v:\n- [A,",
            "yaml: line 2: did not find expected node content",
        );
        check("}", "yaml: did not find expected node content");
        check(
            "kind: ConfigMap\n\tapiVersion: v1\n",
            "yaml: line 2: found a tab character that violates indentation",
        );
        check(
            "a:\n  b: 1\n\tc: 1\n",
            "yaml: line 2: found a tab character that violates indentation",
        );
        check(
            "a:\n\tb: 1\n",
            "yaml: line 2: found character that cannot start any token",
        );
        check(
            "a: @x\n",
            "yaml: found character that cannot start any token",
        );
        check("a: *b\n", "yaml: unknown anchor 'b' referenced");
        check("a: [*bc, 1]\n", "yaml: unknown anchor 'bc' referenced");
        check(
            "value: - b",
            "yaml: block sequence entries are not allowed in this context",
        );
        check(
            "spec:\n  containers:\n  - name: x\n   image: y\n",
            "yaml: line 1: did not find expected key",
        );
        check(
            "a:\n  b: 1\n c: 2\n",
            "yaml: line 2: did not find expected key",
        );
        check(
            "a: [1, 2\nb: 3\n",
            "yaml: line 1: did not find expected ',' or ']'",
        );
        check(
            "x: 1\na: 'x\n",
            "yaml: line 2: found unexpected end of stream",
        );
        check(
            "a: 1\n\nb\n\nc: 1\n",
            "yaml: line 3: could not find expected ':'",
        );
    }
}
