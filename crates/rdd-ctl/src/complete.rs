//! What a shell may offer for the last word of a command line: verbs, flags, types, and
//! the names of what there is now.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::Target;
use crate::args::{Cli, Common};
use crate::connection::{Connection, JSON};
use crate::error::Result;
use crate::resources::{Resource, Resources};

/// Nobody waits longer for an offer.
const LIMIT: Duration = Duration::from_secs(2);

/// How much of an identifier is offered, as Docker shows it.
const SHORT: usize = 12;

/// Offers for the last of these words, each on its own. Without a server, and whenever it
/// does not answer at once, only what needs none is offered.
pub async fn complete(words: &[String], target: &Target) -> Vec<String> {
    let words = joined(words);
    let Some((last, before)) = words.split_last() else {
        return Vec::new();
    };
    let given = Given::of(before);
    let offers = match (&given.verb, given.is_value) {
        _ if given.is_over => Vec::new(),
        (_, true) => Vec::new(),
        (None, _) if !last.starts_with('-') => verbs(),
        (Some(verb), _) if !last.starts_with('-') => {
            let asked = objects(verb, &given, last, target);
            match timeout(LIMIT, asked).await {
                Ok(Ok(found)) => found,
                // A shell has no place for a reason.
                Ok(Err(_)) | Err(_) => Vec::new(),
            }
        }
        (verb, _) => flags(verb.as_deref()),
    };
    let mut fitting: Vec<String> = offers;
    fitting.retain(|offer| offer.starts_with(last.as_str()));
    fitting
}

/// Bash takes `--flag=value` for three words.
fn joined(words: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in words {
        match all.last_mut() {
            Some(flag) if flag.starts_with("--") && (word == "=" || flag.ends_with('=')) => {
                flag.push_str(word);
            }
            _ => all.push(word.clone()),
        }
    }
    all
}

/// What the words before the last one say.
#[derive(Debug, Default)]
struct Given {
    verb: Option<String>,
    /// Words that are no flags, behind the verb.
    words: Vec<String>,
    namespace: Option<String>,
    /// The last word belongs to the flag before it.
    is_value: bool,
    /// The words belong to another command.
    is_over: bool,
}

impl Given {
    fn of(words: &[String]) -> Self {
        let mut given = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                given.is_over = true;
                return given;
            }
            if let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) {
                let flag = flag.trim_start_matches('-');
                let (name, value) = match flag.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None if takes_value(given.verb.as_deref(), flag) => {
                        let Some(value) = words.next() else {
                            given.is_value = true;
                            return given;
                        };
                        (flag, Some(value.clone()))
                    }
                    None => (flag, None),
                };
                if matches!(name, "n" | "namespace") {
                    given.namespace = value;
                }
            } else if given.verb.is_none() {
                given.verb = Some(word.clone());
            } else {
                given.words.push(word.clone());
            }
        }
        given
    }
}

/// The arguments of the program, and of a verb.
fn arguments(verb: Option<&str>) -> Vec<clap::Arg> {
    let cli = Cli::command();
    let mut all: Vec<clap::Arg> = cli.get_arguments().cloned().collect();
    let of_verb = verb.and_then(|verb| cli.find_subcommand(verb));
    all.extend(
        of_verb
            .into_iter()
            .flat_map(|verb| verb.get_arguments().cloned()),
    );
    all
}

fn takes_value(verb: Option<&str>, flag: &str) -> bool {
    arguments(verb).iter().any(|argument| {
        let short = argument.get_short().map(String::from);
        let is_it = argument.get_long() == Some(flag) || short.as_deref() == Some(flag);
        is_it
            && argument.get_action().takes_values()
            && argument
                .get_num_args()
                .is_none_or(|range| range.min_values() > 0)
    })
}

fn flags(verb: Option<&str>) -> Vec<String> {
    let all = arguments(verb).into_iter();
    all.filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect()
}

fn verbs() -> Vec<String> {
    let cli = Cli::command();
    let verbs = cli.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.map(|verb| verb.get_name().to_owned()).collect()
}

async fn objects(verb: &str, given: &Given, last: &str, target: &Target) -> Result<Vec<String>> {
    let common = Common {
        namespace: given.namespace.clone(),
        ..Common::default()
    };
    let one = matches!(verb, "logs" | "exec");
    let typed = matches!(
        verb,
        "get" | "describe" | "delete" | "edit" | "wait" | "patch" | "annotate" | "label"
    );
    if !(one && given.words.is_empty() || typed) {
        return Ok(Vec::new());
    }
    let connection = Connection::open(target.kubeconfig.as_deref(), &common).await?;
    let resources = Resources::discover(&connection).await?;
    if one {
        return names(&connection, resources.find("containers")?, last, "").await;
    }
    if let Some((kind, rest)) = last.split_once('/') {
        return names(
            &connection,
            resources.find(kind)?,
            rest,
            &format!("{kind}/"),
        )
        .await;
    }
    match given.words.first() {
        None => Ok(resources.plurals()),
        Some(kind) => names(&connection, resources.find(kind)?, last, "").await,
    }
}

/// The names of the objects of a type: those that people gave, and where none of them
/// fits, identifiers.
async fn names(
    connection: &Connection,
    resource: &Resource,
    begun: &str,
    before: &str,
) -> Result<Vec<String>> {
    let list = connection
        .get(&resource.path(Some(&connection.namespace)), JSON)
        .await?;
    let items = list["items"].as_array().into_iter().flatten();
    let (mut given, mut identifiers) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        match item["status"]["name"]
            .as_str()
            .filter(|_| has_given_names(resource))
        {
            Some(people) => {
                given.insert(people.to_owned());
                let short = name.get(..SHORT).filter(|_| is_identifier(item));
                identifiers.insert(short.unwrap_or(name).to_owned());
            }
            None => {
                given.insert(name.to_owned());
            }
        }
    }
    let fits = |name: &String| name.starts_with(begun);
    let found = if given.iter().any(fits) {
        given
    } else {
        identifiers
    };
    Ok(found
        .into_iter()
        .filter(fits)
        .map(|name| format!("{before}{name}"))
        .collect())
}

fn has_given_names(resource: &Resource) -> bool {
    matches!(
        resource.qualified().as_str(),
        "containers.containers.rancherdesktop.io" | "volumes.containers.rancherdesktop.io"
    )
}

/// Containers can be asked for by the beginning of their identifier.
fn is_identifier(item: &Value) -> bool {
    let name = item["metadata"]["name"].as_str().unwrap_or_default();
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offline() -> Target {
        Target {
            program: "rdd ctl".to_owned(),
            kubeconfig: None,
            editor: None,
            kubectl: None,
        }
    }

    async fn offers(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        complete(&words, &offline()).await
    }

    #[tokio::test]
    async fn verbs_and_flags_need_no_server() {
        assert_eq!(offers("lo").await, ["logs"]);
        assert_eq!(offers("-n x lo").await, ["logs"]);
        assert_eq!(offers("logs --ta").await, ["--tail"]);
        assert!(
            offers("get --name")
                .await
                .contains(&"--namespace".to_owned())
        );
        assert_eq!(offers("--namespace = x lo").await, ["logs"]);
        for nothing in ["get -n ", "exec web -- l", "logs web ", "logs w"] {
            assert_eq!(offers(nothing).await, [""; 0], "{nothing:?}");
        }
    }

    #[test]
    fn what_stands_before_the_last_word_is_understood() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let given = Given::of(&words("--namespace=a get -l x=y containers -w web"));
        assert_eq!(given.verb.as_deref(), Some("get"));
        assert_eq!(given.namespace.as_deref(), Some("a"));
        assert_eq!(given.words, ["containers", "web"]);
        assert!(Given::of(&words("get -o")).is_value);
        assert!(Given::of(&words("exec web --")).is_over);
    }
}
