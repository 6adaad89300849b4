//! Where in an expression something is wrong, printed as cel-go prints it.

/// The most characters of one expression.
pub(crate) const CHARACTERS_MAX: usize = 100_000;

/// The most problems that are told about one expression.
pub(crate) const PROBLEMS_MAX: usize = 100;

/// Why a text is no program: one or more problems, each with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CompileError {
    text: String,
}

/// Something wrong at one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Characters before it.
    pub(crate) at: usize,
    pub(crate) text: String,
}

impl CompileError {
    /// Prints problems in the order of their places, each with its line and a pointer.
    pub(crate) fn new(source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at);
        problems.truncate(PROBLEMS_MAX);
        let characters: Vec<char> = source.chars().collect();
        let texts: Vec<String> = problems
            .iter()
            .map(|problem| render(&characters, problem))
            .collect();
        Self {
            text: texts.join("\n"),
        }
    }
}

fn render(source: &[char], problem: &Problem) -> String {
    let at = problem.at.min(source.len());
    let before = &source[..at];
    let line = before.iter().filter(|one| **one == '\n').count() + 1;
    let start = before
        .iter()
        .rposition(|one| *one == '\n')
        .map_or(0, |index| index + 1);
    let rest = &source[start..];
    let end = rest
        .iter()
        .position(|one| *one == '\n')
        .unwrap_or(rest.len());
    let shown: String = rest[..end]
        .iter()
        .map(|one| if *one == '\t' { ' ' } else { *one })
        .collect();
    let mut pointer: String = source[start..at]
        .iter()
        .map(|one| if one.is_ascii() { '.' } else { '．' })
        .collect();
    pointer.push(match source.get(at) {
        Some(one) if !one.is_ascii() => '＾',
        _ => '^',
    });
    let column = at - start + 1;
    format!(
        "ERROR: <input>:{line}:{column}: {}\n | {shown}\n | {pointer}",
        problem.text
    )
}
