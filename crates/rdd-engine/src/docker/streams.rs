//! Logs and commands: Docker sends both as raw bytes with a terminal, else in frames.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{CALL, Docker, segment};
use crate::error::{Error, Result};
use crate::stream::{Exec, ExecOptions, LogOptions, Output, Source};

/// Chunks that wait for their reader; then the engine waits.
const CHUNKS: usize = 16;

/// The largest chunk, in bytes.
const CHUNK: usize = 32 * 1024;

/// The limit of the first word of a log: the engine opens its files first.
const OPEN: Duration = Duration::from_secs(30);

pub(super) async fn logs(docker: &Docker, id: &str, options: &LogOptions) -> Result<Output> {
    let tail = options
        .tail
        .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let since = options
        .since
        .map_or(String::new(), |since| format!("&since={since}"));
    let path = format!(
        "/containers/{}/logs?stdout=true&stderr=true&follow={}&tail={tail}&timestamps={}{since}",
        segment(id),
        options.follow,
        options.timestamps
    );
    let (response, connection) = docker.transport.open(Method::GET, &path, &[], OPEN).await?;
    let endpoint = docker.transport.endpoint().to_string();
    let mut frames = Frames::new(options.tty);
    let (queue, chunks) = mpsc::channel(CHUNKS);
    let reader = tokio::spawn(async move {
        let _connection = connection;
        let mut body = response.into_body();
        loop {
            match body.frame().await {
                None => return,
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    if !frames.pass_on(&bytes, &queue).await {
                        return;
                    }
                }
                Some(Err(source)) => {
                    let lost = Error::Connection {
                        endpoint,
                        source: source.into(),
                    };
                    // Without a reader there is nobody to tell.
                    let _unheard = queue.send(Err(lost)).await;
                    return;
                }
            }
        }
    });
    Ok(Output {
        chunks,
        _reader: AbortOnDropHandle::new(reader),
    })
}

pub(super) async fn exec(docker: &Docker, id: &str, options: &ExecOptions) -> Result<Exec> {
    let body = json!({
        "AttachStdin": options.stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": options.tty,
        "Cmd": options.command,
        "Env": options.env,
        "User": options.user.as_deref().unwrap_or_default(),
        "WorkingDir": options.folder.as_deref().unwrap_or_default(),
    });
    let path = format!("/containers/{}/exec", segment(id));
    let made = docker
        .transport
        .send_json(Method::POST, &path, &body, CALL)
        .await?;
    let exec = made["Id"].as_str().map(str::to_owned);
    let exec = exec.ok_or_else(|| Error::Answer("the command has no identifier".into()))?;
    let start = format!("/exec/{}/start", segment(&exec));
    let body = json!({"Detach": false, "Tty": options.tty});
    let (stream, connection) = docker.transport.hijack(&start, &body, CALL).await?;
    let (mut read, write) = tokio::io::split(TokioIo::new(stream));
    let endpoint = docker.transport.endpoint().to_string();
    let mut frames = Frames::new(options.tty);
    let (queue, chunks) = mpsc::channel(CHUNKS);
    let reader = tokio::spawn(async move {
        let _connection = connection;
        let mut buffer = vec![0; CHUNK];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => return,
                Ok(length) => {
                    if !frames.pass_on(&buffer[..length], &queue).await {
                        return;
                    }
                }
                Err(source) => {
                    let lost = Error::Connection {
                        endpoint,
                        source: source.into(),
                    };
                    let _unheard = queue.send(Err(lost)).await;
                    return;
                }
            }
        }
    });
    Ok(Exec {
        id: exec,
        output: Output {
            chunks,
            _reader: AbortOnDropHandle::new(reader),
        },
        input: Box::new(write),
    })
}

/// Takes Docker's frames apart: a stream's number, three zeros, a length, the bytes.
#[derive(Debug)]
struct Frames {
    tty: bool,
    rest: BytesMut,
    /// What is left of the frame that is being read.
    open: Option<(Source, usize)>,
}

impl Frames {
    fn new(tty: bool) -> Self {
        Self {
            tty,
            rest: BytesMut::new(),
            open: None,
        }
    }

    /// Whether more is wanted.
    async fn pass_on(
        &mut self,
        bytes: &[u8],
        queue: &mpsc::Sender<Result<(Source, Bytes)>>,
    ) -> bool {
        self.rest.extend_from_slice(bytes);
        loop {
            let next = match self.next() {
                Ok(Some(next)) => Ok(next),
                Ok(None) => return true,
                Err(error) => Err(error),
            };
            let failed = next.is_err();
            if queue.send(next).await.is_err() || failed {
                return false;
            }
        }
    }

    /// Part of a frame, as soon as it is there: a line is not held back by the next.
    fn next(&mut self) -> Result<Option<(Source, Bytes)>> {
        if self.tty {
            let length = self.rest.len().min(CHUNK);
            let bytes = self.rest.split_to(length).freeze();
            return Ok((length > 0).then_some((Source::Stdout, bytes)));
        }
        loop {
            if let Some((source, left)) = self.open {
                if left == 0 {
                    self.open = None;
                    continue;
                }
                let length = left.min(self.rest.len()).min(CHUNK);
                if length == 0 {
                    return Ok(None);
                }
                self.open = Some((source, left - length));
                return Ok(Some((source, self.rest.split_to(length).freeze())));
            }
            if self.rest.len() < 8 {
                return Ok(None);
            }
            let mut head = self.rest.split_to(8);
            let source = match head.get_u8() {
                0 | 1 => Source::Stdout,
                2 => Source::Stderr,
                // Docker tells of its own failures in a stream of their own.
                3 => Source::Stderr,
                other => {
                    return Err(Error::Answer(
                        format!("the engine sent a frame of the unknown stream {other}").into(),
                    ));
                }
            };
            head.advance(3);
            self.open = Some((source, head.get_u32() as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("small").to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], bytes].concat()
    }

    /// What comes out when the bytes come in pieces of this size.
    async fn read(tty: bool, bytes: &[u8], piece: usize) -> Vec<(Source, Vec<u8>)> {
        let (queue, mut chunks) = mpsc::channel(100_000);
        let mut frames = Frames::new(tty);
        for piece in bytes.chunks(piece) {
            if !frames.pass_on(piece, &queue).await {
                break;
            }
        }
        drop(queue);
        let mut joined: Vec<(Source, Vec<u8>)> = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let Ok((source, bytes)) = chunk else {
                joined.push((Source::Stderr, b"error".to_vec()));
                continue;
            };
            match joined.last_mut() {
                Some((last, all)) if *last == source => all.extend_from_slice(&bytes),
                _ => joined.push((source, bytes.to_vec())),
            }
        }
        joined
    }

    #[tokio::test]
    async fn frames_are_taken_apart_wherever_they_are_cut() {
        let any: Vec<u8> = (0..=255).collect();
        let bytes = [
            frame(1, b"out"),
            frame(2, &any),
            frame(1, b""),
            frame(1, &vec![7; 50_000]),
        ]
        .concat();
        let wanted = vec![
            (Source::Stdout, b"out".to_vec()),
            (Source::Stderr, any),
            (Source::Stdout, vec![7; 50_000]),
        ];
        for piece in [1, 2, 7, 8, 9, 1000, bytes.len()] {
            assert_eq!(read(false, &bytes, piece).await, wanted, "{piece}");
        }
    }

    #[tokio::test]
    async fn a_terminal_is_passed_on_as_it_is() {
        let bytes = b"\x01\x00line\r\n";
        assert_eq!(
            read(true, bytes, 3).await,
            [(Source::Stdout, bytes.to_vec())]
        );
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        let found = read(false, b"GET / HTTP/1.1", 100).await;
        assert_eq!(found, [(Source::Stderr, b"error".to_vec())]);
    }
}
