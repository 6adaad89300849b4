//! One expression, compiled and evaluated.

use rdd_cel::{Bindings, Budget, Environment, Type, Value, Whole};

/// Units of work that one input may use.
pub(crate) const LIMIT: u64 = 20_000;

/// Compiles and evaluates; the answer is what was spent.
pub(crate) fn run(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let (expression, json) = text.split_once('\n').unwrap_or((&text, "null"));
    let json: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let environment = Environment::new().with("self", Type::Dyn).with_patches();
    let program = match environment.compile(expression) {
        Ok(program) => program,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return 0;
        }
    };
    let bindings = Bindings::new().with("self", Value::json(&json, None));
    let mut budget = Budget::new(LIMIT);
    if let Ok(value) = program.evaluate(&bindings, &mut budget) {
        assert!(!value.type_name().is_empty());
        // What a mutation does with it; only the budget or the value itself stops that.
        for whole in [Whole::Number, Whole::Text] {
            if let Err(error) = value.to_json(whole, &mut budget) {
                assert!(!error.to_string().is_empty());
            }
        }
        let _ = value
            .misplaced(&mut budget)
            .and_then(|_| value.odd(&mut budget));
    }
    budget.spent()
}
