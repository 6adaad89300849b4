//! All there is, on both sides.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use parking_lot::RwLock;

use super::actions;
use super::connection::chain;
use super::mirrors::{Mirrors, is_deleting, is_of};
use super::work::{Key, Work, is_nameless_image, is_nameless_volume};

/// Keys of everything.
pub(super) struct Both {
    /// What the engine has.
    pub(super) engine: BTreeSet<Key>,
    /// What has a mirror.
    pub(super) mirrors: BTreeSet<Key>,
}

impl Both {
    pub(super) fn all(&self) -> BTreeSet<Key> {
        self.engine.union(&self.mirrors).cloned().collect()
    }
}

/// What the engine has and what has a mirror; the mirrors are read last, so that one
/// that was made meanwhile is not taken for a leftover without a look.
pub(super) async fn everything(work: &Work, mirrors: &RwLock<Mirrors>) -> Result<Both, String> {
    let lists = tokio::try_join!(
        work.engine.containers(),
        work.engine.images(),
        work.engine.volumes(),
    );
    let (containers, images, volumes) = lists.map_err(|error| chain(&error))?;
    let containers = containers.into_iter().map(Key::Container);
    let images = images.into_iter().map(|image| Key::Image(image.id));
    let volumes = volumes.into_iter().map(|volume| Key::Volume(volume.name));
    let engine = containers.chain(images).chain(volumes);
    Ok(Both {
        engine: engine.chain([Key::Scaffold]).collect(),
        mirrors: mirrored(&work.label, &mirrors.read()),
    })
}

fn mirrored(label: &str, mirrors: &Mirrors) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::Scaffold]);
    for mirror in mirrors
        .containers
        .values()
        .filter(|mirror| is_of(&***mirror, label))
    {
        keys.insert(if is_deleting(&**mirror) {
            Key::ContainerMirror(mirror.name_any())
        } else {
            Key::Container(mirror.name_any())
        });
        if actions::is_asked(mirror) {
            keys.insert(Key::Action(mirror.name_any()));
        }
    }
    keys.extend(mirrors.image_ids().into_iter().map(Key::Image));
    for mirror in mirrors
        .images
        .values()
        .filter(|mirror| is_deleting(&***mirror) || is_nameless_image(mirror))
    {
        keys.insert(Key::ImageMirror(mirror.name_any()));
    }
    for mirror in mirrors
        .volumes
        .values()
        .filter(|mirror| is_of(&***mirror, label))
    {
        if is_deleting(&**mirror) || is_nameless_volume(mirror) {
            keys.insert(Key::VolumeMirror(mirror.name_any()));
        } else if let Some(status) = &mirror.status {
            keys.insert(Key::Volume(status.name.clone()));
        }
    }
    keys
}
