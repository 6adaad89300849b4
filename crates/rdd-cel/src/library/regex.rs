//! Patterns. They are RE2's: matching takes time linear in text and pattern, and both
//! are paid for.

use ::regex::{Regex, RegexBuilder};
use rdd_schema::go_regexp;

use crate::{
    budget::{Budget, Error, Result, size, traversal},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
matches matches_string string . string : bool
matches matches string string : bool
find string_find_string string . string : string
findAll string_find_all_string string . string : list<string>
findAll string_find_all_string_int string . string int : list<string>
";

/// Memory that a compiled pattern may take, in steps. A repetition like `{1000}` makes a
/// short pattern large; what it takes says how much work a character is.
const BYTES: [(usize, u64); 4] = [(1 << 15, 1), (1 << 17, 8), (1 << 19, 64), (1 << 20, 256)];

/// What a character of a pattern takes of that at least.
const BYTES_PER_CHARACTER: usize = 8;

/// Compiling a pattern costs this much, which is about what it takes.
const COMPILE: u64 = 2000;

/// A set of Unicode in a pattern costs this much more.
const SET: u64 = 1500;

/// Bytes of a compiled pattern that are made for a unit.
const BYTES_PER_UNIT: u64 = 12;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
    weight: u64,
}

impl Pattern {
    /// Compiles a pattern within bounds.
    pub(crate) fn compile(text: &str) -> Result<Self> {
        Self::compile_within(text, &mut Budget::new(Budget::PER_OBJECT))
    }

    /// As [`Pattern::compile`]; what becomes large is paid for.
    fn compile_within(text: &str, budget: &mut Budget) -> Result<Self> {
        let translated = go_regexp::read(text)
            .map_err(|problem| Error::new(format!("error parsing regexp: {problem}")))?;
        let mut problem = String::new();
        // What a character compiles to takes some bytes at least: what cannot fit is not tried.
        let least = text.len().saturating_mul(BYTES_PER_CHARACTER);
        let fits = BYTES.iter().filter(|(bytes, _)| *bytes >= least);
        if fits.clone().next().is_none() {
            "expression too large".clone_into(&mut problem);
        }
        for &(bytes, weight) in fits {
            if weight > 1 {
                budget.spend(size(bytes) / BYTES_PER_UNIT)?;
            }
            let built = RegexBuilder::new(&translated).size_limit(bytes).build();
            match built {
                Ok(regex) => {
                    return Ok(Self {
                        text: text.to_owned(),
                        regex,
                        weight,
                    });
                }
                Err(::regex::Error::CompiledTooBig(_)) => {
                    "expression too large".clone_into(&mut problem)
                }
                Err(_) => {
                    // Go tells most causes apart; classes are what is left.
                    let cause = if text.contains('[') && !text.contains(']') {
                        "missing closing ]"
                    } else {
                        "invalid expression"
                    };
                    cause.clone_into(&mut problem);
                    break;
                }
            }
        }
        Err(Error::new(format!(
            "error parsing regexp: {problem}: `{text}`"
        )))
    }

    /// Whether it is found anywhere in a text.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What one pass over a text costs, by cel-go's rule and the real size.
    fn cost(&self, text: &str) -> u64 {
        traversal(size(text.len()) + 1)
            .saturating_mul(size(self.text.len()).div_ceil(4).max(1))
            .saturating_mul(self.weight)
    }
}

/// The pattern that was compiled last: a macro asks for the same one again and again.
#[derive(Default)]
pub(crate) struct Recent(Option<Pattern>);

impl Recent {
    fn get(&mut self, text: &str, budget: &mut Budget) -> Result<&Pattern> {
        if self.0.as_ref().is_none_or(|known| known.text != text) {
            let sets = size(text.matches(r"\p").count() + text.matches(r"\P").count());
            budget.spend(COMPILE + 10 * size(text.len()) + SET * sets)?;
            self.0 = Some(Pattern::compile_within(text, budget)?);
        }
        self.0.as_ref().ok_or_else(Error::overload)
    }
}

/// The declared way in; calls with patterns go through [`call`] instead.
pub(crate) fn unreached<'a>(
    _name: &str,
    _args: &[Value<'a>],
    _budget: &mut Budget,
) -> Result<Value<'a>> {
    Err(Error::overload())
}

/// Matches or searches; `known` is the pattern if it is a constant.
pub(crate) fn call<'a>(
    name: &str,
    args: &[Value<'a>],
    known: Option<&Pattern>,
    recent: &mut Recent,
    budget: &mut Budget,
) -> Result<Value<'a>> {
    let [Value::String(text), Value::String(pattern), rest @ ..] = args else {
        return Err(Error::overload());
    };
    let text = text.as_str();
    let pattern = match known {
        Some(pattern) => pattern,
        None => recent.get(pattern.as_str(), budget)?,
    };
    budget.spend(pattern.cost(text))?;
    match (name, rest) {
        ("matches", []) => Ok(Value::Bool(pattern.regex.is_match(text))),
        ("find", []) => Ok(pattern
            .regex
            .find(text)
            .map_or("", |one| one.as_str())
            .into()),
        ("findAll", rest) => {
            let most = match rest {
                [] => usize::MAX,
                [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => return Err(Error::overload()),
            };
            let mut found = Vec::new();
            for one in pattern.regex.find_iter(text).take(most) {
                // Each search may look at all the rest before it finds something short.
                budget.spend(1 + size(text.len() - one.start()) / 64)?;
                found.push(Value::from(one.as_str()));
            }
            Ok(found.into())
        }
        _ => Err(Error::overload()),
    }
}
