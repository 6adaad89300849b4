//! Acting as somebody else: the `Impersonate-*` headers.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, Method};

use crate::{
    auth::{
        Attributes, Authorizer, Decision, Identity,
        authenticate::{AUTHENTICATED, UNAUTHENTICATED},
        authorize,
    },
    http::request_info::{RequestInfo, ResourceRequest},
    object::quote,
    status::{ApiError, ApiResult},
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Who the request is to be judged as: the caller, or whom they name and may act as.
///
/// # Errors
/// 403 for the first of user, groups, uid and extras that the caller may not take on;
/// 400 when there is no user among them.
pub(crate) async fn impersonate(
    authorizer: &dyn Authorizer,
    identity: Arc<Identity>,
    headers: &HeaderMap,
) -> ApiResult<Arc<Identity>> {
    let texts = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let user = texts(USER).into_iter().next().unwrap_or_default();
    let (groups, uid) = (texts(GROUP), texts(UID).into_iter().next());
    let extra = extra(headers);
    if user.is_empty() {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(identity);
        }
        let list = |texts: &[String]| {
            let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let shown_groups = match groups.as_slice() {
            [] => "[]string(nil)".to_owned(),
            groups => list(groups),
        };
        let shown_extra: Vec<String> = extra
            .iter()
            .map(|(key, values)| format!("{}:{}", quote(key), list(values)))
            .collect();
        let shown_extra = match shown_extra.as_slice() {
            [] => "(nil)".to_owned(),
            extra => format!("{{{}}}", extra.join(", ")),
        };
        return Err(ApiError::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{shown_groups}, \
             Extra:map[string][]string{shown_extra}}} without impersonating a user name",
            quote(uid.as_deref().unwrap_or_default())
        )));
    }
    let judge = Judge {
        authorizer,
        identity: &identity,
    };
    let service_account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(_, name)| !name.contains(':'));
    match service_account {
        Some((namespace, name)) => {
            judge
                .check("", "serviceaccounts", "", namespace, name)
                .await?
        }
        None => judge.check("", "users", "", "", &user).await?,
    }
    for group in &groups {
        judge.check("", "groups", "", "", group).await?;
    }
    for (key, values) in &extra {
        for value in values {
            judge
                .check("authentication.k8s.io", "userextras", key, "", value)
                .await?;
        }
    }
    if let Some(uid) = &uid {
        judge
            .check("authentication.k8s.io", "uids", "", "", uid)
            .await?;
    }
    let mut groups = groups;
    if groups.is_empty()
        && let Some((namespace, _)) = service_account
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let anonymous = user == Identity::anonymous().name;
    let known = groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
    if !known {
        let group = if anonymous {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        groups.push(group.to_owned());
    }
    Ok(Arc::new(Identity {
        name: user,
        uid: uid.unwrap_or_default(),
        groups,
        extra,
    }))
}

/// Names are lower-cased, as headers are; escapes of what headers cannot hold are undone.
fn extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else {
            continue;
        };
        let Ok(value) = value.to_str() else {
            continue;
        };
        extra
            .entry(unescape(key))
            .or_default()
            .push(value.to_owned());
    }
    extra
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

struct Judge<'a> {
    authorizer: &'a dyn Authorizer,
    identity: &'a Identity,
}

impl Judge<'_> {
    async fn check(
        &self,
        group: &str,
        plural: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<()> {
        let request = RequestInfo::Resource(ResourceRequest {
            method: Method::GET,
            verb: None,
            group: group.to_owned(),
            version: "v1".to_owned(),
            namespace: namespace.to_owned(),
            plural: plural.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            too_deep: false,
        });
        let attributes = Attributes {
            identity: self.identity,
            request: &request,
            verb: "impersonate",
            selected_name: None,
        };
        match self.authorizer.authorize(&attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) => Err(authorize::denial(&attributes, &reason)),
        }
    }
}
