//! What a change means: which keys are looked at because of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use rdd_api::{App, Container, ContainerNamespace, Image, Volume, names};
use rdd_engine::{Event, Kind};

use super::Controller;
use crate::containers::engine::actions;
use crate::containers::engine::mirrors::{Need, has_finalizer, is_deleting, is_ours};
use crate::containers::engine::session::Session;
use crate::containers::engine::verify::Round;
use crate::containers::engine::watches::{ApiChange, Change};
use crate::containers::engine::work::{Key, Outcome};

impl Controller {
    pub(super) async fn api_changed(&mut self, change: ApiChange) {
        let before = self.mirrors.read().sizes();
        self.take(change).await;
        // The watch may tell of a mirror after the work that made it was told of.
        if self.mirrors.read().sizes() != before
            && let Some(session) = &mut self.session
        {
            session.fresh.recount();
        }
    }

    async fn take(&mut self, change: ApiChange) {
        match change {
            ApiChange::App(change) => self.app_changed(change).await,
            ApiChange::Container(change) => self.container_changed(change),
            ApiChange::Image(change) => self.image_changed(change),
            ApiChange::Volume(change) => self.volume_changed(change),
            ApiChange::ContainerNamespace(change) => self.scaffold_changed(change),
            ApiChange::Namespace(change) => self.namespace_changed(change),
        }
    }

    async fn app_changed(&mut self, change: Change<App>) {
        match change {
            Change::Put(app) if app.name_any() == names::APP => {
                let namespace = app.spec.namespace();
                if self.namespace != namespace {
                    // Another App than before: what was known is about other objects.
                    namespace.clone_into(&mut self.namespace);
                    self.disconnect().await;
                }
                self.app = Some(app);
            }
            Change::Gone(app) if app.name_any() == names::APP => self.app = None,
            Change::Filled => self.apps_filled = true,
            Change::Put(_) | Change::Gone(_) => {}
        }
    }

    fn container_changed(&mut self, change: Change<Container>) {
        match change {
            Change::Put(object) => {
                let id = object.name_any();
                if is_deleting(&*object) {
                    self.push(Key::ContainerMirror(id.clone()));
                } else if !has_finalizer(&*object) || !is_ours(&*object) {
                    self.push(Key::Container(id.clone()));
                } else if object.status.is_none() {
                    self.silent(&object);
                }
                if actions::is_asked(&object) {
                    self.push(Key::Action(id.clone()));
                }
                let turned = self.mirrors.write().put_container(object);
                self.push_needs(turned);
            }
            Change::Gone(object) => {
                let id = object.name_any();
                let turned = self.mirrors.write().take_container(&id);
                self.push_needs(turned);
                self.push(Key::Container(id));
            }
            Change::Filled => drop(self.filled.insert("Container")),
        }
    }

    /// A mirror without a status: between our two writes of it, or because somebody took
    /// it away. Which of both is known when the work on it has ended.
    fn silent(&mut self, mirror: &Container) {
        let name = mirror.name_any();
        let has_since = |session: &Session| session.work.has_written_since(&name, mirror);
        if self.session.as_ref().is_some_and(has_since) {
            return;
        }
        let key = Key::Container(name);
        if self.queue.is_running(&key) {
            self.silent.insert(key);
        } else {
            self.push(key);
        }
    }

    /// Whether something is needed shows on its own mirror.
    fn push_needs(&mut self, turned: Vec<Need>) {
        for need in turned {
            self.push(match need {
                Need::Image(id) => Key::Image(id),
                Need::Volume(name) => Key::Volume(name),
                Need::Namespace(_) => Key::Scaffold,
            });
        }
    }

    fn image_changed(&mut self, change: Change<Image>) {
        match change {
            Change::Put(object) => {
                let is_new = !self.mirrors.read().shows_image(&object.name_any());
                if is_deleting(&*object) {
                    self.push(Key::ImageMirror(object.name_any()));
                } else if is_new || !has_finalizer(&*object) || !is_ours(&*object) {
                    // Its tag may have gone between its writing and now, when whoever
                    // looked for what to remove could not see it yet.
                    self.push_image(&object);
                }
                self.mirrors.write().put_image(object);
            }
            Change::Gone(object) => {
                self.mirrors.write().take_image(&object.name_any());
                self.push_image(&object);
            }
            Change::Filled => drop(self.filled.insert("Image")),
        }
    }

    fn push_image(&mut self, object: &Image) {
        let id = object.status.as_ref().map(|status| status.id.clone());
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            self.push(Key::Image(id));
        }
    }

    fn volume_changed(&mut self, change: Change<Volume>) {
        match change {
            Change::Put(object) => {
                if is_deleting(&*object) {
                    self.push(Key::VolumeMirror(object.name_any()));
                } else if !has_finalizer(&*object) || !is_ours(&*object) {
                    self.push_volume(&object);
                }
                let name = object.name_any();
                self.mirrors.write().volumes.insert(name, object);
            }
            Change::Gone(object) => {
                self.mirrors.write().volumes.remove(&object.name_any());
                self.push_volume(&object);
            }
            Change::Filled => drop(self.filled.insert("Volume")),
        }
    }

    fn push_volume(&mut self, object: &Volume) {
        let name = object.status.as_ref().map(|status| status.name.clone());
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.push(Key::Volume(name));
        }
    }

    fn scaffold_changed(&mut self, change: Change<ContainerNamespace>) {
        match change {
            Change::Put(object) => {
                let name = object.name_any();
                self.mirrors.write().namespaces.insert(name, object);
            }
            Change::Gone(object) => {
                self.mirrors.write().namespaces.remove(&object.name_any());
                self.push(Key::Scaffold);
            }
            Change::Filled => drop(self.filled.insert("ContainerNamespace")),
        }
    }

    fn namespace_changed(&mut self, change: Change<Namespace>) {
        match change {
            Change::Gone(object) if object.name_any() == self.namespace => {
                self.push(Key::Scaffold);
            }
            Change::Filled => drop(self.filled.insert("Namespace")),
            Change::Put(_) | Change::Gone(_) => {}
        }
    }

    pub(super) fn engine_event(&mut self, event: Event) {
        tracing::debug!(kind = ?event.kind, id = event.id, action = event.action, "engine event");
        let goes = matches!(
            event.action.as_str(),
            "destroy" | "delete" | "untag" | "die"
        );
        let key = match event.kind {
            Kind::Container => Key::Container(event.id),
            Kind::Image => Key::Image(event.id),
            Kind::Volume => Key::Volume(event.id),
        };
        if let Some(session) = &mut self.session {
            session.fresh.event(&key, event.at);
        }
        self.push(key);
        if let Some(tag) = event.tag {
            self.push(Key::Image(tag));
        }
        if goes {
            for key in std::mem::take(&mut self.blocked) {
                self.push(key);
            }
        }
    }

    /// Brings the mirrors of volumes in line whose size is another than before.
    pub(super) fn measured(&mut self, sizes: BTreeMap<String, i64>) {
        let Some(session) = &self.session else {
            return;
        };
        let changed: Vec<Key> = {
            let known = session.work.sizes.read();
            sizes
                .iter()
                .filter(|(name, size)| known.get(*name) != Some(*size))
                .map(|(name, _)| Key::Volume(name.clone()))
                .collect()
        };
        *session.work.sizes.write() = sizes;
        for key in changed {
            self.push(key);
        }
    }

    pub(super) fn worked(&mut self, key: &Key, Outcome { done, wrote }: Outcome) {
        if key.is_request() {
            self.requests.done(key, done.is_ok());
        } else {
            self.queue.done(key, done.is_ok());
        }
        self.context.record(
            &format!("{key:?}"),
            done.as_ref().map(drop).map_err(Clone::clone),
        );
        if self.silent.remove(key)
            && done.is_ok()
            && let Key::Container(id) = key
        {
            let mirror = self.mirrors.read().containers.get(id).cloned();
            if let Some(mirror) = mirror.filter(|mirror| mirror.status.is_none()) {
                self.silent(&mirror);
            }
        }
        let succeeded = done.is_ok();
        match done {
            Ok(more) => {
                self.blocked.remove(key);
                for key in more {
                    self.push(key);
                }
            }
            Err(error) => {
                tracing::warn!(?key, error, "failed, and tried again later");
                if key.is_deletion() {
                    self.blocked.insert(key.clone());
                }
            }
        }
        let Some(session) = &mut self.session else {
            return;
        };
        session.first.remove(key);
        if !succeeded {
            return;
        }
        let asked = session
            .round
            .as_mut()
            .is_some_and(|round| round.worked(key));
        session.fresh.worked(key, asked && wrote);
        if session.round.as_ref().is_some_and(Round::is_complete) {
            session.round = None;
            session.fresh.verified();
        }
    }
}
