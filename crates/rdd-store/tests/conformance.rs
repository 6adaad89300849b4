//! Every store keeps the same promises.

use rdd_store::{MemoryStore, SqliteOptions, SqliteStore, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_promises() {
    conformance::all(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let number = std::cell::Cell::new(0);
    conformance::all(async || {
        number.set(number.get() + 1);
        let place = folder.path().join(number.get().to_string());
        std::fs::create_dir(&place).expect("a folder");
        SqliteStore::open(&place, SqliteOptions::default()).expect("an empty folder opens")
    })
    .await;
}
