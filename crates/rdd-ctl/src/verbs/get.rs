//! `get`.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::args::Get;
use crate::connection::{Connection, JSON, TABLE, escape};
use crate::error::{Error, Result};
use crate::manifest;
use crate::output::{Format, list, without_managed_fields};
use crate::resources::{Resource, Resources};
use crate::table::{Table, terminal_width};
use crate::verbs::targets::{self, Wanted};
use rdd_jsonpath::{Template, show};

/// Shows objects, and with `-w` what happens to them.
pub(crate) async fn run(connection: &Connection, get: &Get) -> Result<()> {
    if let Some(path) = &get.raw {
        let answer = connection.raw(path).await?;
        print!("{}", String::from_utf8_lossy(&answer));
        return Ok(());
    }
    let format = Format::parse(get.show.output.as_deref())?;
    let resources = Resources::discover(connection).await?;
    let mut wanted = wanted(&resources, get)?;
    for one in &mut wanted {
        if let Some(name) = &one.name {
            one.name = Some(targets::real_name(connection, one.resource, name).await?);
        }
    }
    if get.watch || get.watch_only {
        let [one] = wanted.as_slice() else {
            return Err(Error::new("you may only specify a single resource type"));
        };
        return watch(connection, get, &format, one).await;
    }
    if format.is_table() {
        tables(connection, get, &format, &wanted).await
    } else {
        documents(connection, get, &format, &wanted).await
    }
}

/// What words or files name.
fn wanted<'a>(resources: &'a Resources, get: &Get) -> Result<Vec<Wanted<'a>>> {
    if get.filename.is_empty() {
        let wanted = targets::parse(resources, &get.words)?;
        if get.select.selector.is_some() && wanted.iter().any(|one| one.name.is_some()) {
            return Err(Error::new(
                "name cannot be provided when a selector is specified",
            ));
        }
        if get.select.all_namespaces && wanted.iter().any(|one| one.name.is_some()) {
            return Err(Error::new(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        return Ok(wanted);
    }
    if !get.words.is_empty() {
        return Err(Error::new(
            "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
        ));
    }
    let objects = manifest::read(&get.filename)?;
    let wanted = objects.iter().map(|sourced| {
        let name = sourced.object["metadata"]["name"].as_str();
        Ok(Wanted {
            resource: resources.of_sourced(sourced)?,
            name: Some(name.unwrap_or_default().to_owned()),
        })
    });
    wanted.collect()
}

/// Path and query of what is wanted.
fn address(connection: &Connection, get: &Get, wanted: &Wanted<'_>) -> (String, String) {
    match &wanted.name {
        Some(name) => (
            wanted.resource.object_path(&connection.namespace, name),
            String::new(),
        ),
        None => {
            let namespace = (!get.select.all_namespaces).then_some(connection.namespace.as_str());
            (wanted.resource.path(namespace), targets::query(&get.select))
        }
    }
}

/// A selection that the server does not understand, with what was asked for.
fn unfindable(get: &Get, resource: &Resource, error: Error) -> Error {
    match error {
        Error::Server(mut status) if status["reason"] == "BadRequest" => {
            let message = status["message"].as_str().unwrap_or_default();
            status["message"] = format!(
                "Unable to find {:?} that match label selector {:?}, field selector {:?}: {message}",
                format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural),
                get.select.selector.as_deref().unwrap_or_default(),
                get.select.field_selector.as_deref().unwrap_or_default(),
            )
            .into();
            Error::Server(status)
        }
        error => error,
    }
}

/// All pages of a collection, or the object.
async fn read(
    connection: &Connection,
    get: &Get,
    wanted: &Wanted<'_>,
    accept: &str,
    more: &str,
) -> Result<Value> {
    let (path, query) = address(connection, get, wanted);
    if wanted.name.is_some() {
        let found = connection.get(&format!("{path}?{more}"), accept).await;
        if found
            .as_ref()
            .is_err_and(|error| error.status() == Some(404))
            && wanted.resource.namespaced
        {
            // The namespace may be what is missing.
            let namespace = format!("/api/v1/namespaces/{}", escape(&connection.namespace));
            if let Err(error) = connection.get(&namespace, JSON).await
                && error.status() == Some(404)
            {
                return Err(error);
            }
        }
        return found;
    }
    let mut whole: Option<Value> = None;
    let mut next = String::new();
    loop {
        let mut page_query = format!("{path}?{query}&{more}");
        if get.chunk_size > 0 {
            page_query.push_str(&format!("&limit={}", get.chunk_size));
        }
        if !next.is_empty() {
            page_query.push_str(&format!("&continue={}", escape(&next)));
        }
        let page = connection.get(&page_query, accept).await;
        let mut page = page.map_err(|error| unfindable(get, wanted.resource, error))?;
        next = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                for field in ["items", "rows"] {
                    if let (Some(all), Some(new)) =
                        (whole[field].as_array_mut(), page[field].as_array_mut())
                    {
                        all.append(new);
                    }
                }
            }
        }
        if next.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
    }
}

async fn documents(
    connection: &Connection,
    get: &Get,
    format: &Format,
    wanted: &[Wanted<'_>],
) -> Result<()> {
    let mut found = Vec::new();
    let mut failed = None;
    for one in wanted {
        match read(connection, get, one, JSON, "").await {
            Ok(mut document) => {
                if one.name.is_none() {
                    for item in document["items"].as_array_mut().into_iter().flatten() {
                        item["apiVersion"] = one.resource.api_version().into();
                        item["kind"] = one.resource.kind.clone().into();
                    }
                    found.extend(
                        document["items"]
                            .as_array_mut()
                            .map(std::mem::take)
                            .unwrap_or_default(),
                    );
                } else {
                    found.push(document);
                }
            }
            Err(error) if get.ignore_not_found && error.status() == Some(404) => {}
            Err(error) => error.keep(&mut failed),
        }
    }
    if let Some(path) = &get.sort_by {
        let path = Template::parse(path)?;
        found.sort_by_cached_key(|object| {
            path.find(object)
                .first()
                .map(|value| show(value))
                .unwrap_or_default()
        });
    }
    if !get.show_managed_fields {
        found.iter_mut().for_each(without_managed_fields);
    }
    let single = matches!(wanted, [Wanted { name: Some(_), .. }]);
    if !(found.is_empty() && single) {
        let document = if single { found.remove(0) } else { list(found) };
        format.print(&document, &|object| named(wanted, object))?;
    }
    failed.map_or(Ok(()), Err)
}

fn named(wanted: &[Wanted<'_>], object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let found = wanted.iter().find(|one| {
        object["kind"] == one.resource.kind.as_str()
            && object["apiVersion"] == one.resource.api_version().as_str()
    });
    found.map_or_else(|| name.to_owned(), |one| one.resource.named(name))
}

async fn tables(
    connection: &Connection,
    get: &Get,
    format: &Format,
    wanted: &[Wanted<'_>],
) -> Result<()> {
    let include = if get.sort_by.is_some() {
        "includeObject=Object"
    } else {
        ""
    };
    let kinds: std::collections::BTreeSet<String> =
        wanted.iter().map(|one| one.resource.qualified()).collect();
    let prefix = get.show_kind || kinds.len() > 1;
    let mut shown = 0;
    let mut failed = None;
    let mut printed: Option<&Resource> = None;
    let mut open: Option<(Layout, Table)> = None;
    for one in wanted {
        match read(connection, get, one, TABLE, include).await {
            Ok(mut document) => {
                if let Some(path) = &get.sort_by {
                    let path = Template::parse(path)?;
                    if let Some(rows) = document["rows"].as_array_mut() {
                        rows.sort_by_cached_key(|row| {
                            path.find(&row["object"])
                                .first()
                                .map(|value| show(value))
                                .unwrap_or_default()
                        });
                    }
                }
                let layout = Layout::new(get, format, one.resource, prefix, &document);
                let rows = layout.rows(&document);
                shown += rows.len();
                if rows.is_empty() {
                    continue;
                }
                match &mut open {
                    // Objects named one by one make one table.
                    Some((_, table)) if printed == Some(one.resource) => table.rows.extend(rows),
                    _ => {
                        flush(&mut open, get, printed.is_some() && prefix);
                        open = Some((
                            layout.clone(),
                            Table {
                                headings: layout.headings.clone(),
                                rows,
                            },
                        ));
                    }
                }
                printed = Some(one.resource);
            }
            Err(error) if get.ignore_not_found && error.status() == Some(404) => {}
            Err(error) => error.keep(&mut failed),
        }
    }
    flush(&mut open, get, false);
    if let Some(error) = failed {
        return Err(error);
    }
    if shown == 0 && !get.ignore_not_found {
        let everywhere =
            get.select.all_namespaces || wanted.iter().all(|one| !one.resource.namespaced);
        if everywhere {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", connection.namespace);
        }
    }
    Ok(())
}

fn flush(open: &mut Option<(Layout, Table)>, get: &Get, more: bool) {
    if let Some((_, table)) = open.take() {
        for line in table.lines(!get.no_headers, terminal_width()) {
            println!("{line}");
        }
        if more {
            println!();
        }
    }
}

/// Which of the server's columns are shown, and which of ours stand around them.
#[derive(Clone)]
struct Layout {
    columns: Vec<usize>,
    headings: Vec<String>,
    namespace: bool,
    labels: bool,
    label_columns: Vec<String>,
    /// What stands before the name.
    prefix: String,
}

impl Layout {
    fn new(
        get: &Get,
        format: &Format,
        resource: &Resource,
        prefix: bool,
        document: &Value,
    ) -> Self {
        let wide = matches!(format, Format::Table { wide: true });
        let definitions = document["columnDefinitions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let columns: Vec<usize> = definitions
            .iter()
            .enumerate()
            .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(index, _)| index)
            .collect();
        let namespace = get.select.all_namespaces && resource.namespaced;
        let mut headings = Vec::new();
        if namespace {
            headings.push("NAMESPACE".to_owned());
        }
        headings.extend(columns.iter().map(|index| {
            definitions[*index]["name"]
                .as_str()
                .unwrap_or_default()
                .to_uppercase()
        }));
        for label in &get.label_columns {
            headings.push(label.rsplit('/').next().unwrap_or(label).to_uppercase());
        }
        if get.show_labels {
            headings.push("LABELS".to_owned());
        }
        Self {
            columns,
            headings,
            namespace,
            labels: get.show_labels,
            label_columns: get.label_columns.clone(),
            prefix: if prefix {
                resource.named("")
            } else {
                String::new()
            },
        }
    }

    fn rows(&self, document: &Value) -> Vec<Vec<String>> {
        let rows = document["rows"].as_array().into_iter().flatten();
        rows.map(|row| {
            let metadata = &row["object"]["metadata"];
            let mut cells = Vec::new();
            if self.namespace {
                cells.push(
                    metadata["namespace"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
            for (position, index) in self.columns.iter().enumerate() {
                let cell = show(&row["cells"][*index]);
                cells.push(if position == 0 {
                    format!("{}{cell}", self.prefix)
                } else {
                    cell
                });
            }
            let labels = metadata["labels"].as_object();
            for wanted in &self.label_columns {
                let value = labels
                    .and_then(|labels| labels.get(wanted))
                    .and_then(Value::as_str);
                cells.push(value.unwrap_or_default().to_owned());
            }
            if self.labels {
                let all: Vec<String> = labels
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| format!("{name}={}", show(value)))
                    .collect();
                cells.push(if all.is_empty() {
                    "<none>".to_owned()
                } else {
                    all.join(",")
                });
            }
            cells
        })
        .collect()
    }
}

/// Shows what is there, then each change once; resumes when the server ends a watch.
async fn watch(
    connection: &Connection,
    get: &Get,
    format: &Format,
    wanted: &Wanted<'_>,
) -> Result<()> {
    let accept = if format.is_table() { TABLE } else { JSON };
    let collection = Wanted {
        resource: wanted.resource,
        name: None,
    };
    let (path, mut query) = address(connection, get, &collection);
    if let Some(name) = &wanted.name {
        query = format!("fieldSelector={}", escape(&format!("metadata.name={name}")));
    }
    let mut layout: Option<Layout> = None;
    let mut quiet = get.watch_only;
    loop {
        let document = connection.get(&format!("{path}?{query}"), accept).await?;
        let mut version = document["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let current = Layout::new(get, format, wanted.resource, false, &document);
        if !quiet {
            present(get, format, wanted, &current, &document, layout.is_none())?;
        }
        // A list that had to be taken again is no news.
        quiet = true;
        layout.get_or_insert(current);
        loop {
            let address = format!(
                "{path}?{query}&watch=true&allowWatchBookmarks=true&resourceVersion={version}"
            );
            let stream = match connection.watch(&address, accept).await {
                Ok(stream) => stream,
                Err(error) if error.status() == Some(410) => break,
                Err(error) if error.status().is_some() => return Err(error),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
            };
            let mut stream = pin!(stream);
            let mut expired = false;
            while let Some(event) = stream.next().await {
                let Ok(event) = event else {
                    break;
                };
                let object = &event["object"];
                let metadata = if format.is_table() && object["kind"] == "Table" {
                    &object["rows"][0]["object"]["metadata"]
                } else {
                    &object["metadata"]
                };
                if let Some(seen) = metadata["resourceVersion"].as_str() {
                    seen.clone_into(&mut version);
                }
                match event["type"].as_str() {
                    Some("BOOKMARK") => {}
                    Some("ERROR") if object["code"] == 410 => {
                        expired = true;
                        break;
                    }
                    Some("ERROR") => return Err(Error::Server(object.clone())),
                    _ => {
                        if let Some(layout) = &layout {
                            present(get, format, wanted, layout, object, false)?;
                        }
                    }
                }
            }
            if expired {
                break;
            }
        }
    }
}

fn present(
    get: &Get,
    format: &Format,
    wanted: &Wanted<'_>,
    layout: &Layout,
    document: &Value,
    first: bool,
) -> Result<()> {
    if format.is_table() {
        let table = Table {
            headings: layout.headings.clone(),
            rows: layout.rows(document),
        };
        let skip = usize::from(!first || get.no_headers);
        // Widths are those of the headings' time: later rows only line up as far as they fit.
        for line in table.lines(true, terminal_width()).into_iter().skip(skip) {
            println!("{line}");
        }
        return Ok(());
    }
    let mut objects: Vec<Value> = match document["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![document.clone()],
    };
    for object in &mut objects {
        object["apiVersion"] = json!(wanted.resource.api_version());
        object["kind"] = json!(wanted.resource.kind);
        if !get.show_managed_fields {
            without_managed_fields(object);
        }
        format.print(object, &|object| {
            named(std::slice::from_ref(wanted), object)
        })?;
    }
    Ok(())
}
