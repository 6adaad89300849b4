//! An API server in a few lines: plain HTTP, nothing kept.
//!
//! ```text
//! cargo run -p rdd-apiserver --example serve -- 8001 --token-file tokens.csv
//! kubectl --server http://127.0.0.1:8001 --token … get configmaps -A
//! ```

use std::{error::Error, sync::Arc, time::Duration};

use rdd_apiserver::{
    ApiServer, Options,
    auth::{Authenticator, Issuer, Rbac},
    catalog::crd,
    health::Health,
    http::serve::{Security, serve},
    pages::{Site, Version},
    workers::Workers,
};
use rdd_store::{MemoryStore, Store};
use tokio::{net::TcpListener, runtime};
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments
        .next()
        .ok_or("usage: serve PORT [--token-file FILE]")?
        .parse()?;
    let mut authenticator = Authenticator::default();
    if arguments.next().as_deref() == Some("--token-file") {
        let file = arguments.next().ok_or("--token-file needs a file")?;
        authenticator.add_token_file(&std::fs::read_to_string(file)?)?;
    }
    // Tokens of ServiceAccounts end with this process: so does the store.
    let issuer = Issuer::new(&Issuer::generate()?)?;
    authenticator.set_issuer(Arc::new(issuer));
    let runtime = runtime::Builder::new_multi_thread()
        .thread_stack_size(rdd_apiserver::WORKER_STACK)
        .enable_all()
        .build()?;
    runtime.block_on(run(port, authenticator))
}

async fn run(port: u16, authenticator: Authenticator) -> Result<(), Box<dyn Error>> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let version = Version {
        git_version: "v1.36.0".to_owned(),
        git_commit: String::new(),
    };
    let (catalog, definitions) = crd::served();
    let (server, work) = ApiServer::new(Options {
        authenticator,
        authorizer: Arc::new(Rbac::new(Arc::clone(&store))),
        pages: Arc::new(Site::new(version, Health::new())),
        ..Options::new(Arc::clone(&store), catalog)
    });
    let work = tokio::spawn(work);
    let stop = CancellationToken::new();
    let workers = Workers::new(&server, definitions, String::new());
    workers.create_start_objects().await?;
    let workers = tokio::spawn(workers.run(stop.clone()));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    tokio::spawn({
        let stop = stop.clone();
        let server = server.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                server.stop();
                stop.cancel();
            }
        }
    });
    serve(
        listener,
        server.router(),
        Security::Plain,
        stop,
        Duration::from_secs(5),
    )
    .await;
    workers.await??;
    store.close().await;
    work.await?;
    Ok(())
}
