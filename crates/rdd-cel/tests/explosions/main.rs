//! Nothing takes longer than its budget is worth, measured by the processor's time.

use std::time::Duration;

mod cases;

/// What one expression may take. Without optimisation everything takes many times as long.
const AT_MOST: Duration = if cfg!(debug_assertions) {
    Duration::from_secs(5)
} else {
    Duration::from_millis(100)
};

#[test]
fn an_evaluation_ends_in_time() {
    let this = cases::this();
    let mut late = Vec::new();
    for expression in cases::EXPRESSIONS {
        let (took, ended) = cases::evaluate(expression, &this);
        if took > AT_MOST {
            late.push(format!("{expression}: {took:?}, {ended:?}"));
        }
    }
    assert!(late.is_empty(), "{}", late.join("\n"));
}

#[test]
fn a_text_is_judged_in_time() {
    let mut late = Vec::new();
    for (name, text) in cases::texts() {
        let took = cases::compile(&text);
        if took > AT_MOST {
            late.push(format!("{name}: {took:?}"));
        }
    }
    assert!(late.is_empty(), "{}", late.join("\n"));
}
