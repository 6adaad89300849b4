//! The file of audit records, and the thread that writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::metrics::exposition::Exposition;

/// Records that wait at most; a burst of a second at full speed fits.
const QUEUE: usize = 16 * 1024;

/// Bytes that wait at most, however few records they are.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that are written at once.
const BATCH: usize = 256 * 1024;

/// How often a loss is told in the log.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long the end waits for the disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Only for the eyes of the user who runs the server.
const MODE: u32 = 0o600;

/// Where records are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file. Older ones are called like it, with `.1`, `.2`, … behind; `.1` is the youngest.
    pub path: PathBuf,
    /// Bytes from which a new file is begun.
    pub bytes_max: u64,
    /// How many older files are kept.
    pub keep: u32,
}

/// The way to the file; clones share it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    written: AtomicU64,
    lost: AtomicU64,
    queued_bytes: AtomicUsize,
    /// The second since `begun` from which a loss may be told again.
    tell_from: AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    Close(oneshot::Sender<()>),
}

impl AuditLog {
    /// Opens the file and starts its thread, which ends with the last clone, or when closed.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(options: AuditOptions) -> io::Result<Self> {
        let mut writer = Writer {
            options,
            file: None,
            shared: Arc::new(Shared {
                begun: Instant::now(),
                written: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                queued_bytes: AtomicUsize::new(0),
                tell_from: AtomicU64::new(0),
            }),
        };
        writer.open()?;
        let shared = Arc::clone(&writer.shared);
        let (queue, messages) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("rdd-audit".to_owned())
            .spawn(move || writer.run(messages))?;
        Ok(Self { queue, shared })
    }

    /// Queues a line, or loses it.
    pub(super) fn write(&self, line: Vec<u8>) {
        let bytes = line.len();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued + bytes <= QUEUE_BYTES && self.queue.try_send(Message::Line(line)).is_ok() {
            return;
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.lose(1, &"the queue is full");
    }

    /// Writes what is queued, and ends. Records that come later are lost.
    pub async fn close(&self) {
        let close = async {
            let (done, closed) = oneshot::channel();
            if self.queue.send(Message::Close(done)).await.is_ok() {
                // A writer that ended before has closed, too.
                let _closed = closed.await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!("the audit log was not written to its end in time");
        }
    }

    /// Shows how many records were written and lost.
    pub fn figures(&self, out: &mut Exposition) {
        let written = self.shared.written.load(Ordering::Relaxed);
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let name = "apiserver_audit_event_total";
        out.family(name, "counter", "Audit events that were written.");
        out.sample(name, &[], written);
        let name = "apiserver_audit_error_total";
        out.family(name, "counter", "Audit events that were lost.");
        out.sample(name, &[("plugin", "log")], lost);
    }
}

impl Shared {
    fn lose(&self, lines: u64, why: &dyn std::fmt::Display) {
        let lost = self.lost.fetch_add(lines, Ordering::Relaxed) + lines;
        let now = self.begun.elapsed().as_secs();
        let from = self.tell_from.load(Ordering::Relaxed);
        let next = now + TELL_EVERY.as_secs();
        // Whoever moves the time on is the one who tells.
        let tells = now >= from
            && self
                .tell_from
                .compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if tells {
            tracing::error!(lost, reason = %why, "audit events are lost");
        }
    }
}

struct Writer {
    options: AuditOptions,
    file: Option<Opened>,
    shared: Arc<Shared>,
}

struct Opened {
    file: File,
    size: u64,
}

impl Writer {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::new();
        while let Some(first) = messages.blocking_recv() {
            let mut next = Some(first);
            let mut lines = 0;
            let mut closing = None;
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        self.shared
                            .queued_bytes
                            .fetch_sub(line.len(), Ordering::Relaxed);
                        batch.extend_from_slice(&line);
                        lines += 1;
                    }
                    Message::Close(done) => {
                        closing = Some(done);
                        messages.close();
                    }
                }
                next = if batch.len() < BATCH {
                    messages.try_recv().ok()
                } else {
                    None
                };
            }
            if lines > 0 {
                match self.append(&batch) {
                    Ok(()) => {
                        self.shared.written.fetch_add(lines, Ordering::Relaxed);
                    }
                    Err(error) => self.shared.lose(lines, &error),
                }
                batch.clear();
            }
            if let Some(done) = closing {
                // Nobody waits any more: closed all the same.
                let _unheard = done.send(());
            }
        }
    }

    /// Appends whole lines, all or none of them.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.open()?;
        let length = lines.len() as u64;
        let full =
            |opened: &Opened| opened.size > 0 && opened.size + length > self.options.bytes_max;
        if self.file.as_ref().is_some_and(full) {
            self.file = None;
            rotate(&self.options)?;
            self.open()?;
        }
        let Some(opened) = &mut self.file else {
            return Err(io::Error::other("the file is not open"));
        };
        let written = opened.file.write_all(lines);
        match written {
            Ok(()) => opened.size += length,
            Err(_) => {
                // Half a line must not stay. If even that fails, the next open mends it.
                let _torn = opened.file.set_len(opened.size);
                self.file = None;
            }
        }
        written
    }

    /// Opens the file unless it is open.
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(MODE)
            .open(&self.options.path)?;
        // It may have been there before, for others to read.
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        self.file = Some(Opened { file, size });
        Ok(())
    }
}

/// Makes room for a new file: every older one moves on by a number, the last one goes.
fn rotate(options: &AuditOptions) -> io::Result<()> {
    if options.keep == 0 {
        return fs::remove_file(&options.path);
    }
    for number in (1..options.keep).rev() {
        move_if_there(
            &numbered(&options.path, number),
            &numbered(&options.path, number + 1),
        )?;
    }
    move_if_there(&options.path, &numbered(&options.path, 1))
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("rdd-audit-{}", uuid::Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("a new folder");
            Self(path)
        }

        fn options(&self, bytes_max: u64, keep: u32) -> AuditOptions {
            AuditOptions {
                path: self.0.join("audit.log"),
                bytes_max,
                keep,
            }
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    fn writer(options: AuditOptions) -> Writer {
        Writer {
            options,
            file: None,
            shared: Arc::new(Shared {
                begun: Instant::now(),
                written: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                queued_bytes: AtomicUsize::new(0),
                tell_from: AtomicU64::new(0),
            }),
        }
    }

    #[test]
    fn files_are_rotated_by_size_and_only_some_are_kept() {
        let folder = Folder::new();
        let mut writer = writer(folder.options(10, 2));
        for line in ["one--\n", "two--\n", "three\n", "four-\n"] {
            writer.append(line.as_bytes()).expect("written");
        }
        let all = ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"];
        assert_eq!(
            all.map(|name| folder.read(name)),
            ["four-\n", "three\n", "two--\n", ""]
        );
    }

    #[test]
    fn a_file_is_private_and_half_a_line_is_ended() {
        let folder = Folder::new();
        let path = folder.0.join("audit.log");
        fs::write(&path, "half").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let mut writer = writer(folder.options(100, 1));
        writer.append(b"whole\n").expect("written");
        assert_eq!(folder.read("audit.log"), "half\nwhole\n");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_lost_and_counted_and_holds_up_nobody() {
        let folder = Folder::new();
        let log = AuditLog::open(folder.options(1, 1)).expect("opened");
        // A folder in the way of the rotation: the first line fits an empty file, later ones do not.
        fs::create_dir_all(folder.0.join("audit.log.1/x")).expect("made");
        for _ in 0..3 {
            log.write(b"line\n".to_vec());
            // One batch each.
            while log.shared.queued_bytes.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
        log.close().await;
        let written = log.shared.written.load(Ordering::Relaxed);
        let lost = log.shared.lost.load(Ordering::Relaxed);
        assert_eq!(written + lost, 3);
        assert!(written >= 1 && lost >= 1, "{written} {lost}");
        log.write(b"late\n".to_vec());
        assert_eq!(log.shared.lost.load(Ordering::Relaxed), lost + 1);
    }
}
