//! POST on `serviceaccounts/NAME/token`: a token of that account.

use http::Response;
use rdd_admission::{Operation, Phase};
use rdd_schema::FieldError;
use rdd_store::Key;
use serde_json::{Value, json};

use crate::{
    auth::service_account::{AUDIENCE, Grant},
    catalog::builtin::{Document, zero::Form},
    encoding::{
        json as json_encoding,
        negotiate::{ContentType, content_type},
        protobuf::Envelope,
        yaml,
    },
    http::body::{self, Body},
    object,
    options::{WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{call::Call, write::store_error},
};

/// The shortest and the longest time of a token.
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// The time of a token that asks for none.
const SECONDS: i64 = 3600;

pub(crate) async fn create(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let given = &options.given;
    let document = Document::token_request();
    let mut request = parse(call, &bytes, &document)?;
    let kind = request
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(kind, "" | "TokenRequest") {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a TokenRequest"
        )));
    }
    decode(&request, &document)?;
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!("TokenRequest");
    if !request["metadata"].is_object() {
        request["metadata"] = json!({});
    }
    let operation = Operation::Create;
    call.admit(Phase::Mutating, operation, &mut request, None, given)
        .await?;
    decode(&request, &document)?;
    // An empty reference is one to a kind of no name, which is refused.
    let reference = request["spec"]["boundObjectRef"].clone();
    let form: &Form = &document.form;
    form.apply(&mut request);

    check_place(call, &request)?;
    let name = call.name().to_owned();
    let namespace = call.namespace().unwrap_or_default().to_owned();
    let key = call.resource.key(Some(&namespace), &name);
    let entry = call.server.store.get(&key).await.map_err(store_error)?;
    let entry = entry.ok_or_else(|| ApiError::not_found(&call.resource, &name))?;
    let account = object::parse_entry(&entry)?;

    let seconds = request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(SECONDS);
    let problem = match seconds {
        ..SECONDS_MIN => Some("may not specify a duration less than 10 minutes"),
        SECONDS_MIN..=SECONDS_MAX => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    if let Some(problem) = problem {
        let error = FieldError::invalid("spec.expirationSeconds", seconds, problem);
        let group = "authentication.k8s.io";
        return Err(ApiError::invalid_kind("TokenRequest", group, "", &[error]));
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
    request["metadata"]["name"] = json!(name);
    request["metadata"]["namespace"] = json!(namespace);
    request["metadata"]["uid"] = account["metadata"]["uid"].clone();
    request["metadata"]["creationTimestamp"] = json!(call.now.to_string());
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(seconds);
    call.admit(Phase::Validating, operation, &mut request, None, given)
        .await?;
    let bound = bound(call, &namespace, &reference).await?;
    let Some(issuer) = call.server.authenticator.issuer() else {
        return Err(ApiError::internal("this server issues no tokens"));
    };
    let grant = Grant {
        namespace: &namespace,
        name: &name,
        uid: object::meta(&account, "uid"),
        audiences: &audiences,
        seconds,
        bound: bound
            .as_ref()
            .map(|(kind, name, uid)| (kind.as_str(), name.as_str(), uid.as_str())),
    };
    let (token, ends) = issuer
        .sign(&grant, call.now)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    request["metadata"] = json!({
        "name": name, "namespace": namespace, "creationTimestamp": call.now.to_string(),
    });
    request["status"] = json!({"token": token, "expirationTimestamp": ends.to_string()});
    Ok(call.document(201, &request))
}

fn decode(request: &Value, document: &Document) -> ApiResult<()> {
    rdd_schema::decode(request, &document.schema, "TokenRequest").map_err(|text| {
        ApiError::bad_request(format!(
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {text}"
        ))
    })
}

/// Name and namespace of the body, if given, are those of the account.
fn check_place(call: &Call, request: &Value) -> ApiResult<()> {
    let name = object::meta(request, "name");
    if !name.is_empty() && name != call.name() {
        let error = FieldError::invalid(
            "metadata.name",
            name,
            "must match the service account name if specified",
        );
        let group = "authentication.k8s.io";
        return Err(ApiError::invalid_kind(
            "TokenRequest",
            group,
            call.name(),
            &[error],
        ));
    }
    let namespace = object::meta(request, "namespace");
    if !namespace.is_empty() && Some(namespace) != call.namespace() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

fn parse(call: &Call, bytes: &[u8], document: &Document) -> ApiResult<Value> {
    let bad = |text: String| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type TokenRequest): {text}"
        ))
    };
    let value = match content_type(&call.headers) {
        ContentType::Json => {
            json_encoding::parse_trusted(bytes).map_err(|error| bad(error.to_string()))?
        }
        ContentType::Yaml => {
            yaml::parse(bytes)
                .map_err(|error| bad(error.to_string()))?
                .value
        }
        ContentType::Protobuf => Envelope::read(bytes)
            .and_then(|envelope| document.message.read(envelope.raw))
            .map(Value::Object)
            .map_err(|error| bad(error.to_string()))?,
        _ => {
            return Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    if value.is_object() {
        Ok(value)
    } else {
        Err(bad("the body is no object".to_owned()))
    }
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
        return Err(ApiError::conflict(
            secrets,
            name,
            &format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in \
                 record. The object might have been deleted and then recreated"
            ),
        ));
    }
    Ok(Some((kind.to_owned(), name.to_owned(), uid.to_owned())))
}
