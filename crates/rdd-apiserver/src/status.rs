//! Errors as clients see them: the one place that makes a Kubernetes `Status`.
//!
//! Clients decide by code, `reason` and `details.causes[].reason`; people and
//! scripts read `message`. So every refusal of the server is a constructor here,
//! with the wording of kube-apiserver 1.36, and nowhere else.

use std::{borrow::Cow, fmt};

use rdd_schema::FieldError;
use serde_json::{Map, Value, json};

use crate::catalog::{Resource, Verb};

/// A handler's result.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refusal, as it goes over the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Status>);

#[derive(Clone, Debug, PartialEq)]
struct Status {
    code: u16,
    reason: Cow<'static, str>,
    message: String,
    details: Option<Details>,
    /// `metadata.continue`, of an expired list.
    next: Option<String>,
    /// Not a Status at all: the plain text of a path that no API owns.
    plain: bool,
}

/// `details` of a Status.
#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Vec<Cause>,
    retry_after_seconds: u32,
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// `FieldValueInvalid` and the like; empty members are left out on the wire.
    pub reason: Cow<'static, str>,
    /// The text without the field.
    pub message: String,
    /// `spec.items[0].name`.
    pub field: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
            next: None,
            plain: false,
        }))
    }

    fn details(mut self, details: Details) -> Self {
        self.0.details = Some(details);
        self
    }

    fn of(self, resource: &Resource, name: &str) -> Self {
        self.named(&resource.plural, &resource.group, name)
    }

    fn named(self, kind: &str, group: &str, name: &str) -> Self {
        self.details(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..Details::default()
        })
    }

    fn causes(mut self, causes: Vec<Cause>) -> Self {
        self.0.details.get_or_insert_default().causes = causes;
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    // === 404 ===

    /// An object that is not there.
    #[must_use]
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", resource.qualified()),
        )
        .of(resource, name)
    }

    /// A Namespace that is not there.
    #[must_use]
    pub fn namespace_not_found(namespace: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("namespaces \"{namespace}\" not found"),
        )
        .named("namespaces", "", namespace)
    }

    /// An object of another resource that is not there.
    #[must_use]
    pub fn named_not_found(plural: &str, group: &str, name: &str) -> Self {
        let qualified = if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        };
        Self::new(404, "NotFound", format!("{qualified} \"{name}\" not found"))
            .named(plural, group, name)
    }

    /// An unknown resource inside a built-in group.
    #[must_use]
    pub fn unknown_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .details(Details::default())
    }

    /// A path that no API owns: plain text, not a Status.
    #[must_use]
    pub fn page_not_found() -> Self {
        let mut error = Self::new(404, "NotFound", "404 page not found");
        error.0.plain = true;
        error
    }

    // === 409 ===

    /// The name is taken.
    #[must_use]
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).of(resource, name)
    }

    /// The name is taken by an object that is being deleted.
    #[must_use]
    pub fn being_deleted(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "object is being deleted: {} \"{name}\" already exists",
            resource.qualified()
        );
        Self::new(409, "AlreadyExists", message).of(resource, name)
    }

    /// Every generated name was taken.
    #[must_use]
    pub fn no_free_name(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
            resource.qualified()
        );
        Self::new(409, "AlreadyExists", message)
            .of(resource, name)
            .retry_after(1)
    }

    /// The caller's copy is not the newest.
    #[must_use]
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Any conflict with what is stored; `text` follows the colon.
    #[must_use]
    pub fn conflict(resource: &Resource, name: &str, text: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {text}",
            resource.qualified()
        );
        Self::new(409, "Conflict", message).of(resource, name)
    }

    /// A conflict that names the kind, qualified by its group, instead of the resource.
    #[must_use]
    pub fn kind_conflict(kind: &str, name: &str, text: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {text}");
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        Self::new(409, "Conflict", message).named(kind, group, name)
    }

    /// The object was replaced by another one of the same name.
    #[must_use]
    pub fn foreign_uid(
        resource: &Resource,
        key: &str,
        name: &str,
        expected: &str,
        stored: &str,
    ) -> Self {
        Self::conflict(
            resource,
            name,
            &format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: {expected}, \
                 UID in object meta: {stored}"
            ),
        )
    }

    /// Apply with a uid, and no object of that name.
    #[must_use]
    pub fn apply_uid_mismatch(resource: &Resource, name: &str, uid: &str) -> Self {
        Self::conflict(
            resource,
            name,
            &format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            ),
        )
    }

    /// A delete precondition does not hold; the details name the kind here.
    #[must_use]
    pub fn precondition(resource: &Resource, name: &str, text: &str) -> Self {
        let kind = if resource.is_custom() {
            format!("{}.{}", resource.kind, resource.group)
        } else {
            resource.qualified_kind()
        };
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {text}");
        Self::new(409, "Conflict", message).named(&resource.kind, &resource.group, name)
    }

    /// Other managers own what an apply would change.
    #[must_use]
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        Self::new(409, "Conflict", message).causes(causes)
    }

    // === 422 ===

    /// Errors of an object.
    #[must_use]
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        // Events are the core kind in both groups.
        Self::invalid_kind(&resource.kind, &resource.storage.group, name, errors)
    }

    /// Errors of anything with a kind: options, patches.
    #[must_use]
    pub fn invalid_kind(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: Cow::Borrowed(error.reason()),
                message: error.body(),
                field: error.field().to_owned(),
            })
            .collect();
        Self::new(
            422,
            "Invalid",
            format!("{qualified} \"{name}\" is invalid: {text}"),
        )
        .named(kind, group, name)
        .causes(causes)
    }

    /// PUT without a resourceVersion where one is required. (Plural, not kind.)
    #[must_use]
    pub fn version_required(resource: &Resource, name: &str) -> Self {
        let body = "Invalid value: 0: must be specified for an update";
        let message = format!(
            "{} \"{name}\" is invalid: metadata.resourceVersion: {body}",
            resource.qualified()
        );
        Self::new(422, "Invalid", message)
            .of(resource, name)
            .causes(vec![Cause {
                reason: Cow::Borrowed("FieldValueInvalid"),
                message: body.to_owned(),
                field: "metadata.resourceVersion".to_owned(),
            }])
    }

    /// A patch that does not fit the object; why is not said.
    #[must_use]
    pub fn patch_not_applicable() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
        .details(Details::default())
    }

    // === 400 ===

    /// Any malformed request.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    // === 401, 403 ===

    /// Bad credentials.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The authorizer denies a verb on a resource.
    #[must_use]
    pub fn denied(denied: &Denied<'_>) -> Self {
        let Denied {
            user,
            verb,
            group,
            plural,
            subresource,
            namespace,
            name,
            reason,
        } = *denied;
        let qualified = if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        };
        let path = if subresource.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}/{subresource}")
        };
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{namespace}\"")
        };
        let subject = if name.is_empty() {
            qualified
        } else {
            format!("{qualified} \"{name}\"")
        };
        let mut message = format!(
            "{subject} is forbidden: User \"{user}\" cannot {verb} resource \"{path}\" in API group \"{group}\" {place}"
        );
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        Self::new(403, "Forbidden", message).named(plural, group, name)
    }

    /// The authorizer denies a path that is no resource.
    #[must_use]
    pub fn denied_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        Self::new(403, "Forbidden", message).details(Details::default())
    }

    /// A rule of the server itself refuses; `text` follows `is forbidden: `.
    #[must_use]
    pub fn forbidden(resource: &Resource, name: &str, text: &str) -> Self {
        let what = match name {
            "" => resource.qualified(),
            name => format!("{} \"{name}\"", resource.qualified()),
        };
        Self::new(403, "Forbidden", format!("{what} is forbidden: {text}")).of(resource, name)
    }

    /// A create in a Namespace that is being deleted.
    #[must_use]
    pub fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let text = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        Self::forbidden(resource, name, &text).causes(vec![Cause {
            reason: Cow::Borrowed("NamespaceTerminating"),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }])
    }

    /// An admission rule denies; the answer is the rule's own, in a webhook's words.
    #[must_use]
    pub fn admission_denied(denial: &rdd_admission::Denial) -> Self {
        let mut error = Self::new(denial.code, "", denial.to_string());
        error.0.reason = Cow::Owned(denial.reason.clone());
        error
    }

    /// An admission policy denies, for this reason.
    #[must_use]
    pub fn policy_denied(resource: &Resource, name: &str, text: &str, reason: &str) -> Self {
        let mut error = Self::forbidden(resource, name, text).causes(vec![Cause {
            message: text.to_owned(),
            ..Cause::default()
        }]);
        error.0.code = match reason {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        error.0.reason = Cow::Owned(reason.to_owned());
        error
    }

    /// Mutating policies could not do their work, for these reasons; `invalid` is whether the
    /// first of them is an expression that failed.
    #[must_use]
    pub fn mutation_denied(
        resource: &Resource,
        name: &str,
        texts: Vec<String>,
        invalid: bool,
    ) -> Self {
        let mut error = Self::forbidden(resource, name, "");
        error.0.message = texts.first().cloned().unwrap_or_default();
        if invalid {
            error.0.reason = Cow::Borrowed("Invalid");
        }
        let cause = |message| Cause {
            message,
            ..Cause::default()
        };
        error.causes(texts.into_iter().map(cause).collect())
    }

    /// A webhook denies; `status` is what it says about it, or null. Codes that are no
    /// refusal become 400.
    #[must_use]
    pub fn webhook_denied(webhook: &str, status: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = status["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok());
        let denial = rdd_admission::Denial {
            webhook: webhook.to_owned(),
            code: code.filter(|code| (400..600).contains(code)).unwrap_or(400),
            reason: text(&status["reason"]),
            message: text(&status["message"]),
        };
        let error = Self::admission_denied(&denial);
        let details = &status["details"];
        if !details.is_object() {
            return error;
        }
        let seconds = details["retryAfterSeconds"].as_u64().unwrap_or_default();
        let causes = details["causes"].as_array().into_iter().flatten();
        error.details(Details {
            name: text(&details["name"]),
            group: text(&details["group"]),
            kind: text(&details["kind"]),
            uid: text(&details["uid"]),
            causes: causes
                .map(|cause| Cause {
                    reason: Cow::Owned(text(&cause["reason"])),
                    message: text(&cause["message"]),
                    field: text(&cause["field"]),
                })
                .collect(),
            retry_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        })
    }

    // === 405, 406, 413, 415 ===

    /// The wrong method on a known built-in path.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .details(Details::default())
    }

    /// An unsupported verb on a custom resource; the verb may be empty.
    #[must_use]
    pub fn verb_not_supported(resource: &Resource, verb: Option<Verb>) -> Self {
        let message = format!(
            "{} is not supported on resources of kind \"{}\"",
            verb.map_or("", Verb::as_str),
            resource.qualified()
        );
        Self::new(405, "MethodNotAllowed", message).of(resource, "")
    }

    /// No representation that the client takes.
    #[must_use]
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// No representation of a built-in that the client takes.
    #[must_use]
    pub fn no_representation(types: &str) -> Self {
        Self::not_acceptable(format!(
            "406: Not Acceptable\n\nAvailable representations: {types}"
        ))
        .details(Details::default())
    }

    /// A body in a form that the endpoint does not read.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// A patch in a form that a built-in does not read.
    #[must_use]
    pub fn no_patch_type() -> Self {
        Self::unsupported_media_type("415: Unsupported Media Type").details(Details::default())
    }

    /// A body or patch that is too big; `text` follows the colon.
    #[must_use]
    pub fn too_large(text: &str) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {text}"),
        )
    }

    // === 410, 429, 504 ===

    /// History that is gone.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A continue token whose snapshot is gone, with a token for going on at the newest state.
    #[must_use]
    pub fn continue_expired(next: String) -> Self {
        let mut error = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter, or use the continue token in \
             this response to retrieve the remainder of the results. Continuing with the provided \
             token results in an inconsistent list - objects that were created, modified, or \
             deleted between the time the first chunk was returned and now may show up in the list.",
        );
        error.0.next = Some(next);
        error
    }

    /// A revision that has not been written yet.
    #[must_use]
    pub fn revision_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message)
            .causes(vec![Cause {
                reason: Cow::Borrowed("ResourceVersionTooLarge"),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }])
            .retry_after(1)
    }

    /// The request's own deadline passed.
    #[must_use]
    pub fn deadline() -> Self {
        Self::new(
            504,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        )
        .details(Details::default())
    }

    /// More than the server can do now.
    #[must_use]
    pub fn too_many_requests() -> Self {
        Self::new(
            429,
            "TooManyRequests",
            "Too many requests, please try again later.",
        )
        .retry_after(1)
    }

    // === 500, 503 ===

    /// Anything unforeseen; the text reaches the client.
    #[must_use]
    pub fn internal(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {text}"),
        )
        .causes(vec![Cause {
            message: text,
            ..Cause::default()
        }])
    }

    /// One of kube-apiserver's errors that carry neither reason nor details.
    #[must_use]
    pub fn bare(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// The store cannot take the write now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).retry_after(1)
    }

    // === what it says ===

    /// The HTTP status.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// `NotFound`, …; empty for a few 500s.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `Retry-After` header in seconds, if any.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let seconds = self.0.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then_some(seconds)
    }

    /// Whether this goes out as plain text instead of a Status.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.plain
    }

    /// The Status object.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let status = &self.0;
        let metadata = match &status.next {
            Some(next) => json!({ "continue": next }),
            None => json!({}),
        };
        let mut object = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": status.message,
            "code": status.code,
        });
        if !status.reason.is_empty() {
            object["reason"] = json!(status.reason);
        }
        if let Some(details) = &status.details {
            object["details"] = details.to_value();
        }
        object
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut object = Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                object.insert(key.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            object.insert("causes".to_owned(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            object.insert(
                "retryAfterSeconds".to_owned(),
                json!(self.retry_after_seconds),
            );
        }
        Value::Object(object)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut object = Map::new();
        for (key, text) in [
            ("reason", self.reason.as_ref()),
            ("message", self.message.as_str()),
            ("field", self.field.as_str()),
        ] {
            if !text.is_empty() {
                object.insert(key.to_owned(), json!(text));
            }
        }
        Value::Object(object)
    }
}

/// What was denied to whom; empty strings for what does not apply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Denied<'a> {
    /// The caller.
    pub user: &'a str,
    /// `get`, …
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The resource.
    pub plural: &'a str,
    /// The subresource.
    pub subresource: &'a str,
    /// The namespace; empty at the cluster scope.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// What the authorizer adds.
    pub reason: &'a str,
}

/// The Status of a successful delete.
#[must_use]
pub fn deleted(resource: &Resource, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.plural.clone(),
        uid: uid.to_owned(),
        ..Details::default()
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details.to_value(),
    })
}
