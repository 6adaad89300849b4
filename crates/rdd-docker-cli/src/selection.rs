//! `config.json` with another `currentContext`, and everything else as it was.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The name of the one field that is ours to change.
const CURRENT: &str = "currentContext";

/// A JSON object whose fields keep their order and the exact text of their values.
#[derive(Debug, Default)]
pub(crate) struct Document(Vec<(String, Box<RawValue>)>);

impl Document {
    /// # Errors
    /// When the text is not one JSON object. Only white space counts as an empty one,
    /// as it does for Docker.
    pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let document: Self = serde_json::from_slice(text)?;
        document.read()?;
        Ok(document)
    }

    /// The selected context; nothing and the empty word are the same.
    pub(crate) fn current(&self) -> Option<String> {
        self.read().ok().flatten()
    }

    fn read(&self) -> serde_json::Result<Option<String>> {
        // The last of several fields with one name counts, in Go as in JavaScript.
        let field = self.0.iter().rev().find(|(name, _)| name == CURRENT);
        let Some((_, value)) = field else {
            return Ok(None);
        };
        let name: Option<String> = serde_json::from_str(value.get())?;
        Ok(name.filter(|name| !name.is_empty()))
    }

    /// The whole text with another selection.
    pub(crate) fn with_current(mut self, name: Option<&str>) -> serde_json::Result<Vec<u8>> {
        match name {
            None => self.0.retain(|(field, _)| field != CURRENT),
            Some(name) => {
                let value = serde_json::value::to_raw_value(name)?;
                let mut fields = self.0.iter_mut().rev();
                match fields.find(|(field, _)| field == CURRENT) {
                    Some((_, old)) => *old = value,
                    None => self.0.push((CURRENT.to_owned(), value)),
                }
            }
        }
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        self.serialize(&mut serde_json::Serializer::with_formatter(
            &mut text, indent,
        ))?;
        Ok(text)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Document, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Document(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, name: Option<&str>) -> String {
        let document = Document::parse(text.as_bytes()).expect(text);
        String::from_utf8(document.with_current(name).expect("it is JSON")).expect("it is text")
    }

    #[test]
    fn only_the_selection_changes_and_everything_else_keeps_its_place_and_text() {
        let text = r#"{"zeta": 1e3, "auths": {"b": {"auth": "eA=="}, "a": {}}, "currentContext": "one", "big": 12345678901234567890123}"#;
        assert_eq!(
            changed(text, Some("two")),
            "{\n\t\"zeta\": 1e3,\n\t\"auths\": {\"b\": {\"auth\": \"eA==\"}, \"a\": {}},\n\t\"currentContext\": \"two\",\n\t\"big\": 12345678901234567890123\n}"
        );
        let without = changed(text, None);
        assert!(!without.contains("currentContext") && without.contains("1e3"));
    }

    #[test]
    fn an_empty_file_selects_nothing() {
        for text in [
            "",
            " \n",
            "{}",
            r#"{"currentContext": ""}"#,
            r#"{"currentContext": null}"#,
        ] {
            let document = Document::parse(text.as_bytes()).expect(text);
            assert_eq!(document.current(), None, "{text:?}");
        }
        assert_eq!(changed("", Some("x")), "{\n\t\"currentContext\": \"x\"\n}");
    }

    #[test]
    fn what_is_no_object_with_a_name_is_refused() {
        for text in ["[]", "{", "1", r#"{"currentContext": 7}"#, "{} x"] {
            assert!(Document::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
