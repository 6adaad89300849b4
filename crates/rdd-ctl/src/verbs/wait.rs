//! `wait` and `wait-condition`.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::args::{Wait, WaitCondition};
use crate::connection::{Connection, JSON, escape};
use crate::error::{Error, Result};
use crate::resources::{Resource, Resources};
use crate::verbs::{limit, targets};
use rdd_jsonpath::{Template, show};

/// The first pause between two looks; a watch would see the same a little earlier.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// The longest pause.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// What is waited for.
enum Goal {
    Create,
    Delete,
    Condition(String, String),
    Path(Template, Option<String>),
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "create" {
            return Ok(Self::Create);
        }
        if lower == "delete" {
            return Ok(Self::Delete);
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
            return Ok(Self::Condition(name.to_lowercase(), status.to_lowercase()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'');
            if rest.is_empty() {
                return Err(Error::new("jsonpath expression cannot be empty"));
            }
            // The value stands behind the closing brace; filters hold equal signs too.
            let (path, value) = match rest.rfind('}') {
                Some(end) => (&rest[..=end], rest[end + 1..].strip_prefix('=')),
                None => match rest.split_once('=') {
                    Some((path, value)) => (path, Some(value)),
                    None => (rest, None),
                },
            };
            if value == Some("") {
                return Err(Error::new(
                    "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
                ));
            }
            return Ok(Self::Path(
                Template::parse(path)?,
                value.map(|value| value.trim_matches(['\'', '"']).to_owned()),
            ));
        }
        Err(Error::new(format_args!("unrecognized condition: {text:?}")))
    }

    fn is_met(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Create, found) => found.is_some(),
            (Self::Delete, found) => found.is_none(),
            (_, None) => false,
            (Self::Condition(name, status), Some(object)) => {
                condition(object, name).is_some_and(|condition| {
                    let fresh = condition["observedGeneration"].as_i64().is_none_or(|seen| {
                        seen >= object["metadata"]["generation"]
                            .as_i64()
                            .unwrap_or_default()
                    });
                    fresh
                        && condition["status"]
                            .as_str()
                            .is_some_and(|found| found.to_lowercase() == *status)
                })
            }
            (Self::Path(path, value), Some(object)) => {
                match (path.find(object).as_slice(), value) {
                    ([], _) => false,
                    (_, None) => true,
                    (found, Some(value)) => found.iter().any(|found| show(found) == *value),
                }
            }
        }
    }
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| {
        condition["type"]
            .as_str()
            .is_some_and(|found| found.to_lowercase() == name)
    })
}

/// Waits until the goal is met for every object.
pub(crate) async fn run(connection: &Connection, wait: &Wait) -> Result<()> {
    let goal = Goal::parse(&wait.what)?;
    let deadline = Instant::now() + limit(&wait.timeout)?.unwrap_or_default();
    let resources = Resources::discover(connection).await?;
    let mut paths: Vec<(Resource, String, Option<String>)> = Vec::new();
    for wanted in targets::parse(&resources, &wait.words)? {
        match &wanted.name {
            Some(name) => {
                let name = targets::real_name(connection, wanted.resource, name).await?;
                paths.push((
                    wanted.resource.clone(),
                    wanted.resource.object_path(&connection.namespace, &name),
                    None,
                ));
            }
            None => {
                let mut pause = LOOK_MIN;
                loop {
                    let found = targets::read(
                        connection,
                        &resources,
                        &wait.words[..1],
                        &wait.select,
                        wait.all,
                    )
                    .await?;
                    if !found.is_empty() || matches!(goal, Goal::Delete) {
                        for (resource, object) in found {
                            let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
                            paths.push((
                                resource.clone(),
                                targets::path(connection, &resource, &object),
                                uid,
                            ));
                        }
                        break;
                    }
                    if !matches!(goal, Goal::Create) {
                        return Err(Error::new("no matching resources found"));
                    }
                    if Instant::now() >= deadline {
                        return Err(Error::new("timed out waiting for the condition"));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LOOK_MAX);
                }
            }
        }
    }
    let mut failed = None;
    for (resource, path, mut uid) in paths {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut pause = LOOK_MIN;
        loop {
            let found = match connection.get(&path, JSON).await {
                Ok(object) => Some(object),
                Err(error) if error.status() == Some(404) => match goal {
                    Goal::Create | Goal::Delete => None,
                    _ => return Err(error),
                },
                Err(error) => return Err(error),
            };
            let same = match (&found, &uid) {
                (Some(object), Some(uid)) => object["metadata"]["uid"] == uid.as_str(),
                _ => true,
            };
            if uid.is_none() {
                uid = found
                    .as_ref()
                    .and_then(|object| object["metadata"]["uid"].as_str())
                    .map(str::to_owned);
            }
            if matches!(goal, Goal::Delete) && found.is_none() && uid.is_none() {
                // It was not there to begin with.
                break;
            }
            let met = goal.is_met(found.as_ref()) || (matches!(goal, Goal::Delete) && !same);
            if met {
                println!("{} condition met", resource.named(&name));
                break;
            }
            if Instant::now() >= deadline {
                // The others may meet it all the same.
                Error::new(format_args!(
                    "timed out waiting for the condition on {}/{name}",
                    resource.plural
                ))
                .keep(&mut failed);
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// `TYPE[.GROUP]/NAME CONDITION[=STATUS]`, with reason and time.
pub(crate) async fn condition_of(
    connection: &Connection,
    wait: &WaitCondition,
    namespace: Option<&str>,
) -> Result<()> {
    let [object, wanted] = wait.words.as_slice() else {
        return Err(Error::new(format_args!(
            "expected TYPE/NAME and CONDITION[=STATUS] arguments, got {} arguments",
            wait.words.len()
        )));
    };
    let (kind, name) = object
        .split_once('/')
        .ok_or_else(|| Error::new(format_args!("expected TYPE/NAME, got {object:?}")))?;
    if kind.is_empty() || name.is_empty() {
        return Err(Error::new(format_args!(
            "both TYPE and NAME must be non-empty in {object:?}"
        )));
    }
    let (condition_name, status) = wanted.split_once('=').unwrap_or((wanted, "True"));
    if condition_name.is_empty() {
        return Err(Error::new(format_args!(
            "condition type must not be empty in {wanted:?}"
        )));
    }
    let since = match wait.since.as_deref() {
        None => None,
        Some("startup") => Some(startup(connection).await?),
        Some(text) => Some(text.parse::<jiff::Timestamp>().map_err(|error| {
            Error::new(format_args!("invalid --since timestamp {text:?}: {error}"))
        })?),
    };
    let deadline = limit(&wait.timeout)?.map(|limit| Instant::now() + limit);
    let resources = Resources::discover(connection).await?;
    let resource = resources.find(kind)?;
    let path = resource.object_path(namespace.unwrap_or("default"), name);
    let mut seen = None;
    let mut pause = LOOK_MIN;
    loop {
        match connection.get(&path, JSON).await {
            Ok(object) => {
                let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
                if seen.is_some() && seen != uid {
                    return Err(Error::new("resource was deleted while waiting"));
                }
                seen = uid;
                let met =
                    condition(&object, &condition_name.to_lowercase()).is_some_and(|condition| {
                        let changed = condition["lastTransitionTime"]
                            .as_str()
                            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
                        condition["status"] == status
                            && wait
                                .reason
                                .as_deref()
                                .is_none_or(|reason| condition["reason"] == reason)
                            && since
                                .is_none_or(|since| changed.is_some_and(|changed| changed > since))
                    });
                if met {
                    println!("{} condition met", resource.named(name));
                    return Ok(());
                }
            }
            Err(error) if error.status() == Some(404) => {
                if seen.is_some() {
                    return Err(Error::new("resource was deleted while waiting"));
                }
            }
            Err(error) => return Err(error),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::Expired(format!(
                "timed out waiting for {wanted} on {object}: context deadline exceeded"
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

async fn startup(connection: &Connection) -> Result<jiff::Timestamp> {
    let path = format!(
        "/api/v1/namespaces/{}/configmaps/{}",
        escape("rdd-system"),
        escape("rdd-controller-manager")
    );
    let map = connection.get(&path, JSON).await?;
    let created = map["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default();
    created
        .parse()
        .map_err(|error| Error::new(format_args!("failed to resolve startup time: {error}")))
}
