//! Acting as somebody else: the `Impersonate-*` headers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::{HeaderMap, Method};
use parking_lot::Mutex;
use rdd_schema::names;

use crate::{
    auth::{
        Attributes, Authorizer, Decision, Identity,
        authenticate::{AUTHENTICATED, MASTERS, UNAUTHENTICATED},
        authorize,
    },
    http::request_info::{RequestInfo, ResourceRequest, decode_percent},
    object::quote,
    status::{ApiError, ApiResult},
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Where roles name users, groups and what else identifies somebody.
const GROUP_OF_USERS: &str = "authentication.k8s.io";

/// From so many groups or extra values on, one check for all of them is tried first.
const MANY: usize = 4;

/// A way of acting as somebody, each with verbs of its own in roles. The constrained ones
/// are asked first, for the request at hand and for the identity; the last is as old as
/// impersonation and asks for the identity alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    fn constrained_name(self) -> Option<&'static str> {
        match self {
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Legacy => None,
        }
    }

    /// Whether the mode can make somebody this identity.
    fn fits(self, wanted: &Identity) -> bool {
        let only_name =
            wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node(&wanted.name).is_some();
        let account = service_account(&wanted.name).is_some();
        match self {
            Self::ArbitraryNode => only_name && node,
            Self::ServiceAccount => only_name && account,
            Self::UserInfo => !node && !account,
            Self::Legacy => true,
        }
    }
}

/// How many users' modes are remembered.
const KNOWN_MAX: usize = 10_000;

/// In which mode each user acted as somebody last: it is tried first, and so its refusal
/// is the one that is told.
#[derive(Debug, Default)]
pub(crate) struct Modes(Mutex<HashMap<String, Mode>>);

impl Modes {
    /// The modes in the order in which they are tried for a user.
    fn of(&self, user: &str) -> Vec<Mode> {
        let mut modes = vec![
            Mode::ArbitraryNode,
            Mode::ServiceAccount,
            Mode::UserInfo,
            Mode::Legacy,
        ];
        if let Some(last) = self.0.lock().get(user) {
            // False sorts before true, and the rest keeps its order.
            modes.sort_by_key(|mode| mode != last);
        }
        modes
    }

    fn remember(&self, user: &str, mode: Mode) {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(user) {
            known.clear();
        }
        known.insert(user.to_owned(), mode);
    }
}

/// Who the request is to be judged as: the caller, or whom they name and may act as.
///
/// # Errors
/// 403 of the first mode that fits, when the caller may act in none; 400 when there are
/// groups, a uid or extras without a user.
pub(crate) async fn impersonate(
    authorizer: &dyn Authorizer,
    modes: &Modes,
    identity: Arc<Identity>,
    headers: &HeaderMap,
    request: Requested<'_>,
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
    let wanted = Identity {
        name: user,
        uid: uid.unwrap_or_default(),
        groups,
        extra,
    };
    let judge = Judge {
        authorizer,
        identity: &identity,
    };
    let mut refusal = None;
    let fitting = modes.of(&identity.name).into_iter();
    for mode in fitting.filter(|mode| mode.fits(&wanted)) {
        match judge.judge(mode, &wanted, request).await {
            Ok(()) => {
                modes.remember(&identity.name, mode);
                return Ok(Arc::new(become_whole(mode, wanted)));
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// What is asked for in another's name.
#[derive(Clone, Copy)]
pub(crate) struct Requested<'a> {
    /// The request.
    pub(crate) info: &'a RequestInfo,
    /// Its verb.
    pub(crate) verb: &'a str,
    /// The name that a field selector fixes.
    pub(crate) selected_name: Option<&'a str>,
}

/// Adds the groups that go without saying.
fn become_whole(mode: Mode, mut wanted: Identity) -> Identity {
    if mode == Mode::ArbitraryNode {
        wanted.groups = vec!["system:nodes".to_owned()];
    } else if wanted.groups.is_empty()
        && let Some((namespace, _)) = service_account(&wanted.name)
    {
        wanted.groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let group = if wanted.name == Identity::anonymous().name {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !wanted.is_in(group) && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(group.to_owned());
    }
    wanted
}

/// The node's name in `system:node:NAME`.
fn node(user: &str) -> Option<&str> {
    let name = user.strip_prefix("system:node:")?;
    names::dns1123_subdomain(name).is_empty().then_some(name)
}

/// Namespace and name in `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let rest = user.strip_prefix("system:serviceaccount:")?;
    let (namespace, name) = rest.split_once(':')?;
    let fits =
        names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    fits.then_some((namespace, name))
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
            .entry(decode_percent(key))
            .or_default()
            .push(value.to_owned());
    }
    extra
}

struct Judge<'a> {
    authorizer: &'a dyn Authorizer,
    identity: &'a Identity,
}

impl Judge<'_> {
    async fn judge(&self, mode: Mode, wanted: &Identity, request: Requested<'_>) -> ApiResult<()> {
        let verb = match mode.constrained_name() {
            None => "impersonate".to_owned(),
            Some(name) => {
                let on = format!("impersonate-on:{name}:{}", request.verb);
                self.ask(&Attributes {
                    identity: self.identity,
                    request: request.info,
                    verb: &on,
                    selected_name: request.selected_name,
                })
                .await?;
                format!("impersonate:{name}")
            }
        };
        let constrained = mode != Mode::Legacy;
        let users = if constrained { GROUP_OF_USERS } else { "" };
        let what = |group, plural, subresource, namespace, name| What {
            verb: &verb,
            group,
            plural,
            subresource,
            namespace,
            name,
        };
        let user = match (mode, node(&wanted.name), service_account(&wanted.name)) {
            (Mode::ArbitraryNode, Some(node), _) => what(users, "nodes", "", "", node),
            (_, _, Some((namespace, name))) => what(users, "serviceaccounts", "", namespace, name),
            _ => what(users, "users", "", "", &wanted.name),
        };
        self.check(user).await?;
        if !wanted.uid.is_empty() {
            self.check(what(GROUP_OF_USERS, "uids", "", "", &wanted.uid))
                .await?;
        }
        self.check_groups(constrained, &wanted.groups, |name| {
            what(users, "groups", "", "", name)
        })
        .await?;
        self.check_extra(constrained, &wanted.extra, |key, value| {
            what(GROUP_OF_USERS, "userextras", key, "", value)
        })
        .await
    }

    async fn check_groups<'a>(
        &self,
        constrained: bool,
        groups: &'a [String],
        what: impl Fn(&'a str) -> What<'a>,
    ) -> ApiResult<()> {
        if constrained {
            let refused = [
                ("", "impersonating the empty string group is not allowed"),
                (
                    MASTERS,
                    "impersonating the system:masters group is not allowed",
                ),
            ];
            for (group, reason) in refused {
                if groups.iter().any(|one| one == group) {
                    return Err(self.refusal(&what(group), reason));
                }
            }
            if groups.len() >= MANY && self.check(what("*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.check(what(group)).await?;
        }
        Ok(())
    }

    async fn check_extra<'a>(
        &self,
        constrained: bool,
        extra: &'a BTreeMap<String, Vec<String>>,
        what: impl Fn(&'a str, &'a str) -> What<'a>,
    ) -> ApiResult<()> {
        if constrained {
            if let Some(reason) = extra_problem(extra) {
                return Err(self.refusal(&what("", ""), &reason));
            }
            let many = extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.check(what("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.check(what(key, value)).await?;
            }
        }
        Ok(())
    }

    async fn check(&self, what: What<'_>) -> ApiResult<()> {
        let request = what.request();
        self.ask(&self.attributes(&request, what.verb)).await
    }

    fn refusal(&self, what: &What<'_>, reason: &str) -> ApiError {
        let request = what.request();
        authorize::denial(&self.attributes(&request, what.verb), reason)
    }

    fn attributes<'a>(&'a self, request: &'a RequestInfo, verb: &'a str) -> Attributes<'a> {
        Attributes {
            identity: self.identity,
            request,
            verb,
            selected_name: None,
        }
    }

    async fn ask(&self, attributes: &Attributes<'_>) -> ApiResult<()> {
        match self.authorizer.authorize(attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) => Err(authorize::denial(attributes, &reason)),
        }
    }
}

/// A part of an identity, as roles name it.
#[derive(Clone, Copy)]
struct What<'a> {
    verb: &'a str,
    group: &'a str,
    plural: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl What<'_> {
    fn request(&self) -> RequestInfo {
        RequestInfo::Resource(ResourceRequest {
            method: Method::GET,
            verb: None,
            group: self.group.to_owned(),
            version: "v1".to_owned(),
            namespace: self.namespace.to_owned(),
            plural: self.plural.to_owned(),
            subresource: self.subresource.to_owned(),
            name: self.name.to_owned(),
            too_deep: false,
        })
    }
}

/// Why constrained modes take no such extras.
fn extra_problem(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let prefixed = key.split_once('/').is_some_and(|(domain, path)| {
            names::dns1123_subdomain(domain).is_empty() && !path.is_empty()
        });
        if !prefixed {
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \
                 {}: must be a domain-prefixed path (such as \"acme.io/foo\")",
                quote(key)
            ));
        }
        if values.iter().any(String::is_empty) {
            return Some("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    None
}
