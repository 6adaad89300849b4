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
    fn parse(text: &str, normalise: bool) -> Option<Self> {
        if text.len() > LENGTH_MAX {
            return None;
        }
        let text = if normalise {
            text.trim_start_matches('v')
        } else {
            text
        };
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let mut parts: Vec<&str> = core.split('.').collect();
        if normalise {
            while parts.len() < 3 {
                parts.push("0");
            }
        }
        let [major, minor, patch] = parts.as_slice() else {
            return None;
        };
        let number = |text: &str| -> Option<i64> {
            let digits = !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit());
            let leads = text.len() > 1 && text.starts_with('0');
            (digits && (normalise || !leads)).then(|| text.parse().ok())?
        };
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|one| one.is_ascii_alphanumeric() || one == b'-')
        };
        let pre: Vec<String> = pre
            .map(|pre| pre.split('.').map(str::to_owned).collect())
            .unwrap_or_default();
        let padded = |text: &str| {
            text.len() > 1 && text.starts_with('0') && text.bytes().all(|one| one.is_ascii_digit())
        };
        let fine = pre.iter().all(|one| word(one) && !padded(one))
            && build.is_none_or(|build| build.split('.').all(word));
        fine.then_some(())?;
        Some(Self {
            numbers: [number(major)?, number(minor)?, number(patch)?],
            pre,
        })
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
            .ok_or_else(|| Error::new(format!("failed to parse version {:?}", text.as_str()))),
        ("isSemver", [Value::String(text), ..]) => {
            Ok(Value::Bool(Version::parse(text.as_str(), flag).is_some()))
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
