//! The k3s releases that an App may name.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// The list, as it is bundled.
const BUNDLED: &str = include_str!("k3s-versions.json");

/// The channel of an App that names no version.
const DEFAULT_CHANNEL: &str = "stable";

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Bare version by channel.
    channels: BTreeMap<String, String>,
    /// Tags: `v1.32.0+k3s1`.
    versions: Vec<String>,
}

/// Every version with the one tag under which it is released.
#[derive(Debug)]
pub(super) struct Releases {
    channels: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

impl Releases {
    /// The releases that this program knows.
    ///
    /// # Errors
    /// When the bundled list is malformed, which ends the start of its controller.
    pub(super) fn bundled() -> Result<Self> {
        Self::parse(BUNDLED).context("the bundled k3s-versions.json is malformed")
    }

    fn parse(text: &str) -> Result<Self> {
        let document: Document = serde_json::from_str(text)?;
        let mut tags = BTreeMap::new();
        for tag in document.versions {
            let bare = bare(&tag).with_context(|| format!("{tag:?} is no tag of k3s"))?;
            if let Some(other) = tags.insert(bare.to_owned(), tag.clone()) {
                bail!("{other} and {tag} are the same version");
            }
        }
        let mut channels = BTreeMap::new();
        for (channel, version) in document.channels {
            ensure!(
                tags.contains_key(&version),
                "channel {channel:?} leads to {version:?}, which is not in the list"
            );
            channels.insert(without_v(&channel).to_owned(), version);
        }
        ensure!(
            channels.contains_key(DEFAULT_CHANNEL),
            "there is no channel {DEFAULT_CHANNEL:?}"
        );
        Ok(Self { channels, tags })
    }

    /// The version that a wish stands for, where it is a channel, or is left open although
    /// Kubernetes is wanted.
    pub(super) fn resolve(&self, enabled: bool, version: &str) -> Option<&str> {
        let channel = match version {
            "" if enabled => DEFAULT_CHANNEL,
            other => without_v(other),
        };
        self.channels.get(channel).map(String::as_str)
    }

    /// The tag of a bare version: exactly what can be installed.
    pub(super) fn tag(&self, version: &str) -> Option<&str> {
        self.tags.get(version).map(String::as_str)
    }
}

fn without_v(text: &str) -> &str {
    text.strip_prefix('v').unwrap_or(text)
}

/// `1.32.0` of `v1.32.0+k3s1`.
fn bare(tag: &str) -> Option<&str> {
    let (version, build) = tag.strip_prefix('v')?.split_once("+k3s")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').collect();
    (parts.len() == 3 && parts.into_iter().all(is_number) && is_number(build)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_entry_leads_to_one_release() {
        let releases = Releases::bundled().expect("it is well formed");
        assert!(releases.tags.len() > 50);
        for (version, tag) in &releases.tags {
            assert_eq!(releases.tag(version), Some(tag.as_str()));
            assert!(tag.starts_with(&format!("v{version}+k3s")), "{tag}");
            assert_eq!(
                releases.resolve(true, version),
                None,
                "{version} is no channel"
            );
        }
        for channel in releases.channels.keys() {
            for spelling in [channel.clone(), format!("v{channel}")] {
                let version = releases.resolve(false, &spelling).expect("a version");
                assert!(releases.tag(version).is_some(), "{spelling}");
            }
        }
        // The build is kept as it was released: not all are the first.
        assert_eq!(releases.tag("1.28.3"), Some("v1.28.3+k3s2"));
        assert_eq!(releases.resolve(false, ""), None, "nothing is wanted");
        assert!(releases.resolve(true, "").is_some());
        for other in ["vv1.32", "1.32.0", "newest", "v"] {
            assert_eq!(releases.resolve(true, other), None, "{other}");
        }
    }

    #[test]
    fn a_malformed_list_is_refused_with_the_entry() {
        let check = |text: &str, expect: &str| {
            let error = Releases::parse(text).expect_err(text);
            assert!(format!("{error:#}").contains(expect), "{error:#}");
        };
        check("", "EOF");
        check(r#"{"channels": {}}"#, "missing field `versions`");
        check(r#"{"channels": {}, "versions": [], "more": 1}"#, "more");
        check(
            r#"{"channels": {}, "versions": ["1.2.3"]}"#,
            "\"1.2.3\" is no tag",
        );
        check(
            r#"{"channels": {"stable": "1.2.4"}, "versions": ["v1.2.3+k3s1"]}"#,
            "leads to \"1.2.4\", which is not in the list",
        );
        check(
            r#"{"channels": {}, "versions": ["v1.2.3+k3s1", "v1.2.3+k3s2"]}"#,
            "the same version",
        );
        check(
            r#"{"channels": {}, "versions": ["v1.2.3+k3s1"]}"#,
            "no channel \"stable\"",
        );
    }
}
