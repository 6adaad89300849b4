//! Who asks: client certificates before bearer tokens, and nobody in particular.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::{HeaderMap, header};
use rdd_admission::UserInfo;
use rdd_store::Store;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::{
    auth::{
        certificate::{ClientAuthority, Presented},
        service_account::{AUDIENCE, Issuer},
    },
    http::websocket,
    object::Time,
    status::{ApiError, ApiResult},
};

/// The group of the almighty.
pub const MASTERS: &str = "system:masters";
/// The group of everyone who has shown nothing.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of everyone who has shown who they are.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub name: String,
    /// The user's uid; may be empty.
    pub uid: String,
    /// The groups, with the ones that authentication adds.
    pub groups: Vec<String>,
    /// Whatever else authentication learned.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A known user; `system:authenticated` is added to the groups.
    pub fn new(
        name: impl Into<String>,
        uid: impl Into<String>,
        groups: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self {
            name: name.into(),
            uid: uid.into(),
            groups,
            extra: BTreeMap::new(),
        }
    }

    /// The server's own hand: allowed everything.
    pub fn system(name: impl Into<String>) -> Self {
        Self::new(name, "", [MASTERS])
    }

    /// Whoever shows no credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is in this group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The form in which admission sees the user.
    #[must_use]
    pub fn user_info(&self) -> UserInfo {
        UserInfo {
            username: self.name.clone(),
            uid: self.uid.clone(),
            groups: self.groups.clone(),
            extra: self.extra.clone(),
        }
    }
}

/// Knows who a credential belongs to. Keeps hashes, so that neither a memory dump
/// nor the time of a comparison tells a token.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    tokens: HashMap<[u8; 32], Arc<Identity>>,
    issuer: Option<Arc<Issuer>>,
    clients: Option<ClientAuthority>,
}

/// A line of a token file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the token file: {problem}")]
pub struct TokenFileError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Authenticator {
    /// Makes a token known.
    pub fn add_token(&mut self, token: &str, identity: Identity) {
        self.tokens.insert(hash(token), Arc::new(identity));
    }

    /// Makes every token of a file known: lines `token,user,uid,"group1,group2"`,
    /// the groups being optional, as kube-apiserver's `--token-auth-file` has them.
    ///
    /// # Errors
    /// The first line that has another form.
    pub fn add_token_file(&mut self, text: &str) -> Result<(), TokenFileError> {
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let problem = |problem| TokenFileError {
                line: index + 1,
                problem,
            };
            let fields = csv(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(problem("needs at least token, user name and uid"));
            };
            if token.is_empty() {
                return Err(problem("the token is empty"));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups
                .split(',')
                .map(str::trim)
                .filter(|group| !group.is_empty());
            self.add_token(token, Identity::new(name, uid, groups));
        }
        Ok(())
    }

    /// Also knows the tokens that this issuer signs.
    pub fn set_issuer(&mut self, issuer: Arc<Issuer>) {
        self.issuer = Some(issuer);
    }

    /// Also knows the certificates that this authority signs.
    pub fn set_client_authority(&mut self, authority: ClientAuthority) {
        self.clients = Some(authority);
    }

    /// What a client showed when it connected.
    pub(crate) fn presented(&self, chain: &[CertificateDer<'_>]) -> Presented {
        match &self.clients {
            Some(authority) => authority.read(chain),
            None => Presented::Nothing,
        }
    }

    /// Who signs tokens of ServiceAccounts, if anybody.
    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_deref()
    }

    /// Who sent these headers over a connection on which this was shown. A good certificate
    /// wins over any token. Nobody is anonymous who shows a credential: when none is good,
    /// the request is refused.
    ///
    /// # Errors
    /// 401.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        presented: &Presented,
        store: &Arc<dyn Store>,
    ) -> ApiResult<Arc<Identity>> {
        let shown = presented.identity();
        if let Ok(Some(identity)) = shown {
            return Ok(identity);
        }
        match self.bearer(headers, store).await? {
            Some(identity) => Ok(identity),
            None if shown.is_err() => Err(ApiError::unauthorized()),
            None => Ok(Arc::new(Identity::anonymous())),
        }
    }

    /// Whose token the headers carry, if they carry one.
    async fn bearer(
        &self,
        headers: &HeaderMap,
        store: &Arc<dyn Store>,
    ) -> ApiResult<Option<Arc<Identity>>> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return match websocket_token(headers) {
                Some(token) => self.token(&token?, store).await.map(Some),
                None => Ok(None),
            };
        };
        let value = value.to_str().map_err(|_| ApiError::unauthorized())?.trim();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            // Another scheme is no credential of ours.
            return Ok(None);
        }
        self.token(token.trim(), store).await.map(Some)
    }

    async fn token(&self, token: &str, store: &Arc<dyn Store>) -> ApiResult<Arc<Identity>> {
        match self.holder(token, store, Time::now()).await {
            Some((holder, audiences)) if audiences.iter().any(|one| one == AUDIENCE) => Ok(holder),
            _ => Err(ApiError::unauthorized()),
        }
    }

    /// Who holds a token, and for whom it is meant.
    pub(crate) async fn holder(
        &self,
        token: &str,
        store: &Arc<dyn Store>,
        now: Time,
    ) -> Option<(Arc<Identity>, Vec<String>)> {
        if let Some(identity) = self.tokens.get(&hash(token)) {
            return Some((Arc::clone(identity), vec![AUDIENCE.to_owned()]));
        }
        let issuer = self.issuer.as_ref().filter(|_| Issuer::knows(token))?;
        let claims = issuer.verify(token, store, now).await?;
        Some((Arc::new(claims.identity), claims.audiences))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The token that a browser's WebSocket, which cannot send headers, puts among its subprotocols.
fn websocket_token(headers: &HeaderMap) -> Option<ApiResult<String>> {
    use base64::Engine as _;
    let protocols: Vec<&str> = websocket::offered(headers).collect();
    let encoded = protocols
        .iter()
        .find_map(|protocol| protocol.strip_prefix(websocket::TOKEN_PROTOCOL))?;
    if protocols.len() < 2 {
        return Some(Err(ApiError::unauthorized()));
    }
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    Some(token.ok_or_else(ApiError::unauthorized))
}

/// The fields of a line; quotes protect commas.
fn csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use rdd_store::MemoryStore;

    use super::*;

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    fn bearer(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        headers
    }

    #[tokio::test]
    async fn a_token_file_names_users_and_groups() {
        let mut authenticator = Authenticator::default();
        let file = "t1,admin,admin-uid,\"system:masters,ops\"\n\nt2,alice,alice-uid\n";
        authenticator.add_token_file(file).expect("valid");
        let admin = authenticator
            .authenticate(&bearer("Bearer t1"), &Presented::Nothing, &store())
            .await
            .expect("known");
        assert_eq!(admin.groups, [MASTERS, "ops", AUTHENTICATED]);
        let alice = authenticator
            .authenticate(&bearer("bearer t2"), &Presented::Nothing, &store())
            .await
            .expect("known");
        assert_eq!(
            (alice.name.as_str(), alice.uid.as_str()),
            ("alice", "alice-uid")
        );
        assert_eq!(
            authenticator.add_token_file("only,two"),
            Err(TokenFileError {
                line: 1,
                problem: "needs at least token, user name and uid"
            })
        );
    }

    #[tokio::test]
    async fn a_bad_token_is_refused_and_none_is_anonymous() {
        let authenticator = Authenticator::default();
        let refused = authenticator
            .authenticate(&bearer("Bearer nope"), &Presented::Nothing, &store())
            .await;
        assert_eq!(refused.expect_err("unknown").code(), 401);
        let nobody = authenticator
            .authenticate(&HeaderMap::new(), &Presented::Nothing, &store())
            .await
            .expect("anonymous");
        assert_eq!(nobody.name, "system:anonymous");
    }

    #[tokio::test]
    async fn a_certificate_wins_over_a_token_and_a_token_over_a_bad_certificate() {
        let mut authenticator = Authenticator::default();
        authenticator.add_token("t", Identity::new("token", "", ["g"]));
        let known = Presented::Known {
            identity: Arc::new(Identity::new("certificate", "", ["g"])),
            until: i64::MAX,
        };
        let (none, good, bad) = (HeaderMap::new(), bearer("Bearer t"), bearer("Bearer x"));
        for (presented, headers, expect) in [
            (&known, &none, Some("certificate")),
            (&known, &good, Some("certificate")),
            (&known, &bad, Some("certificate")),
            (&Presented::Refused, &good, Some("token")),
            (&Presented::Refused, &bad, None),
            (&Presented::Refused, &none, None),
            (&Presented::Nothing, &none, Some("system:anonymous")),
        ] {
            let store = store();
            let found = authenticator.authenticate(headers, presented, &store);
            let found = found.await.map(|identity| identity.name.clone());
            assert_eq!(found.as_deref().ok(), expect, "{presented:?} {headers:?}");
        }
    }
}
