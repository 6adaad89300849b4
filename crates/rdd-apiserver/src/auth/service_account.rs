//! Tokens of ServiceAccounts: signed statements about whom they were given to.
//!
//! A token is a JWT (RFC 7519) with the claims that Kubernetes puts in, signed with ES256.
//! It is good while its time lasts and while the very ServiceAccount lives, and the object
//! that it is bound to.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdd_store::{Key, Store};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    auth::Identity,
    object::{self, Time, is_deleting},
};

/// Who issues the tokens, and for whom those are meant that name nobody else.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Whom a token is meant for that names nobody: this server.
pub(crate) const AUDIENCE: &str = ISSUER;

/// The key cannot be used or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key of ServiceAccount tokens is not usable")]
pub struct KeyError;

/// Signs and reads tokens.
pub struct Issuer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    /// Tells keys apart.
    key_id: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Whose it is.
    pub(crate) identity: Identity,
    /// For whom it is meant.
    pub(crate) audiences: Vec<String>,
}

/// What a token is to say.
pub(crate) struct Grant<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) audiences: &'a [String],
    pub(crate) seconds: i64,
    /// Kind, name and uid of the object that it ends with.
    pub(crate) bound: Option<(&'a str, &'a str, &'a str)>,
}

impl Issuer {
    /// A new key in PKCS#8; it belongs into a file that nobody else can read.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        key.map(|key| key.as_ref().to_vec()).map_err(|_| KeyError)
    }

    /// An issuer with this key.
    ///
    /// # Errors
    /// When it is no P-256 key in PKCS#8.
    pub fn new(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| KeyError)?;
        let digest = Sha256::digest(pair.public_key().as_ref());
        Ok(Self {
            key_id: URL_SAFE_NO_PAD.encode(digest),
            pair,
            random,
        })
    }

    /// What OpenID clients ask an issuer for first.
    pub(crate) fn configuration(&self, host: &str) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("https://{host}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The public key as a JSON Web Key Set (RFC 7517).
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }

    /// A token, and when it ends.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn sign(&self, grant: &Grant<'_>, now: Time) -> Result<(String, Time), KeyError> {
        let issued = now.timestamp().as_second();
        let ends = issued.saturating_add(grant.seconds);
        let mut kubernetes = json!({
            "namespace": grant.namespace,
            "serviceaccount": {"name": grant.name, "uid": grant.uid},
        });
        if let Some((kind, name, uid)) = grant.bound {
            kubernetes[kind.to_lowercase()] = json!({"name": name, "uid": uid});
        }
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.name),
            "aud": grant.audiences,
            "exp": ends,
            "iat": issued,
            "nbf": issued,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| KeyError)?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let ends = jiff::Timestamp::from_second(ends).map_err(|_| KeyError)?;
        Ok((format!("{signed}.{signature}"), Time::new(ends)))
    }

    /// Whether a text has the form of such a token; others have other owners.
    pub(crate) fn knows(token: &str) -> bool {
        token.split('.').count() == 3
    }

    /// Who holds a token; `None` for a bad one, or for one whose owner is gone.
    pub(crate) async fn verify(
        &self,
        token: &str,
        store: &Arc<dyn Store>,
        now: Time,
    ) -> Option<Claims> {
        let claims = self.read(token, now)?;
        let text = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str);
        let namespace = text("/kubernetes.io/namespace")?;
        let (name, uid) = (
            text("/kubernetes.io/serviceaccount/name")?,
            text("/kubernetes.io/serviceaccount/uid")?,
        );
        alive(store, "serviceaccounts", namespace, name, uid).await?;
        if let Some(secret) = claims.pointer("/kubernetes.io/secret") {
            let (name, uid) = (secret["name"].as_str()?, secret["uid"].as_str()?);
            alive(store, "secrets", namespace, name, uid).await?;
        }
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        let mut identity = Identity::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            uid,
            groups,
        );
        if let Some(id) = text("/jti") {
            identity.extra.insert(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec![format!("JTI={id}")],
            );
        }
        let audiences = claims["aud"].as_array()?;
        let audiences = audiences.iter().filter_map(Value::as_str);
        Some(Claims {
            identity,
            audiences: audiences.map(str::to_owned).collect(),
        })
    }

    /// The claims of a token that this issuer signed and whose time it is.
    fn read(&self, token: &str, now: Time) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        // The algorithm is ours to choose, not the token's.
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = now.timestamp().as_second();
        let second = |name: &str| claims[name].as_i64();
        let timely = second("nbf")? <= now && now < second("exp")?;
        (timely && claims["iss"] == ISSUER).then_some(claims)
    }
}

/// Whether the very object still lives.
async fn alive(
    store: &Arc<dyn Store>,
    plural: &str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Option<()> {
    let key = Key::new(format!("/registry/{plural}/{namespace}/{name}"));
    let entry = store.get(&key).await.ok()??;
    let found = object::parse_entry(&entry).ok()?;
    (object::meta(&found, "uid") == uid && !is_deleting(&found)).then_some(())
}

#[cfg(test)]
mod tests {
    use rdd_store::{Expect, MemoryStore, PutOptions};

    use super::*;

    async fn put(store: &Arc<dyn Store>, uid: &str) {
        let key = Key::new("/registry/serviceaccounts/ns/robot");
        let value = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "uid": uid}});
        let value = value.to_string().into();
        store
            .put(&key, value, Expect::Absent, PutOptions::default())
            .await
            .expect("it is written");
    }

    fn grant(audiences: &[String]) -> Grant<'_> {
        Grant {
            namespace: "ns",
            name: "robot",
            uid: "u1",
            audiences,
            seconds: 600,
            bound: None,
        }
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_time_and_its_owner_alone() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let issuer = Issuer::new(&Issuer::generate().expect("a key")).expect("an issuer");
        let now = Time::now();
        let audiences = ["me".to_owned()];
        let (token, ends) = issuer.sign(&grant(&audiences), now).expect("a token");
        assert!(Issuer::knows(&token));
        assert_eq!(
            issuer.verify(&token, &store, now).await,
            None,
            "no such account"
        );
        put(&store, "u1").await;
        let claims = issuer
            .verify(&token, &store, now)
            .await
            .expect("it is good");
        assert_eq!(claims.identity.name, "system:serviceaccount:ns:robot");
        assert_eq!(claims.identity.uid, "u1");
        assert_eq!(claims.audiences, audiences);
        assert_eq!(
            issuer.verify(&token, &store, ends).await,
            None,
            "its time is over"
        );

        let other = Issuer::new(&Issuer::generate().expect("a key")).expect("an issuer");
        assert_eq!(other.verify(&token, &store, now).await, None, "another key");
        let (head, _) = token.rsplit_once('.').expect("three parts");
        for forged in [
            format!("{head}."),
            format!("{head}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            {
                let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
                let claims = token.split('.').nth(1).expect("claims");
                format!("{none}.{claims}.")
            },
            "a.b.c".to_owned(),
        ] {
            assert_eq!(issuer.verify(&forged, &store, now).await, None, "{forged}");
        }
    }

    #[tokio::test]
    async fn an_account_of_the_same_name_does_not_inherit_tokens() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let issuer = Issuer::new(&Issuer::generate().expect("a key")).expect("an issuer");
        let now = Time::now();
        put(&store, "u2").await;
        let (token, _) = issuer.sign(&grant(&[]), now).expect("a token");
        assert_eq!(issuer.verify(&token, &store, now).await, None);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(Issuer::new(b"no key").is_err());
    }
}
