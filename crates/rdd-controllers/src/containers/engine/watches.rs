//! What changes in the API, as the loop wants to hear it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use rdd_api::{App, Container, ContainerNamespace, Image, Volume};
use serde::de::DeserializeOwned;

/// A change of one object. What vanished while a watch was interrupted is told when
/// the new list is complete.
#[derive(Debug)]
pub(super) enum Change<K> {
    /// It is new or different.
    Put(Arc<K>),
    /// It is gone; this is how it was.
    Gone(Arc<K>),
    /// Everything that existed has been told.
    Filled,
}

/// A change of any of our kinds.
#[derive(Debug)]
pub(super) enum ApiChange {
    App(Change<App>),
    Container(Change<Container>),
    Image(Change<Image>),
    Volume(Change<Volume>),
    ContainerNamespace(Change<ContainerNamespace>),
    Namespace(Change<Namespace>),
}

/// Changes of Apps.
pub(super) fn apps(client: &kube::Client) -> BoxStream<'static, ApiChange> {
    changes(Api::all(client.clone()))
        .map(ApiChange::App)
        .boxed()
}

/// How many watches [`mirrors`] has.
pub(super) const MIRROR_WATCHES: usize = 5;

/// Changes of everything that is mirrored, and of what it stands on. An empty
/// namespace means all of them.
pub(super) fn mirrors(
    client: &kube::Client,
    namespace: &str,
) -> SelectAll<BoxStream<'static, ApiChange>> {
    fn api<K>(client: &kube::Client, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        if namespace.is_empty() {
            Api::all(client.clone())
        } else {
            Api::namespaced(client.clone(), namespace)
        }
    }
    stream::select_all([
        changes(api(client, namespace))
            .map(ApiChange::Container)
            .boxed(),
        changes(api(client, namespace))
            .map(ApiChange::Image)
            .boxed(),
        changes(api(client, namespace))
            .map(ApiChange::Volume)
            .boxed(),
        changes(api(client, namespace))
            .map(ApiChange::ContainerNamespace)
            .boxed(),
        changes(Api::all(client.clone()))
            .map(ApiChange::Namespace)
            .boxed(),
    ])
}

/// Changes of one kind.
pub(super) fn changes<K>(api: Api<K>) -> impl Stream<Item = Change<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut collection = Collection::default();
    watcher(api, watcher::Config::default())
        .backoff(rdd_manager::watch_backoff())
        .flat_map(move |event| match event {
            Ok(event) => stream::iter(collection.take(event)),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "a watch was interrupted");
                stream::iter(Vec::new())
            }
        })
}

type Name = (Option<String>, String);

/// What a watch has told so far.
struct Collection<K> {
    known: BTreeMap<Name, Arc<K>>,
    /// During a list: what has not been in it yet.
    unlisted: BTreeSet<Name>,
}

impl<K> Default for Collection<K> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            unlisted: BTreeSet::new(),
        }
    }
}

impl<K: Resource> Collection<K> {
    /// Who set which field is half of an object, and nothing here asks for it.
    fn lean(mut object: K) -> Arc<K> {
        object.meta_mut().managed_fields = None;
        Arc::new(object)
    }

    fn take(&mut self, event: watcher::Event<K>) -> Vec<Change<K>> {
        let name = |object: &K| (object.namespace(), object.name_any());
        match event {
            watcher::Event::Init => {
                self.unlisted = self.known.keys().cloned().collect();
                Vec::new()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let (name, object) = (name(&object), Self::lean(object));
                self.unlisted.remove(&name);
                self.known.insert(name, Arc::clone(&object));
                vec![Change::Put(object)]
            }
            watcher::Event::Delete(object) => {
                self.known.remove(&name(&object));
                vec![Change::Gone(Self::lean(object))]
            }
            watcher::Event::InitDone => {
                let vanished = std::mem::take(&mut self.unlisted);
                vanished
                    .iter()
                    .filter_map(|name| self.known.remove(name))
                    .map(Change::Gone)
                    .chain([Change::Filled])
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> Volume {
        let mut volume = Volume::default();
        volume.metadata.name = Some(name.to_owned());
        volume
    }

    fn told(changes: Vec<Change<Volume>>) -> Vec<String> {
        let text = |change: Change<Volume>| match change {
            Change::Put(object) => format!("put {}", object.name_any()),
            Change::Gone(object) => format!("gone {}", object.name_any()),
            Change::Filled => "filled".to_owned(),
        };
        changes.into_iter().map(text).collect()
    }

    #[test]
    fn what_vanished_during_an_interruption_is_told_after_the_new_list() {
        let mut collection = Collection::default();
        let mut script = |events: Vec<watcher::Event<Volume>>| -> Vec<String> {
            let changes = events.into_iter().flat_map(|event| collection.take(event));
            told(changes.collect())
        };
        let first = script(vec![
            watcher::Event::Init,
            watcher::Event::InitApply(volume("a")),
            watcher::Event::InitApply(volume("b")),
            watcher::Event::InitDone,
            watcher::Event::Apply(volume("c")),
            watcher::Event::Delete(volume("b")),
        ]);
        assert_eq!(first, ["put a", "put b", "filled", "put c", "gone b"]);
        let again = script(vec![
            watcher::Event::Init,
            watcher::Event::InitApply(volume("c")),
            watcher::Event::InitDone,
        ]);
        assert_eq!(again, ["put c", "gone a", "filled"]);
    }
}
