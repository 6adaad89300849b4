//! Durable writes through HTTPS, beside the raw store and etcd on the same disk.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use rdd_store::{Expect, Key, PutOptions, SqliteOptions, SqliteStore, Store};

use crate::Figure;
use crate::etcd::Etcd;
use crate::lab::Lab;
use crate::load::{self, Outcome};
use crate::objects::{self, COLLECTION, JSON};

/// Creates of custom resources from `clients` clients for a few seconds.
pub(crate) async fn creates(lab: &Lab, clients: usize) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    objects::serve(&mut server.connect().await?).await?;
    let served = load::run(
        clients,
        async |worker| Ok((server.connect().await?, worker)),
        |(connection, worker), round| {
            let body = objects::widget(&format!("bench-{worker}-{round}"));
            Box::pin(async move {
                let call = connection.call("POST", COLLECTION, JSON, body.as_bytes());
                call.await.map(drop)
            })
        },
    )
    .await?;
    let raw = raw_store(clients).await?;
    let peer = match Etcd::start().await? {
        Some(etcd) => format!("; etcd: {}", etcd.puts(clients).await?),
        None => "; etcd is not installed (Debian's etcd-server)".to_owned(),
    };
    Ok(Figure {
        name: format!("durable creates over HTTPS, {clients} clients"),
        value: served.to_string(),
        floor: format!(
            "raw store: {raw}; {:.0} % of it{peer}",
            100.0 * served.per_second / raw.per_second
        ),
        target: if clients == 1 {
            ">= 1,000/s"
        } else {
            ">= 5,000/s, p99 <= 25 ms, >= 60 % of the raw store"
        },
    })
}

/// Merge patches, each client on an object of its own.
pub(crate) async fn patches(lab: &Lab, clients: usize) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    let mut first = server.connect().await?;
    objects::serve(&mut first).await?;
    objects::fill(&mut first, clients).await?;
    let served = load::run(
        clients,
        async |worker| {
            let path = format!("{COLLECTION}/{}", objects::name(worker));
            Ok((server.connect().await?, path))
        },
        |(connection, path), round| {
            Box::pin(async move {
                let body = format!(r#"{{"spec":{{"count":{round}}}}}"#);
                let kind = "application/merge-patch+json";
                connection
                    .call("PATCH", path, kind, body.as_bytes())
                    .await
                    .map(drop)
            })
        },
    )
    .await?;
    let raw = raw_store(clients).await?;
    Ok(Figure {
        name: format!("merge patches over HTTPS, {clients} clients"),
        value: served.to_string(),
        floor: format!("raw store: {raw}"),
        target: ">= 5,000/s",
    })
}

async fn raw_store(clients: usize) -> Result<Outcome> {
    let folder = tempfile::tempdir_in("/tmp").context("failed to make a folder")?;
    let store: Arc<dyn Store> = Arc::new(
        SqliteStore::open(folder.path(), SqliteOptions::default())
            .context("failed to open the raw store")?,
    );
    load::run(
        clients,
        async |worker| Ok((Arc::clone(&store), worker)),
        |(store, worker), round| {
            Box::pin(async move {
                let key = Key::new(format!("/registry/widgets/default/bench-{worker}-{round}"));
                let value = Bytes::from(vec![b'x'; 1300]);
                store
                    .put(&key, value, Expect::Absent, PutOptions::default())
                    .await
                    .context("failed to write to the raw store")?;
                Ok(())
            })
        },
    )
    .await
}
