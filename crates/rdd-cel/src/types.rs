//! Types of expressions, and what is known about the sizes of their values.

use std::{collections::BTreeMap, fmt, sync::Arc};

use rdd_schema::{AdditionalProperties, Schema};

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything; checked when it is evaluated.
    Dyn,
    /// What follows from an error that was told already.
    Error,
    /// `null`.
    Null,
    /// `bool`.
    Bool,
    /// `int`: 64 bits, signed.
    Int,
    /// `uint`: 64 bits, unsigned.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// `list(T)`.
    List(Arc<Type>),
    /// `map(K, V)`.
    Map(Arc<Type>, Arc<Type>),
    /// Something with known fields.
    Object(Arc<ObjectType>),
    /// An object that a mutation makes, by its name: `Object`, `Object.spec`, `JSONPatch`.
    Made(Arc<str>),
    /// `optional_type(T)`.
    Optional(Arc<Type>),
    /// `type(T)`.
    Type(Arc<Type>),
    /// A value of a library, by its name.
    Opaque(&'static str),
    /// A type that inference is to find.
    Param(usize),
}

/// The fields of an object. Two object types are one if their names are the same.
#[derive(Debug)]
pub struct ObjectType {
    /// Where the type is declared; unique within an environment.
    pub name: String,
    /// By the name that expressions use.
    pub fields: BTreeMap<String, Field>,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl ObjectType {
    /// The field of a name; a reserved word may stand for itself after a dot.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name).or_else(|| {
            self.fields
                .get(&escape(name)?)
                .filter(|_| WORDS.contains(&name))
        })
    }
}

/// A field of an object.
#[derive(Debug)]
pub struct Field {
    /// The name in JSON.
    pub name: String,
    /// Type and sizes.
    pub declared: Arc<Declared>,
}

impl Type {
    /// The type of `authorizer`.
    pub const AUTHORIZER: Self = Self::Opaque("kubernetes.authorization.Authorizer");

    /// The type of `authorizer.requestResource`.
    pub const RESOURCE_CHECK: Self = Self::Opaque("kubernetes.authorization.ResourceCheck");

    /// `list(T)`.
    #[must_use]
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// `map(string, T)`.
    #[must_use]
    pub fn map(value: Type) -> Self {
        Self::Map(Arc::new(Self::String), Arc::new(value))
    }

    /// The name that values carry, where it differs from how errors of the checker show it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Null => "null_type".to_owned(),
            Self::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Self::Duration => "google.protobuf.Duration".to_owned(),
            Self::List(item) => format!("list({})", item.name()),
            Self::Map(key, value) => format!("map({}, {})", key.name(), value.name()),
            Self::Optional(inner) => format!("optional_type({})", inner.name()),
            Self::Type(inner) => format!("type({})", inner.name()),
            other => other.to_string(),
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => formatter.write_str("dyn"),
            Self::Param(index) => write!(formatter, "_var{index}"),
            Self::Error => formatter.write_str("!error!"),
            Self::Null => formatter.write_str("null"),
            Self::Bool => formatter.write_str("bool"),
            Self::Int => formatter.write_str("int"),
            Self::Uint => formatter.write_str("uint"),
            Self::Double => formatter.write_str("double"),
            Self::String => formatter.write_str("string"),
            Self::Bytes => formatter.write_str("bytes"),
            Self::Timestamp => formatter.write_str("timestamp"),
            Self::Duration => formatter.write_str("duration"),
            Self::List(item) => write!(formatter, "list({item})"),
            Self::Map(key, value) => write!(formatter, "map({key}, {value})"),
            Self::Object(object) => formatter.write_str(&object.name),
            Self::Optional(inner) => write!(formatter, "optional_type({inner})"),
            Self::Type(inner) => write!(formatter, "type({inner})"),
            Self::Opaque(name) => formatter.write_str(name),
            Self::Made(name) => formatter.write_str(name),
        }
    }
}

/// The most bytes of a request, from which sizes without a limit of their own follow.
pub(crate) const REQUEST_MAX: u64 = 3 * 1024 * 1024;

/// A type with the sizes that a schema allows.
#[derive(Debug)]
pub struct Declared {
    pub(crate) r#type: Type,
    /// Bytes of a text, items of a list, entries of a map: the most there can be.
    pub(crate) elements_max: u64,
    /// Bytes of the shortest JSON.
    pub(crate) bytes_min: u64,
    pub(crate) item: Option<Arc<Declared>>,
    pub(crate) key: Option<Arc<Declared>>,
}

impl Declared {
    fn simple(r#type: Type, bytes_min: u64, elements_max: u64) -> Arc<Self> {
        Arc::new(Self {
            r#type,
            elements_max,
            bytes_min,
            item: None,
            key: None,
        })
    }

    /// The type and sizes of values under a schema; none where the schema does not say
    /// what they are. `root` adds what every whole Kubernetes object has, and `name`
    /// makes the names of object types unique.
    ///
    /// Sizes follow the estimates that Kubernetes publishes for its cost limits: what a
    /// schema does not bound is as large as fits into a request.
    #[must_use]
    pub fn of_schema(schema: &Schema, root: bool, name: &str) -> Option<Arc<Self>> {
        use rdd_schema::Type as Kind;
        if schema.int_or_string {
            let checks = schema.checks.as_deref();
            let length = checks.and_then(|checks| checks.max_length);
            // A character takes up to four bytes.
            let most = length.map_or(REQUEST_MAX - 2, |length| length.saturating_mul(4));
            return Some(Self::simple(Type::Dyn, 1, most));
        }
        let checks = schema.checks.as_deref();
        match schema.r#type? {
            Kind::Boolean => Some(Self::simple(Type::Bool, 4, 0)),
            Kind::Integer => Some(Self::simple(Type::Int, 1, 0)),
            Kind::Number => Some(Self::simple(Type::Double, 1, 0)),
            Kind::String => Some(Self::text(schema)),
            Kind::Array => {
                let items = schema.items.as_deref()?;
                let item =
                    Self::of_schema(items, items.embedded_resource, &format!("{name}.@idx"))?;
                let fits = (REQUEST_MAX - 2) / (item.bytes_min + 1);
                Some(Arc::new(Self {
                    r#type: Type::list(item.r#type.clone()),
                    elements_max: checks.and_then(|checks| checks.max_items).unwrap_or(fits),
                    bytes_min: 2,
                    item: Some(item),
                    key: None,
                }))
            }
            Kind::Object => match &schema.additional_properties {
                Some(AdditionalProperties::Schema(values)) => {
                    let value = Self::of_schema(
                        values,
                        values.embedded_resource,
                        &format!("{name}.@elem"),
                    )?;
                    let fits = (REQUEST_MAX - 2) / (value.bytes_min + 6);
                    Some(Arc::new(Self {
                        r#type: Type::map(value.r#type.clone()),
                        elements_max: checks
                            .and_then(|checks| checks.max_properties)
                            .unwrap_or(fits),
                        bytes_min: 2,
                        item: Some(value),
                        key: Some(Self::simple(Type::String, 2, 0)),
                    }))
                }
                _ => Some(Self::object(schema, root, name)),
            },
        }
    }

    /// What is declared for a property. One that expressions cannot name, or that they
    /// see in another form, is declared on its own.
    pub(crate) fn property(&self, name: &str, schema: &Schema) -> Option<Arc<Self>> {
        if let Type::Object(object) = &self.r#type
            && let Some(field) = escape(name).and_then(|name| object.fields.get(&name))
            && name != "metadata"
        {
            return Some(Arc::clone(&field.declared));
        }
        Self::of_schema(schema, schema.embedded_resource, "selfType")
    }

    fn text(schema: &Schema) -> Arc<Self> {
        let checks = schema.checks.as_deref();
        let format = checks.and_then(|checks| checks.format.as_deref());
        let length = checks.and_then(|checks| checks.max_length);
        let unbounded = REQUEST_MAX - 2;
        match format {
            Some("byte") => Self::simple(Type::Bytes, 2, length.unwrap_or(unbounded)),
            Some("duration") => Self::simple(Type::Duration, 2, 32),
            Some("date") => Self::simple(Type::Timestamp, 12, 12),
            Some("date-time") => Self::simple(Type::Timestamp, 12, 27),
            _ => {
                let words = checks.map_or(&[][..], |checks| checks.words.as_slice());
                let longest = words
                    .iter()
                    .filter_map(|word| word.as_str().map(str::len))
                    .max();
                let longest = longest.and_then(|longest| u64::try_from(longest).ok());
                // A character takes up to four bytes.
                let most = length.map(|length| length.saturating_mul(4)).or(longest);
                Self::simple(Type::String, 2, most.unwrap_or(unbounded))
            }
        }
    }

    fn object(schema: &Schema, root: bool, name: &str) -> Arc<Self> {
        let mut fields = BTreeMap::new();
        let mut bytes_min = 2_u64;
        let mut add = |field: &str, declared: Arc<Self>| {
            if let Some(escaped) = escape(field) {
                let field = Field {
                    name: field.to_owned(),
                    declared,
                };
                fields.insert(escaped, field);
            }
        };
        for (field, child) in &schema.properties {
            let path = format!("{name}.{field}");
            let Some(declared) = Self::of_schema(child, child.embedded_resource, &path) else {
                continue;
            };
            let checks = schema.checks.as_deref();
            let required = checks.is_some_and(|checks| checks.required.contains(field));
            if required && child.default.is_none() {
                let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
                bytes_min = bytes_min
                    .saturating_add(length)
                    .saturating_add(declared.bytes_min + 4);
            }
            if !(root && matches!(field.as_str(), "apiVersion" | "kind" | "metadata")) {
                add(field, declared);
            }
        }
        if root {
            let text = || Self::simple(Type::String, 2, REQUEST_MAX - 2);
            add("apiVersion", text());
            add("kind", text());
            let inner = ["name", "generateName"].map(|field| {
                let declared = text();
                let name = field.to_owned();
                (field.to_owned(), Field { name, declared })
            });
            let metadata = ObjectType {
                name: format!("{name}.metadata"),
                fields: BTreeMap::from(inner),
            };
            add(
                "metadata",
                Self::simple(Type::Object(Arc::new(metadata)), 2, 0),
            );
        }
        let object = ObjectType {
            name: name.to_owned(),
            fields,
        };
        Self::simple(Type::Object(Arc::new(object)), bytes_min, 0)
    }
}

/// Words that cannot name a field as they are.
const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which expressions call a property, if they can.
pub(crate) fn escape(name: &str) -> Option<String> {
    if WORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match first {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            '_' => escaped.push('_'),
            letter if letter.is_ascii_alphabetic() => escaped.push(letter),
            digit if digit.is_ascii_digit() && !escaped.is_empty() => escaped.push(digit),
            _ => return None,
        }
        rest = &rest[first.len_utf8()..];
    }
    (!escaped.is_empty()).then_some(escaped)
}
