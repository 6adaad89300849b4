//! Who set which fields: `metadata.managedFields`.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use rdd_schema::Schema;
use serde_json::{Map, Value, json};

use crate::{
    field_set::FieldSet,
    shape::Place,
    typed::{Comparison, check, reconciled},
};

/// How many entries of operation Update one object keeps.
const UPDATE_ENTRIES_MAX: usize = 10;

/// Whose entry takes the oldest ones over.
const ANCIENT: &str = "ancient-changes";

/// Who owns what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// A write other than apply, as far as ownership goes.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// What the object looks like.
    pub schema: &'a Schema,
    /// The field manager; empty means `unknown`.
    pub manager: &'a str,
    /// The version of the request.
    pub api_version: &'a str,
    /// The subresource written to; empty for the object itself.
    pub subresource: &'a str,
    /// Fields that this endpoint never owns.
    pub reset_fields: &'a [Vec<String>],
    /// Every `apiVersion` in which the object can be had.
    pub api_versions: &'a [String],
    /// What an object of this type prints with nothing set; an empty object for custom resources.
    pub blank: &'a Value,
    /// The current time in RFC 3339, seconds, UTC.
    pub now: &'a str,
    /// A custom resource rather than a built-in type.
    pub custom: bool,
    /// What the object looks like in the versions other than the request's.
    pub other_versions: &'a [(String, Arc<Schema>)],
}

/// Who an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub manager: String,
    pub applied: bool,
    /// Empty for Apply: one manager has one entry whatever the version.
    version: String,
    pub subresource: String,
}

impl Id {
    pub(crate) fn apply(manager: &str, subresource: &str) -> Self {
        Self::new(manager, true, "", subresource)
    }

    fn new(manager: &str, applied: bool, version: &str, subresource: &str) -> Self {
        Self {
            manager: if manager.is_empty() {
                "unknown"
            } else {
                manager
            }
            .to_owned(),
            applied,
            version: if applied { "" } else { version }.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// What one manager set.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub set: FieldSet,
    pub api_version: String,
    pub time: Option<String>,
}

/// The entries of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed {
    pub entries: BTreeMap<Id, Entry>,
}

/// Why the owners of an object's fields cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrackable {
    /// An entry is of a version that the object cannot be had in.
    #[error("request to convert CR to an invalid group/version: {0}")]
    UnknownVersion(String),
    /// A list holds an item without its key.
    #[error("an item of an associative list lacks its key")]
    Keyless,
    /// The object does not fit a version in which others have set fields.
    #[error("failed to convert {0} object: {1}")]
    Misfit(&'static str, String),
}

/// Records in `new` what it sets against `live`; without `live` it is a create.
///
/// Entries that the client sent replace the stored ones when they are valid; one
/// empty entry erases the tracking. An object whose tracking was erased stays
/// untracked until the next apply.
pub fn track_update(live: Option<&Value>, new: &mut Value, update: &Update<'_>) {
    let sent = take(new);
    let stored = || {
        let stored = live.and_then(|live| live.pointer("/metadata/managedFields"));
        Managed::decode(stored.unwrap_or(&Value::Null)).unwrap_or_default()
    };
    let mut managed = if !update.subresource.is_empty() {
        stored()
    } else if resets(&sent, update.custom) {
        Managed::default()
    } else {
        match Managed::decode(&sent) {
            Ok(managed) if !managed.entries.is_empty() => managed,
            _ => stored(),
        }
    };
    if live.is_some() && managed.entries.is_empty() {
        return;
    }
    // Nothing can be said of values that do not fit a schema that was changed under them,
    // and so nothing is.
    let fits = |object: &Value| {
        let errors = check(Place::Object(update.schema), object);
        errors
            .iter()
            .all(|error| error.contains(": duplicate entries for key "))
    };
    if update.custom && !(fits(new) && live.is_none_or(fits)) {
        return;
    }
    let recorded = managed.record(
        live.unwrap_or(update.blank),
        new,
        update,
        update.manager,
        Some(update.now).filter(|_| update.subresource != "scale"),
    );
    // Entries that cannot be kept right are not kept.
    if recorded.is_ok() {
        managed.cap();
        managed.encode(new);
    }
}

/// Takes a field away from all who own it; who is left with nothing is forgotten.
pub fn disown(object: &mut Value, path: &[String]) {
    let entries = take(object);
    let Ok(mut managed) = Managed::decode(&entries) else {
        return;
    };
    let gone = FieldSet::of_fields(&[path.to_vec()]);
    for entry in managed.entries.values_mut() {
        entry.set.remove_recursively(&gone);
    }
    managed.drop_empty();
    managed.encode(object);
}

/// Whether a client asks to erase the tracking.
fn resets(sent: &Value, custom: bool) -> bool {
    let Value::Array(entries) = sent else {
        return false;
    };
    match &entries[..] {
        [] => !custom,
        [Value::Object(entry)] => entry.is_empty(),
        _ => false,
    }
}

/// Reads managed fields as they stand in an object, to see whether they are in order.
///
/// # Errors
/// What is wrong with them, in the words of kube-apiserver.
pub fn read(entries: &Value) -> Result<(), String> {
    Managed::decode(entries).map(|_| ())
}

/// Takes the entries out of an object.
pub(crate) fn take(object: &mut Value) -> Value {
    object
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|metadata| metadata.remove("managedFields"))
        .unwrap_or(Value::Null)
}

impl Managed {
    /// Reads the entries of an object; null is none.
    ///
    /// # Errors
    /// Which entry does not have the form of one.
    pub(crate) fn decode(entries: &Value) -> Result<Self, String> {
        let entries = match entries {
            Value::Null => return Ok(Self::default()),
            Value::Array(entries) => entries,
            _ => return Err("managedFields must be a list".to_owned()),
        };
        let mut managed = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let applied = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
                other => {
                    return Err(format!(
                        "invalid fieldsType {other:?} in managed fields entry {at}"
                    ));
                }
            }
            let set = match entry.get("fieldsV1") {
                None | Some(Value::Null) => FieldSet::default(),
                Some(fields) => FieldSet::decode(fields).map_err(|error| error.to_string())?,
            };
            managed.entries.insert(
                Id::new(text("manager"), applied, api_version, text("subresource")),
                Entry {
                    set,
                    api_version: api_version.to_owned(),
                    time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                },
            );
        }
        Ok(managed)
    }

    /// Writes the entries into an object, in their order.
    pub(crate) fn encode(self, object: &mut Value) {
        let Some(metadata) = object
            .as_object_mut()
            .map(|fields| fields.entry("metadata").or_insert_with(|| json!({})))
            .and_then(Value::as_object_mut)
        else {
            return;
        };
        metadata.remove("managedFields");
        if self.entries.is_empty() {
            return;
        }
        let mut entries: Vec<(Id, Entry)> = self.entries.into_iter().collect();
        // Times have one form, so that their order is that of their text.
        entries.sort_by(|(a, x), (b, y)| {
            b.applied
                .cmp(&a.applied)
                .then_with(|| x.time.cmp(&y.time))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| x.api_version.cmp(&y.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let entries = entries.into_iter().map(|(id, entry)| {
            let mut fields = Map::new();
            let mut put = |name: &str, value: String| {
                fields.insert(name.to_owned(), Value::String(value));
            };
            put("apiVersion", entry.api_version);
            put("fieldsType", "FieldsV1".to_owned());
            put("manager", id.manager);
            put(
                "operation",
                if id.applied { "Apply" } else { "Update" }.to_owned(),
            );
            if !id.subresource.is_empty() {
                put("subresource", id.subresource);
            }
            if let Some(time) = entry.time {
                put("time", time);
            }
            fields.insert("fieldsV1".to_owned(), entry.set.encode());
            Value::Object(fields)
        });
        metadata.insert("managedFields".to_owned(), Value::Array(entries.collect()));
    }

    /// Fits every set to the schema of today.
    pub(crate) fn reconcile(&mut self, schema: &Schema) {
        for entry in self.entries.values_mut() {
            entry.set = reconciled(Place::Object(schema), &entry.set);
        }
    }

    /// Drops entries of versions that are gone.
    ///
    /// # Errors
    /// Custom resources refuse such entries instead.
    pub(crate) fn check_versions(&mut self, update: &Update<'_>) -> Result<(), Untrackable> {
        let known = |version: &str| {
            version == update.api_version || update.api_versions.iter().any(|one| one == version)
        };
        if update.custom
            && let Some(entry) = self
                .entries
                .values()
                .find(|entry| !known(&entry.api_version))
        {
            return Err(Untrackable::UnknownVersion(entry.api_version.clone()));
        }
        self.entries.retain(|_, entry| known(&entry.api_version));
        Ok(())
    }

    /// Gives the manager what differs between the objects, and takes it from all others.
    fn record(
        &mut self,
        old: &Value,
        new: &Value,
        update: &Update<'_>,
        manager: &str,
        time: Option<&str>,
    ) -> Result<(), Untrackable> {
        self.check_versions(update)?;
        self.check_other_versions(update, None, old, new)?;
        self.reconcile(update.schema);
        let mut comparison = Comparison::between(Place::Object(update.schema), old, new);
        if comparison.keyless {
            return Err(Untrackable::Keyless);
        }
        comparison.ignore(&FieldSet::of_fields(update.reset_fields));
        let set = comparison.set();
        for entry in self.entries.values_mut() {
            entry.set.remove(&set);
            entry.set.remove(&comparison.removed);
        }
        // What was removed and added at once, as an item that is now there twice, is set.
        let mut own = set;
        remove_untracked(&mut own);
        if !own.is_empty() {
            let id = Id::new(manager, false, update.api_version, update.subresource);
            let entry = self.entries.entry(id).or_insert_with(|| Entry {
                set: FieldSet::default(),
                api_version: update.api_version.to_owned(),
                time: None,
            });
            if entry.set.is_empty() {
                entry.set = own;
            } else {
                entry.set.add(&own);
            }
            entry.time = time.map(str::to_owned);
        }
        self.drop_empty();
        Ok(())
    }

    /// Objects have to fit every version in which somebody else than `own` set fields.
    pub(crate) fn check_other_versions(
        &self,
        update: &Update<'_>,
        own: Option<&Id>,
        old: &Value,
        new: &Value,
    ) -> Result<(), Untrackable> {
        for (version, schema) in update.other_versions {
            let concerns = |(id, entry): (&Id, &Entry)| {
                entry.api_version == *version && own.is_none_or(|own| own != id)
            };
            if !self.entries.iter().any(concerns) {
                continue;
            }
            for (which, object) in [("old", old), ("new", new)] {
                let mut errors = check(Place::Object(schema), object);
                errors.retain(|error| !error.contains(": duplicate entries for key "));
                match errors.as_slice() {
                    [] => {}
                    [error] => return Err(Untrackable::Misfit(which, error.clone())),
                    several => {
                        let text = format!("errors:\n  {}", several.join("\n  "));
                        return Err(Untrackable::Misfit(which, text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Records all that an untracked object holds, before something is applied to it.
    pub(crate) fn record_before_first_apply(
        &mut self,
        live: &Value,
        update: &Update<'_>,
    ) -> Result<(), Untrackable> {
        self.record(
            update.blank,
            live,
            update,
            BEFORE_FIRST_APPLY,
            Some(update.now),
        )
    }

    pub(crate) fn drop_empty(&mut self) {
        self.entries.retain(|_, entry| !entry.set.is_empty());
    }

    /// Merges the oldest Update entries of a version into one when there are too many.
    fn cap(&mut self) {
        let mut oldest: Vec<Id> = self
            .entries
            .keys()
            .filter(|id| !id.applied)
            .cloned()
            .collect();
        let mut count = oldest.len();
        if count <= UPDATE_ENTRIES_MAX {
            return;
        }
        oldest.sort_by(|a, b| {
            let time = |id: &Id| self.entries.get(id).and_then(|entry| entry.time.clone());
            time(a).cmp(&time(b)).then_with(|| a.cmp(b))
        });
        let mut first_of_version: BTreeMap<String, Id> = BTreeMap::new();
        for id in oldest {
            if count <= UPDATE_ENTRIES_MAX {
                return;
            }
            let Some(version) = self.entries.get(&id).map(|entry| entry.api_version.clone()) else {
                continue;
            };
            let bucket = Id::new(ANCIENT, false, &version, "");
            let Some(first) = first_of_version.get(&version) else {
                first_of_version.insert(version, id);
                continue;
            };
            if id == bucket {
                continue;
            }
            if !self.entries.contains_key(&bucket)
                && let Some(entry) = self.entries.remove(first)
            {
                self.entries.insert(bucket.clone(), entry);
            }
            if let (Some(entry), Some(into)) =
                (self.entries.remove(&id), self.entries.get_mut(&bucket))
            {
                into.set.add(&entry.set);
                into.time = entry.time;
                count -= 1;
            }
        }
    }
}

/// Removes what is never recorded: identity and what the server alone sets.
pub(crate) fn remove_untracked(set: &mut FieldSet) {
    if set.is_empty() {
        return;
    }
    set.remove(&UNTRACKED);
}

/// What no manager ever owns.
static UNTRACKED: LazyLock<FieldSet> = LazyLock::new(|| {
    const METADATA: [&str; 9] = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:clusterName",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ];
    let mut untracked = FieldSet::default();
    for path in [["f:apiVersion"], ["f:kind"], ["f:metadata"]] {
        untracked.insert(path);
    }
    for field in METADATA {
        untracked.insert(["f:metadata", field]);
    }
    untracked
});
