//! The tokens with which a paged list goes on.

use base64::{
    DecodeError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rdd_store::Revision;
use serde_json::{Value, json};

use crate::{
    encoding::json,
    status::{ApiError, ApiResult},
};

/// The only form of tokens that there is.
const FORM: &str = "meta.k8s.io/v1";

/// Go does not mind bits behind the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A token that goes on behind `last`, at this revision or, without one, at the newest state.
pub(crate) fn encode_token(revision: Option<Revision>, last: &str) -> String {
    let revision = revision.map_or(json!(-1), |revision| json!(revision.0));
    let token = json!({"v": FORM, "rv": revision, "start": format!("{last}\u{0}")});
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
}

/// The revision, unless it is the newest state, and the key behind which to go on.
pub(crate) fn decode_token(token: &str) -> ApiResult<(Option<Revision>, String)> {
    read(token).map_err(|detail| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {detail}"
        ))
    })
}

fn read(token: &str) -> Result<(Option<Revision>, String), String> {
    let bytes = LENIENT.decode(token).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(length) => length.saturating_sub(1),
            DecodeError::InvalidPadding => token.find('=').unwrap_or_default(),
        };
        format!("illegal base64 data at input byte {at}")
    })?;
    // Go reads tokens with another library than bodies, which shows bytes as bytes.
    let token = json::parse_trusted(&bytes).map_err(|error| error.0.replace("'\\u00", "'\\x"))?;
    let members = match &token {
        Value::Object(_) | Value::Null => &token,
        other => {
            let what = go_type(other);
            return Err(format!(
                "json: cannot unmarshal {what} into Go value of type storage.continueToken"
            ));
        }
    };
    let misfit = |field: &str, value: &Value, wanted: &str| {
        let what = match value {
            Value::Number(number) if wanted == "int64" => format!("number {number}"),
            other => go_type(other).to_owned(),
        };
        format!(
            "json: cannot unmarshal {what} into Go struct field continueToken.{field} of type \
             {wanted}"
        )
    };
    let text = |field: &str| match &members[field] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        other => Err(misfit(field, other, "string")),
    };
    let form = text("v")?;
    let revision = match &members["rv"] {
        Value::Null => 0,
        other => other.as_i64().ok_or_else(|| misfit("rv", other, "int64"))?,
    };
    let start = text("start")?;
    if form != FORM {
        return Err(format!(
            "server does not recognize this encoded version {form}"
        ));
    }
    if revision == 0 {
        return Err(format!(
            "incorrect encoded start resourceVersion (version {FORM})"
        ));
    }
    if start.is_empty() {
        return Err(format!("encoded start key empty (version {FORM})"));
    }
    let start = start.trim_start_matches('/').trim_end_matches('\u{0}');
    if start.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("start key contains a path".to_owned());
    }
    Ok((u64::try_from(revision).ok().map(Revision), start.to_owned()))
}

/// What Go calls a JSON value that does not fit.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for revision in [Some(Revision(7)), None] {
            let token = encode_token(revision, "ns/a");
            assert_eq!(read(&token), Ok((revision, "ns/a".to_owned())));
        }
    }

    #[test]
    fn what_is_no_token_is_told_in_the_words_of_go() {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let check = |token: &str, expect: &str| {
            assert_eq!(read(token), Err(expect.to_owned()), "{token}");
        };
        check("a b", "illegal base64 data at input byte 1");
        check("abcde", "illegal base64 data at input byte 4");
        check("e30=", "illegal base64 data at input byte 3");
        check(
            &encode("{}"),
            "server does not recognize this encoded version ",
        );
        check(
            &encode("[]"),
            "json: cannot unmarshal array into Go value of type storage.continueToken",
        );
        check(
            &encode(r#"{"v":1}"#),
            "json: cannot unmarshal number into Go struct field continueToken.v of type string",
        );
        check(
            &encode(r#"{"rv":1.5}"#),
            "json: cannot unmarshal number 1.5 into Go struct field continueToken.rv of type int64",
        );
        check(
            &encode(r#"{"v":"meta.k8s.io/v1","rv":1}"#),
            "encoded start key empty (version meta.k8s.io/v1)",
        );
        check(
            &encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#),
            "start key contains a path",
        );
    }
}
