//! What the mock shows.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, anyhow};
use hex::encode;
use rdd_api::{ContainerStatus, ImageStatus, VolumeStatus};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Everything, under the names of its objects.
pub(super) struct Data {
    pub(super) namespaces: Vec<String>,
    pub(super) containers: Vec<Mirror>,
    pub(super) images: Vec<Mirror>,
    pub(super) volumes: Vec<Mirror>,
}

/// One mirror.
pub(super) struct Mirror {
    pub(super) name: String,
    pub(super) status: Value,
}

#[derive(Deserialize)]
struct File {
    namespaces: Vec<String>,
    containers: Vec<OfContainer>,
    images: Vec<ImageStatus>,
    volumes: Vec<VolumeStatus>,
}

#[derive(Deserialize)]
struct OfContainer {
    id: String,
    status: ContainerStatus,
}

impl Data {
    /// What is built in, read once.
    pub(super) fn bundled() -> Result<&'static Self> {
        static DATA: LazyLock<Result<Data>> = LazyLock::new(Data::read);
        DATA.as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    fn read() -> Result<Self> {
        let file: File = serde_json::from_str(include_str!("data.json"))
            .context("the bundled mirrors are broken")?;
        let status = |status: serde_json::Result<Value>| status.context("a status is no JSON");
        let mut data = Self {
            namespaces: file.namespaces,
            containers: Vec::new(),
            images: Vec::new(),
            volumes: Vec::new(),
        };
        for container in file.containers {
            data.containers.push(Mirror {
                name: container.id,
                status: status(serde_json::to_value(&container.status))?,
            });
        }
        for image in file.images {
            let tag = image.repo_tag.as_deref().unwrap_or_default();
            data.images.push(Mirror {
                name: format!("{}-{}", plain(&image.id), encode(Sha256::digest(tag))),
                status: status(serde_json::to_value(&image))?,
            });
        }
        for volume in file.volumes {
            data.volumes.push(Mirror {
                name: plain(&volume.name),
                status: status(serde_json::to_value(&volume))?,
            });
        }
        Ok(data)
    }

    /// What the container of this identifier is said to have as labels.
    pub(super) fn labels(&self, id: &str) -> Option<Vec<(String, String)>> {
        let container = self.containers.iter().find(|one| one.name == id)?;
        let labels = container.status["labels"].as_object();
        let labels = labels.into_iter().flatten().map(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            (key.clone(), value.to_owned())
        });
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        Some(labels)
    }
}

/// A name that an object can have: `sha256:a/B_c` is `sha256.a-b-c`.
fn plain(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        ':' => '.',
        '/' | '_' => '-',
        letter => letter.to_ascii_lowercase(),
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_read_and_named() {
        let data = Data::bundled().expect("it is whole");
        assert!(data.namespaces.iter().any(|name| name == "buildkit"));
        assert_eq!(
            [data.containers.len(), data.images.len(), data.volumes.len()],
            [3, 3, 2]
        );
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        for container in &data.containers {
            assert!(container.name.len() == 64 && hex(&container.name));
        }
        let names: Vec<&str> = data.volumes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["shop-data", "scratch.1"]);
        let (id, tag) = data.images[1].name.split_once('-').expect("two parts");
        assert!(id.starts_with("sha256.") && hex(&id[7..]));
        assert_eq!(tag, encode(Sha256::digest("postgres:17")));
        let labels = data.labels(&data.containers[0].name).expect("it is there");
        assert_eq!(labels[2], ("tier".to_owned(), "front".to_owned()));
    }
}
