//! What a disk, a crash or a neighbour can do to the SQLite store.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use rdd_store::{
    Error, Expect, History, Key, KeyRange, PutOptions, ReadAt, Revision, SqliteOptions,
    SqliteStore, Store,
};

/// Set in a child process: the folder that it writes into until it is killed.
const CHILD: &str = "RDD_STORE_TEST_CHILD";

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, SqliteOptions::default()).expect("the store opens")
}

fn key(name: impl std::fmt::Display) -> Key {
    Key::new(format!("/registry/things/{name}"))
}

async fn create(store: &SqliteStore, name: impl std::fmt::Display) -> Revision {
    let value = Bytes::from(vec![b'x'; 1000]);
    store
        .put(&key(name), value, Expect::Absent, PutOptions::default())
        .await
        .expect("the write is accepted")
}

async fn count(store: &SqliteStore) -> usize {
    let range = KeyRange::prefix("/registry/things/");
    let page = store.list(&range, ReadAt::Latest, None).await;
    page.expect("lists work").entries.len()
}

#[tokio::test]
async fn a_reopened_store_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let first = create(&store, "a").await;
    let second = create(&store, "b").await;
    let third = store.delete(&key("b"), second).await.expect("deletes work");
    store.close().await;

    let store = open(folder.path());
    assert_eq!(store.revision(), third);
    assert_eq!(count(&store).await, 1);
    let mut stream = store.changes(first).expect("history is on disk");
    let batch = stream.next().await.expect("open").expect("known");
    let seen: Vec<Revision> = batch.iter().map(|change| change.revision).collect();
    assert_eq!(seen, [second, third]);
    assert_eq!(create(&store, "c").await, third.next());
}

#[tokio::test]
async fn revisions_never_go_back_even_when_the_newest_write_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let made = create(&store, "a").await;
    let deleted = store.delete(&key("a"), made).await.expect("deletes work");
    store.compact(deleted).await.expect("compaction works");
    store.close().await;
    let store = open(folder.path());
    assert_eq!(store.revision(), deleted);
    assert_eq!(store.floor(), deleted);
    assert_eq!(create(&store, "a").await, deleted.next());
}

#[tokio::test]
async fn values_without_history_leave_one_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let options = PutOptions {
        history: History::Drop,
        ..PutOptions::default()
    };
    let value = Bytes::from_static(b"x");
    let mut expect = Expect::Absent;
    for _ in 0..20 {
        let made = store
            .put(&key("lease"), value.clone(), expect, options)
            .await;
        expect = Expect::At(made.expect("the write is accepted"));
    }
    store.close().await;
    let rows = Command::new("sqlite3")
        .arg(folder.path().join("rdd.sqlite3"))
        .arg("SELECT count(*) FROM log")
        .output()
        .expect("sqlite3 is installed");
    assert_eq!(String::from_utf8_lossy(&rows.stdout).trim(), "1");
    let store = open(folder.path());
    assert_eq!(store.revision(), Revision(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_share_commits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(folder.path()));
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..20 {
                    create(&store, format!("{writer}-{round}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writers finish");
    }
    let stats = store.stats();
    assert_eq!((stats.writes, stats.queued, stats.entries), (1280, 0, 1280));
    assert!(stats.commits * 4 < stats.writes, "{stats:?}");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = open(folder.path());
    let second = SqliteStore::open(folder.path(), SqliteOptions::default());
    assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("rdd.sqlite3"),
        "not a database, but long enough to be read as one. ".repeat(50),
    )
    .expect("the file is written");
    let opened = SqliteStore::open(folder.path(), SqliteOptions::default());
    assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
}

#[tokio::test]
async fn damaged_pages_are_noticed_when_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for name in 0..200 {
        create(&store, name).await;
    }
    store.close().await;
    let path = folder.path().join("rdd.sqlite3");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("it is there");
    file.seek(SeekFrom::Start(4096)).expect("seeks");
    file.write_all(&[0xff; 64 * 1024]).expect("writes");
    drop(file);
    let opened = SqliteStore::open(folder.path(), SqliteOptions::default());
    assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path()).close().await;
    let changed = Command::new("sqlite3")
        .arg(folder.path().join("rdd.sqlite3"))
        .arg("PRAGMA user_version = 99")
        .status()
        .expect("sqlite3 is installed");
    assert!(changed.success());
    let opened = SqliteStore::open(folder.path(), SqliteOptions::default());
    assert!(
        matches!(opened, Err(Error::Format { found: 99, .. })),
        "{opened:?}"
    );
}

/// A tmpfs of a few megabytes; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(folder.path())
            .status()
            .expect("mount is there");
        assert!(
            mounted.success(),
            "this test mounts a small disk and needs root"
        );
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg(self.0.path()).status();
        assert!(
            ended.is_ok_and(|status| status.success()),
            "the small disk is unmounted"
        );
    }
}

#[tokio::test]
async fn a_full_disk_fails_writes_keeps_reads_and_heals() {
    let disk = SmallDisk::new();
    let folder = disk.0.path();
    let ballast = folder.join("ballast");
    let store = open(folder);
    create(&store, "before").await;
    std::fs::write(&ballast, vec![0; 1024 * 1024]).expect("it fits");
    let mut written = 1;
    let error = loop {
        let value = Bytes::from(vec![b'x'; 100_000]);
        let place = key(written);
        let put = store.put(&place, value, Expect::Absent, PutOptions::default());
        match put.await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert_eq!(store.failure().as_deref(), Some("the disk is full"));
    let revision = store.revision();
    assert_eq!(count(&store).await, written);
    std::fs::remove_file(&ballast).expect("it is there");
    assert_eq!(create(&store, "after").await, revision.next());
    assert_eq!(store.failure(), None);
    store.close().await;
    let store = open(folder);
    assert_eq!(count(&store).await, written + 1);
    store.close().await;
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("a test binary"))
        .args([
            "--exact",
            "the_child_that_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        let line = line.expect("text");
        if let Some(name) = line.strip_prefix("written ") {
            acknowledged.push(name.to_owned());
        }
        if acknowledged.len() == 200 {
            child.kill().expect("it is alive");
            break;
        }
    }
    child.wait().expect("it ends");
    assert_eq!(acknowledged.len(), 200);
    let store = open(folder.path());
    for name in acknowledged {
        let entry = store.get(&key(&name)).await.expect("reads work");
        assert!(entry.is_some(), "{name} was acknowledged");
    }
}

/// Not a test of its own: what `acknowledged_writes_survive_a_kill` runs in a child.
#[tokio::test]
async fn the_child_that_is_killed() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the parent test hands the folder over"
    )]
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let store = open(Path::new(&folder));
    for name in 0.. {
        create(&store, name).await;
        println!("written {name}");
    }
}
