//! Kubernetes quantities (`1.5Gi`, `100m`), exact to a billionth.

use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
quantity string_to_quantity string : quantity
isQuantity is_quantity_string string : bool
sign quantity_sign quantity : int
isInteger quantity_is_integer quantity . : bool
asInteger quantity_as_integer quantity . : int
asApproximateFloat quantity_get_float quantity . : double
add quantity_add quantity . quantity : quantity
add quantity_add_int quantity . int : quantity
sub quantity_sub quantity . quantity : quantity
sub quantity_sub_int quantity . int : quantity
isLessThan quantity_is_less_than quantity . quantity : bool
isLessThan semver_is_less_than semver . semver : bool
isGreaterThan quantity_is_greater_than quantity . quantity : bool
isGreaterThan semver_is_greater_than semver . semver : bool
compareTo quantity_compare_to quantity . quantity : int
compareTo semver_compare_to semver . semver : int
";

/// Billionths of one.
const SCALE: i128 = 1_000_000_000;

/// A number in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

impl Quantity {
    /// Reads a quantity by the grammar of Kubernetes. What is finer than a billionth is
    /// rounded up, away from zero.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|one: char| !one.is_ascii_digit() && one != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 64 {
            return None;
        }
        let (factor, power) = suffix_of(suffix)?;
        let mut value = 0_i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            value = value
                .checked_mul(10)?
                .checked_add(i128::from(digit - b'0'))?;
        }
        value = value.checked_mul(factor)?;
        let power = power + 9 - i32::try_from(fraction.len()).ok()?;
        if power >= 0 {
            value = value.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?;
        } else {
            let divisor = 10_i128.checked_pow(power.unsigned_abs())?;
            value = value.checked_add(divisor - 1)? / divisor;
        }
        Some(Self(if negative { -value } else { value }))
    }

    fn integer(self) -> Option<i64> {
        (self.0 % SCALE == 0)
            .then(|| i64::try_from(self.0 / SCALE).ok())
            .flatten()
    }
}

/// A factor and a power of ten.
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let power = suffix.strip_prefix(['e', 'E'])?;
            (
                1,
                power
                    .parse()
                    .ok()
                    .filter(|power| (-30..=30).contains(power))?,
            )
        }
    })
}

/// Why a text is no quantity.
fn refusal(text: &str) -> Error {
    let unsigned = text.trim_start_matches(['+', '-']);
    let end = unsigned
        .find(|one: char| !one.is_ascii_digit() && one != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let letters = suffix.trim_end_matches(|one: char| one.is_ascii_digit());
    let letters = letters.strip_suffix(['+', '-']).unwrap_or(letters);
    let known = letters.chars().all(|one| "eEinumkKMGTP".contains(one));
    let signs = text.len() - unsigned.len();
    Error::new(
        if signs < 2 && known && !number.is_empty() && number.matches('.').count() < 2 {
            "unable to parse quantity's suffix"
        } else {
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        },
    )
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    let overflow = || Error::new("quantity overflow");
    let order = |order: std::cmp::Ordering| Value::Int(order as i64);
    match (name, args) {
        ("quantity", [Value::String(text)]) => Quantity::parse(text.as_str())
            .map(Value::Quantity)
            .ok_or_else(|| refusal(text.as_str())),
        ("isQuantity", [Value::String(text)]) => {
            Ok(Value::Bool(Quantity::parse(text.as_str()).is_some()))
        }
        ("sign", [Value::Quantity(one)]) => Ok(order(one.0.cmp(&0))),
        ("isInteger", [Value::Quantity(one)]) => Ok(Value::Bool(one.integer().is_some())),
        ("asInteger", [Value::Quantity(one)]) => one
            .integer()
            .map(Value::Int)
            .ok_or_else(|| Error::new("cannot convert value to integer")),
        ("asApproximateFloat", [Value::Quantity(one)]) => {
            Ok(Value::Double(one.0 as f64 / SCALE as f64))
        }
        ("add" | "sub", [Value::Quantity(one), other]) => {
            let other = match other {
                Value::Quantity(other) => other.0,
                Value::Int(other) => i128::from(*other) * SCALE,
                _ => return Err(Error::overload()),
            };
            let result = if name == "add" {
                one.0.checked_add(other)
            } else {
                one.0.checked_sub(other)
            };
            let result = result.ok_or_else(overflow)?;
            Ok(Value::Quantity(Quantity(result)))
        }
        ("isLessThan", [Value::Quantity(one), Value::Quantity(other)]) => {
            Ok(Value::Bool(one < other))
        }
        ("isGreaterThan", [Value::Quantity(one), Value::Quantity(other)]) => {
            Ok(Value::Bool(one > other))
        }
        ("compareTo", [Value::Quantity(one), Value::Quantity(other)]) => Ok(order(one.cmp(other))),
        _ => super::semver::call(name, args, budget),
    }
}
