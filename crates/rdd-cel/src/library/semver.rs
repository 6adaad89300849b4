//! Semantic versions, by semver.org 2.0.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
semver string_to_semver string : semver
semver string_bool_to_semver string bool : semver
isSemver is_semver_string string : bool
isSemver is_semver_string_bool string bool : bool
major semver_major semver . : int
minor semver_minor semver . : int
patch semver_patch semver . : int
";

/// The most characters of a version, so that comparing two costs next to nothing.
const LENGTH_MAX: usize = 1024;

/// A version; what was built does not count for its order.
#[derive(Clone, Debug)]
pub struct Version {
    numbers: [i64; 3],
    pre: Vec<String>,
}

impl Version {
    fn parse(text: &str, normalise: bool) -> std::result::Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a version is at most {LENGTH_MAX} characters long"));
        }
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let text = if normalise {
            text.trim_start_matches('v')
        } else {
            text
        };
        let mut parts: Vec<&str> = text.splitn(3, '.').collect();
        if normalise && !text.contains(['-', '+']) {
            while parts.len() < 3 {
                parts.push("0");
            }
        }
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (*rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let number = |name: &str, text: &str| -> std::result::Result<i64, String> {
            if !text.bytes().all(|one| one.is_ascii_digit()) {
                return Err(format!(
                    "Invalid character(s) found in {name} number {text:?}"
                ));
            }
            if text.len() > 1 && text.starts_with('0') && !normalise {
                let name = name[..1].to_uppercase() + &name[1..];
                return Err(format!(
                    "{name} number must not contain leading zeroes {text:?}"
                ));
            }
            let parse = |why: &str| format!("strconv.ParseUint: parsing {text:?}: {why}");
            if text.is_empty() {
                return Err(parse("invalid syntax"));
            }
            let number: u64 = text.parse().map_err(|_| parse("value out of range"))?;
            Ok(number.cast_signed())
        };
        let numbers = [
            number("major", major)?,
            number("minor", minor)?,
            number("patch", patch)?,
        ];
        let word = |text: &str| {
            text.bytes()
                .all(|one| one.is_ascii_alphanumeric() || one == b'-')
        };
        let pre: Vec<String> = pre
            .map(|pre| pre.split('.').map(str::to_owned).collect())
            .unwrap_or_default();
        for part in &pre {
            if part.is_empty() {
                return Err("Prerelease is empty".to_owned());
            }
            let digits = part.bytes().all(|one| one.is_ascii_digit());
            if digits && part.len() > 1 && part.starts_with('0') {
                return Err(format!(
                    "Numeric PreRelease version must not contain leading zeroes {part:?}"
                ));
            }
            if !word(part) {
                return Err(format!("Invalid character(s) found in prerelease {part:?}"));
            }
        }
        for part in build.iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !word(part) {
                return Err(format!(
                    "Invalid character(s) found in build meta data {part:?}"
                ));
            }
        }
        Ok(Self { numbers, pre })
    }

    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => return Ordering::Equal,
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) => {}
            }
            let pairs = self.pre.iter().zip(&other.pre);
            pairs
                .map(|(left, right)| part(left, right))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
        })
    }
}

/// Numbers come before words.
fn part(left: &str, right: &str) -> Ordering {
    match (left.parse::<u64>(), right.parse::<u64>()) {
        (Ok(left), Ok(right)) => left.cmp(&right),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => left.cmp(right),
    }
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], _budget: &mut Budget) -> Result<Value<'a>> {
    let flag = matches!(args.get(1), Some(Value::Bool(true)));
    match (name, args) {
        ("semver", [Value::String(text), ..]) => Version::parse(text.as_str(), flag)
            .map(|version| Value::Semver(Arc::new(version)))
            .map_err(Error::new),
        ("isSemver", [Value::String(text), ..]) => {
            Ok(Value::Bool(Version::parse(text.as_str(), flag).is_ok()))
        }
        ("major", [Value::Semver(version)]) => Ok(Value::Int(version.numbers[0])),
        ("minor", [Value::Semver(version)]) => Ok(Value::Int(version.numbers[1])),
        ("patch", [Value::Semver(version)]) => Ok(Value::Int(version.numbers[2])),
        ("isLessThan", [Value::Semver(left), Value::Semver(right)]) => {
            Ok(Value::Bool(left.cmp(right).is_lt()))
        }
        ("isGreaterThan", [Value::Semver(left), Value::Semver(right)]) => {
            Ok(Value::Bool(left.cmp(right).is_gt()))
        }
        ("compareTo", [Value::Semver(left), Value::Semver(right)]) => {
            Ok(Value::Int(left.cmp(right) as i64))
        }
        _ => Err(Error::overload()),
    }
}
