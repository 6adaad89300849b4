//! What every store must do, as functions that run over any of them.
//!
//! Each function takes an empty store and panics where a promise is broken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{
    ChangeKind, ChangeStream, Error, Expect, Key, KeyRange, PutOptions, ReadAt, Revision, Store,
};

/// Runs every check, each over a store of its own.
pub async fn all<S: Store>(fresh: impl AsyncFn() -> S) {
    writes_are_compare_and_swap(&fresh().await).await;
    who_comes_second_sees_who_was_first(Arc::new(fresh().await)).await;
    every_write_takes_the_next_revision(&fresh().await).await;
    lists_are_ordered_and_paged(&fresh().await).await;
    old_moments_stay_readable(&fresh().await).await;
    changes_arrive_in_order_without_gaps(Arc::new(fresh().await)).await;
    compaction_forgets_history_and_keeps_values(&fresh().await).await;
    expired_keys_are_deleted_as_writes(&fresh().await).await;
    too_large_values_are_refused(&fresh().await).await;
    closing_ends_streams_and_refuses_writes(&fresh().await).await;
}

fn key(name: &str) -> Key {
    Key::new(format!("/registry/things/{name}"))
}

fn things() -> KeyRange {
    KeyRange::prefix("/registry/things/")
}

async fn create(store: &impl Store, name: &str, value: &'static str) -> Revision {
    put(store, name, value, Expect::Absent).await
}

async fn put(store: &impl Store, name: &str, value: &'static str, expect: Expect) -> Revision {
    let value = Bytes::from_static(value.as_bytes());
    store
        .put(&key(name), value, expect, PutOptions::default())
        .await
        .expect("the write is accepted")
}

async fn writes_are_compare_and_swap(store: &impl Store) {
    let first = create(store, "a", "1").await;
    let again = store
        .put(
            &key("a"),
            Bytes::new(),
            Expect::Absent,
            PutOptions::default(),
        )
        .await;
    let Err(Error::Conflict {
        current: Some(entry),
    }) = again
    else {
        panic!("a second create conflicts with the first: {again:?}");
    };
    assert_eq!((entry.revision, &entry.value[..]), (first, &b"1"[..]));
    let second = put(store, "a", "2", Expect::At(first)).await;
    let stale = store
        .put(
            &key("a"),
            Bytes::new(),
            Expect::At(first),
            PutOptions::default(),
        )
        .await;
    assert!(
        matches!(stale, Err(Error::Conflict { current: Some(entry) }) if entry.revision == second)
    );
    let stale = store.delete(&key("a"), first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    store
        .delete(&key("a"), second)
        .await
        .expect("the newest revision is deleted");
    assert_eq!(store.get(&key("a")).await.expect("reads work"), None);
    let gone = store.delete(&key("a"), second).await;
    assert!(matches!(gone, Err(Error::Conflict { current: None })));
}

/// A conflict is told only once what it is about can be read.
async fn who_comes_second_sees_who_was_first(store: Arc<impl Store>) {
    for round in 0..200 {
        let key = key(&format!("contended-{round}"));
        let writers = (0..8).map(|_| {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(async move {
                let put = store.put(&key, Bytes::new(), Expect::Absent, PutOptions::default());
                let Err(Error::Conflict { current }) = put.await else {
                    return 1;
                };
                let told = current.expect("somebody was first").revision;
                let read = store.get(&key).await.expect("it answers");
                assert_eq!(read.map(|entry| entry.revision), Some(told));
                assert!(store.revision() >= told);
                0
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut made = 0;
        for writer in writers {
            made += writer.await.expect("every writer sees the winner");
        }
        assert_eq!(made, 1);
    }
}

async fn every_write_takes_the_next_revision(store: &impl Store) {
    let before = store.revision();
    let created = create(store, "a", "1").await;
    assert_eq!(created, before.next());
    let changed = put(store, "a", "2", Expect::At(created)).await;
    assert_eq!(changed, created.next());
    let entry = store
        .get(&key("a"))
        .await
        .expect("reads work")
        .expect("it is there");
    assert_eq!((entry.created, entry.revision), (created, changed));
    let deleted = store
        .delete(&key("a"), changed)
        .await
        .expect("deletes work");
    assert_eq!(deleted, changed.next());
    assert_eq!(store.revision(), deleted);
    let back = create(store, "a", "3").await;
    let entry = store
        .get(&key("a"))
        .await
        .expect("reads work")
        .expect("it is there");
    assert_eq!(entry.created, back);
}

async fn lists_are_ordered_and_paged(store: &impl Store) {
    for name in ["c", "a", "b", "aa"] {
        create(store, name, "x").await;
    }
    put_elsewhere(store).await;
    let all = store
        .list(&things(), ReadAt::Latest, None)
        .await
        .expect("lists work");
    let names: Vec<&str> = all.entries.iter().map(|entry| entry.key.as_str()).collect();
    let wanted = ["a", "aa", "b", "c"].map(|name| format!("/registry/things/{name}"));
    assert_eq!(names, wanted);
    assert_eq!((all.remaining, all.revision), (0, store.revision()));
    let page = store
        .list(&things(), ReadAt::Latest, Some(3))
        .await
        .expect("lists work");
    assert_eq!((page.entries.len(), page.remaining), (3, 1));
    let last = page.entries[2].key.clone();
    let rest = store
        .list(&things().after(last), ReadAt::Latest, Some(3))
        .await
        .expect("lists work");
    assert_eq!(rest.entries.len(), 1);
}

async fn put_elsewhere(store: &impl Store) {
    for place in [
        "/registry/thing",
        "/registry/things",
        "/registry/thingsmore/a",
    ] {
        store
            .put(
                &Key::new(place),
                Bytes::new(),
                Expect::Absent,
                PutOptions::default(),
            )
            .await
            .expect("the write is accepted");
    }
}

async fn old_moments_stay_readable(store: &impl Store) {
    let first = create(store, "a", "1").await;
    let second = create(store, "b", "1").await;
    let third = put(store, "a", "2", Expect::At(first)).await;
    store.delete(&key("b"), second).await.expect("deletes work");
    let at = async |revision| {
        let page = store.list(&things(), ReadAt::Exact(revision), None).await?;
        Ok::<_, Error>(
            page.entries
                .iter()
                .map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(at(first).await.expect("known"), ["1"]);
    assert_eq!(at(second).await.expect("known"), ["1", "1"]);
    assert_eq!(at(third).await.expect("known"), ["2", "1"]);
    assert_eq!(at(store.revision()).await.expect("known"), ["2"]);
    assert!(matches!(
        at(store.revision().next()).await,
        Err(Error::Future { .. })
    ));
    store.compact(second).await.expect("compaction works");
    assert!(matches!(at(first).await, Err(Error::Compacted { floor }) if floor == second));
    assert_eq!(at(third).await.expect("known"), ["2", "1"]);
}

async fn collect(mut stream: ChangeStream, count: usize) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = stream
            .next()
            .await
            .expect("the store is open")
            .expect("nothing is lost");
        seen.extend(batch.iter().map(|change| change.revision));
    }
    seen
}

async fn changes_arrive_in_order_without_gaps(store: Arc<impl Store>) {
    const WRITERS: usize = 8;
    const WRITES: usize = 50;
    let start = store.revision();
    let early = tokio::spawn(collect(
        store.changes(start).expect("the start is known"),
        WRITERS * WRITES,
    ));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..WRITES {
                    create(&*store, &format!("{writer}-{round}"), "x").await;
                }
            })
        })
        .collect();
    let late = tokio::spawn(collect(
        store.changes(start).expect("the start is known"),
        WRITERS * WRITES,
    ));
    for writer in writers {
        writer.await.expect("writers finish");
    }
    let wanted: Vec<Revision> = (start.0 + 1..=store.revision().0).map(Revision).collect();
    assert_eq!(early.await.expect("readers finish"), wanted);
    assert_eq!(late.await.expect("readers finish"), wanted);
}

async fn compaction_forgets_history_and_keeps_values(store: &impl Store) {
    let first = create(store, "a", "1").await;
    let second = put(store, "a", "2", Expect::At(first)).await;
    store.compact(second).await.expect("compaction works");
    assert_eq!(store.floor(), second);
    assert!(matches!(store.changes(first), Err(Error::Compacted { floor }) if floor == second));
    let entry = store
        .get(&key("a"))
        .await
        .expect("reads work")
        .expect("it is there");
    assert_eq!(&entry.value[..], b"2");
    let mut stream = store.changes(second).expect("the floor itself is known");
    let deleted = store.delete(&key("a"), second).await.expect("deletes work");
    let batch = stream.next().await.expect("open").expect("known");
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].revision, deleted);
    let ChangeKind::Delete {
        previous: Some(previous),
    } = &batch[0].kind
    else {
        panic!("a deletion shows what was there: {:?}", batch[0]);
    };
    assert_eq!(&previous.value[..], b"2");
}

async fn expired_keys_are_deleted_as_writes(store: &impl Store) {
    let minute = PutOptions {
        ttl: Some(Duration::from_secs(60)),
        ..PutOptions::default()
    };
    let made = store
        .put(&key("e"), Bytes::new(), Expect::Absent, minute)
        .await
        .expect("the write is accepted");
    create(store, "stays", "x").await;
    assert!(store.next_expiry().is_some());
    store
        .delete_expired(SystemTime::now())
        .await
        .expect("nothing is due");
    assert!(store.get(&key("e")).await.expect("reads work").is_some());
    let before = store.revision();
    let later = SystemTime::now() + Duration::from_secs(61);
    store.delete_expired(later).await.expect("deletes work");
    assert_eq!(store.revision(), before.next());
    assert_eq!(store.get(&key("e")).await.expect("reads work"), None);
    assert!(
        store
            .get(&key("stays"))
            .await
            .expect("reads work")
            .is_some()
    );
    assert!(store.next_expiry().is_none());
    assert!(made < before);
}

async fn too_large_values_are_refused(store: &impl Store) {
    let before = store.revision();
    let value = Bytes::from(vec![0; crate::VALUE_MAX + 1]);
    let refused = store
        .put(&key("a"), value, Expect::Absent, PutOptions::default())
        .await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert_eq!(store.revision(), before);
}

async fn closing_ends_streams_and_refuses_writes(store: &impl Store) {
    let made = create(store, "a", "1").await;
    let mut stream = store.changes(Revision(made.0 - 1)).expect("known");
    store.close().await;
    let batch = stream.next().await.expect("what was written comes first");
    assert_eq!(batch.expect("known").len(), 1);
    assert!(stream.next().await.is_none());
    let refused = store
        .put(
            &key("b"),
            Bytes::new(),
            Expect::Absent,
            PutOptions::default(),
        )
        .await;
    assert!(matches!(refused, Err(Error::Closed)));
}
