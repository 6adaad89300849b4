//! A request of any kind, as the loop sees it.

use std::fmt::Debug;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use rdd_api::names::{self, field_manager};
use rdd_api::{
    ContainerCreateRequest, ContainerCreateSpec, ImagePullRequest, ImagePullSpec, ImagePushRequest,
    ImageRefSpec, ImageScanRequest, Request, RequestStatus, VolumeCreateRequest, VolumeCreateSpec,
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Container(ContainerCreateSpec),
    Pull(ImagePullSpec),
    Push(ImageRefSpec),
    Scan,
    Volume(VolumeCreateSpec),
}

impl Wish {
    /// Whether it moves data, and ends when nobody wants it any more.
    pub(super) fn is_transfer(&self) -> bool {
        matches!(self, Self::Pull(_) | Self::Push(_))
    }
}

/// A kind of requests.
pub(super) trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Request
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its name.
    const NAME: &'static str;

    /// What it asks for.
    fn wish(&self) -> Wish;
}

macro_rules! kind {
    ($kind:ident, $self:ident => $wish:expr) => {
        impl Kind for $kind {
            const NAME: &'static str = stringify!($kind);

            fn wish(&$self) -> Wish {
                $wish
            }
        }
    };
}

kind!(ContainerCreateRequest, self => Wish::Container(self.spec.clone()));
kind!(ImagePullRequest, self => Wish::Pull(self.spec.clone()));
kind!(ImagePushRequest, self => Wish::Push(self.spec.clone()));
kind!(ImageScanRequest, self => Wish::Scan);
kind!(VolumeCreateRequest, self => Wish::Volume(self.spec.clone()));

/// A request as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// `None` while it is being deleted.
    pub(super) wish: Option<Wish>,
    pub(super) status: RequestStatus,
    /// When it ended, if it has.
    pub(super) ended: Option<Timestamp>,
}

/// Runs the same on the request's own kind.
macro_rules! by_kind {
    ($name:expr, $call:ident $arguments:tt) => {
        match $name {
            ContainerCreateRequest::NAME => $call::<ContainerCreateRequest> $arguments.await,
            ImagePullRequest::NAME => $call::<ImagePullRequest> $arguments.await,
            ImagePushRequest::NAME => $call::<ImagePushRequest> $arguments.await,
            ImageScanRequest::NAME => $call::<ImageScanRequest> $arguments.await,
            _ => $call::<VolumeCreateRequest> $arguments.await,
        }
    };
}

impl Asked {
    pub(super) fn of<K: Kind>(object: &K) -> Self {
        let meta = object.meta();
        let outcome = object.outcome();
        Self {
            kind: K::NAME,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: object.name_any(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            wish: meta.deletion_timestamp.is_none().then(|| object.wish()),
            status: object.status().cloned().unwrap_or_default(),
            // A time that cannot be read counts as now: the request stays a little longer.
            ended: outcome.map(|condition| {
                let time = condition.last_transition_time.parse();
                time.unwrap_or_else(|_| Timestamp::now())
            }),
        }
    }

    pub(super) fn key(&self) -> super::Key {
        (self.kind, self.namespace.clone(), self.name.clone())
    }

    /// It as it is in the API now; `None` when it is gone or another one.
    pub(super) async fn read(&self, client: &kube::Client) -> kube::Result<Option<Self>> {
        let found = by_kind!(self.kind, read(client, self))?;
        Ok(found.filter(|found| found.uid == self.uid))
    }

    /// Writes how it goes; whether it is still there.
    pub(super) async fn write(
        &self,
        client: &kube::Client,
        status: &RequestStatus,
    ) -> kube::Result<bool> {
        match by_kind!(self.kind, write(client, self, status)) {
            Ok(()) => Ok(true),
            // Gone, or another one by now.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(
        &self,
        client: &kube::Client,
        params: &DeleteParams,
    ) -> kube::Result<()> {
        by_kind!(self.kind, delete(client, self, params))
    }
}

fn api<K: Kind>(client: &kube::Client, asked: &Asked) -> Api<K> {
    Api::namespaced(client.clone(), &asked.namespace)
}

async fn read<K: Kind>(client: &kube::Client, asked: &Asked) -> kube::Result<Option<Asked>> {
    let found = api::<K>(client, asked).get_opt(&asked.name).await?;
    Ok(found.as_ref().map(Asked::of))
}

async fn write<K: Kind>(
    client: &kube::Client,
    asked: &Asked,
    status: &RequestStatus,
) -> kube::Result<()> {
    let body = json!({
        "apiVersion": format!("{}/{}", names::group::CONTAINERS, names::VERSION),
        "kind": K::NAME,
        "metadata": {"name": asked.name, "uid": asked.uid},
        "status": status,
    });
    let params = PatchParams::apply(field_manager::REQUESTS).force();
    let written = api::<K>(client, asked)
        .patch_status(&asked.name, &params, &Patch::Apply(&body))
        .await;
    written.map(drop)
}

async fn delete<K: Kind>(
    client: &kube::Client,
    asked: &Asked,
    params: &DeleteParams,
) -> kube::Result<()> {
    api::<K>(client, asked)
        .delete(&asked.name, params)
        .await
        .map(drop)
}
