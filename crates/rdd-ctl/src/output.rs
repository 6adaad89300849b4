//! Objects in the form that was asked for.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::table::Table;
use crate::yaml;
use rdd_jsonpath::{Template, show};

/// A form of output.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// The server's table.
    Table {
        /// With the columns of lesser importance.
        wide: bool,
    },
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    Columns(Vec<(String, Template)>),
}

impl Format {
    /// Whether kubectl knows the format and we do not.
    pub(crate) fn is_foreign(text: &str) -> bool {
        let name = text.split('=').next().unwrap_or_default();
        let others = [
            "custom-columns-file",
            "go-template",
            "go-template-file",
            "jsonpath-as-json",
            "jsonpath-file",
            "template",
            "templatefile",
        ];
        others.contains(&name)
    }

    /// Reads `-o`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            return Ok(Self::Table { wide: false });
        };
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        match name {
            "" => Ok(Self::Table { wide: false }),
            "wide" => Ok(Self::Table { wide: true }),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "jsonpath" => Ok(Self::JsonPath(Template::parse(rest)?)),
            "jsonpath-as-json" => Err(Error::new("jsonpath-as-json is not supported; use -o json")),
            "custom-columns" => {
                let column = |spec: &str| -> Result<(String, Template)> {
                    let (heading, path) = spec
                        .split_once(':')
                        .ok_or_else(|| Error::new(format_args!("unexpected custom-columns spec: {spec}, expected <header>:<json-path-expr>")))?;
                    Ok((heading.to_owned(), Template::parse(path)?))
                };
                rest.split(',')
                    .map(column)
                    .collect::<Result<_>>()
                    .map(Self::Columns)
            }
            _ => Err(Error::new(format_args!(
                "unable to match a printer suitable for the output format {text:?}, allowed formats are: custom-columns,json,jsonpath,name,wide,yaml"
            ))),
        }
    }

    /// Prints the outcome of a write.
    pub(crate) fn print_outcome(&self, mut after: Value, named: &str) -> Result<()> {
        without_managed_fields(&mut after);
        self.print(&after, &|_| named.to_owned())
    }

    /// Prints one object, or a list as a whole.
    pub(crate) fn print(&self, document: &Value, named: &dyn Fn(&Value) -> String) -> Result<()> {
        match self {
            Self::Table { .. } => {}
            Self::Json => {
                let text =
                    serde_json::to_string_pretty(document).context("failed to write JSON")?;
                // kubectl indents by four.
                println!("{}", widen(&text));
            }
            Self::Yaml => print!("{}", yaml::to_string(document)),
            Self::Name => {
                for object in items(document) {
                    println!("{}", named(object));
                }
            }
            Self::JsonPath(template) => print!("{}", template.render(document)),
            Self::Columns(columns) => {
                let table = Table {
                    headings: columns.iter().map(|(heading, _)| heading.clone()).collect(),
                    rows: items(document)
                        .into_iter()
                        .map(|object| {
                            let cell = |template: &Template| match template.find(object).as_slice()
                            {
                                [] => "<none>".to_owned(),
                                found => found
                                    .iter()
                                    .map(|value| show(value))
                                    .collect::<Vec<_>>()
                                    .join(","),
                            };
                            columns.iter().map(|(_, template)| cell(template)).collect()
                        })
                        .collect(),
                };
                for line in table.lines(true, None) {
                    println!("{line}");
                }
            }
        }
        Ok(())
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }
}

/// The objects of a list, or the one object.
pub(crate) fn items(document: &Value) -> Vec<&Value> {
    match document.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

fn widen(text: &str) -> String {
    text.lines()
        .map(|line| {
            let blanks = line.len() - line.trim_start().len();
            format!("{}{line}", " ".repeat(blanks))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A list of everything that was found.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// Takes away what people rarely want to see.
pub(crate) fn without_managed_fields(document: &mut Value) {
    if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(without_managed_fields);
    }
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}
