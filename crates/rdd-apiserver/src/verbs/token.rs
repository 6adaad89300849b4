//! POST on `serviceaccounts/NAME/token`: a token of that account.

use std::sync::{Arc, LazyLock};

use http::Response;
use rdd_admission::{Operation, Phase};
use rdd_schema::FieldError;
use rdd_store::Key;
use serde_json::{Value, json};

use crate::{
    auth::service_account::{AUDIENCE, Grant},
    catalog::{Resource, builtin},
    encoding::negotiate::content_type,
    http::body::{self, Body},
    object,
    options::{WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{
        call::Call,
        decode, managed,
        write::{self, store_error},
    },
};

/// The shortest and the longest time of a token.
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// The time of a token that asks for none.
const SECONDS: i64 = 3600;

pub(crate) static TOKEN_REQUEST: LazyLock<Arc<Resource>> =
    LazyLock::new(|| Arc::new(builtin::token_request()));

pub(crate) async fn create(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let given = &options.given;
    let resource = Arc::clone(&TOKEN_REQUEST);
    // What is read and answered is a request; what admission judges is a part of an account.
    let accounts = std::mem::replace(&mut call.resource, Arc::clone(&resource));
    let content_type = content_type(&call.headers);
    let mut request = decode::object(call, &bytes, content_type, options.field_validation)?;
    decode::fit_namespace(call, &mut request)?;
    call.resource = Arc::clone(&accounts);
    let operation = Operation::Create;
    call.admit(Phase::Mutating, operation, &mut request, None, given)
        .await?;
    call.resource = Arc::clone(&resource);
    rdd_schema::decode(&request, &resource.schema, &resource.kind).map_err(|text| {
        ApiError::bad_request(format!(
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {text}"
        ))
    })?;
    // An empty reference is one to a kind of no name, which is refused.
    let reference = request["spec"]["boundObjectRef"].clone();
    let wanted = object::meta(&request, "uid").to_owned();
    resource
        .strategy
        .default(&call.write_context(), &mut request);
    let spec = &mut request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(SECONDS);
    spec["expirationSeconds"] = json!(seconds);
    write::wipe(&mut request);
    managed::track(call, &options, None, &mut request);

    check_name(call, &request)?;
    let name = call.name().to_owned();
    let namespace = call.namespace().unwrap_or_default().to_owned();
    let key = accounts.key(Some(&namespace), &name);
    let entry = call.server.store.get(&key).await.map_err(store_error)?;
    let entry = entry.ok_or_else(|| ApiError::not_found(&accounts, &name))?;
    let account = object::parse_entry(&entry)?;

    let problem = match seconds {
        ..SECONDS_MIN => Some("may not specify a duration less than 10 minutes"),
        SECONDS_MIN..=SECONDS_MAX => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    if let Some(problem) = problem {
        let error = FieldError::invalid("spec.expirationSeconds", seconds, problem);
        return Err(ApiError::invalid(&resource, "", &[error]));
    }
    let uid = object::meta(&account, "uid");
    if !wanted.is_empty() && wanted != uid {
        return Err(ApiError::kind_conflict(
            "TokenRequest.authentication.k8s.io",
            &name,
            &format!(
                "the UID in the token request ({wanted}) does not match the UID of the service \
                 account ({uid})"
            ),
        ));
    }
    let mut audiences: Vec<String> = request["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    if let Some(metadata) = object::metadata_mut(&mut request) {
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("namespace".to_owned(), json!(namespace));
        metadata.insert("uid".to_owned(), json!(uid));
        let now = json!(call.now.to_string());
        metadata.insert("creationTimestamp".to_owned(), now);
    }
    request["spec"]["audiences"] = json!(audiences);
    call.resource = accounts;
    call.admit(Phase::Validating, operation, &mut request, None, given)
        .await?;
    call.resource = resource;
    let bound = bound(call, &namespace, &reference).await?;
    let Some(issuer) = call.server.authenticator.issuer() else {
        return Err(ApiError::internal("this server issues no tokens"));
    };
    let grant = Grant {
        namespace: &namespace,
        name: &name,
        uid,
        audiences: &audiences,
        seconds,
        bound: bound
            .as_ref()
            .map(|(kind, name, uid)| (kind.as_str(), name.as_str(), uid.as_str())),
    };
    let (token, ends) = issuer
        .sign(&grant, call.now)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    request["status"] = json!({"token": token, "expirationTimestamp": ends.to_string()});
    call.answer_object(201, &request)
}

/// The name in the body, if there is one, is that of the account.
fn check_name(call: &Call, request: &Value) -> ApiResult<()> {
    let name = object::meta(request, "name");
    if name.is_empty() || name == call.name() {
        return Ok(());
    }
    let problem = "must match the service account name if specified";
    let error = FieldError::invalid("metadata.name", name, problem);
    Err(ApiError::invalid(&call.resource, call.name(), &[error]))
}

/// Kind, name and uid of the object that the token is to end with.
async fn bound(
    call: &Call,
    namespace: &str,
    reference: &Value,
) -> ApiResult<Option<(String, String, String)>> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, version, name) = (text("kind"), text("apiVersion"), text("name"));
    if let ("Pod" | "Node", "v1") = (kind, version) {
        // None are served, so none are there.
        let plural = format!("{}s", kind.to_lowercase());
        return Err(ApiError::named_not_found(&plural, "", name));
    }
    if (kind, version) != ("Secret", "v1") {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(ApiError::bad_request(format!(
            "cannot bind token to object of type {slash}{version}, Kind={kind}"
        )));
    }
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let key = Key::new(format!("/registry/secrets/{namespace}/{name}"));
    let catalog = call.server.catalog.load();
    let secrets = catalog
        .resource("", "v1", "secrets")
        .ok_or_else(ApiError::unknown_resource)?;
    let entry = call.server.store.get(&key).await.map_err(store_error)?;
    let entry = entry.ok_or_else(|| ApiError::not_found(secrets, name))?;
    let secret = object::parse_entry(&entry)?;
    let (wanted, uid) = (text("uid"), object::meta(&secret, "uid"));
    if !wanted.is_empty() && wanted != uid {
        return Err(ApiError::kind_conflict(
            kind,
            name,
            &format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in \
                 record. The object might have been deleted and then recreated"
            ),
        ));
    }
    Ok(Some((kind.to_owned(), name.to_owned(), uid.to_owned())))
}
