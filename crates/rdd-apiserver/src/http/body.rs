//! The one body type of requests and answers, and reading a body within bounds.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::oneshot;

use crate::status::{ApiError, ApiResult};

/// The largest request body.
pub const BODY_MAX: usize = 3 * 1024 * 1024;

/// How long a client may take to send its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a body that nobody reads is read nevertheless, and for how long: whoever
/// still sends does not see the answer, and the connection would be lost.
const UNREAD_MAX: usize = 2 * BODY_MAX;
const UNREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes that may come piece by piece.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How much of a body is handed to the connection at once.
const PIECE: usize = 64 * 1024;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Pieces(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Bytes that go piece by piece: a TLS connection copies what it is given, and must not
/// hold a large list twice.
struct Pieces(Bytes);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.0.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A body whose pieces are made when the connection has room for them.
pub(crate) fn lazy(pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    let frames = pieces.map(|piece| piece.map(Frame::data).map_err(BoxError::from));
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// No bytes.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            // Nobody waits for it when the request was given up.
            let _ = back.send(body);
        }
    }
}

/// What is left of a lent body.
pub(crate) struct Unread(oneshot::Receiver<Body>);

impl Unread {
    /// Reads what the borrower left, within bounds, and throws it away. A body that is
    /// still being read is left alone.
    pub(crate) async fn discard(mut self) {
        let Ok(mut body) = self.0.try_recv() else {
            return;
        };
        let discard = async {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > UNREAD_MAX {
                    return;
                }
            }
        };
        // Too slow or too much: the connection breaks then.
        let _ = tokio::time::timeout(UNREAD_TIMEOUT, discard).await;
    }
}

/// Lends a body to whoever may answer before having read all of it.
pub(crate) fn lend(body: Body) -> (Body, Unread) {
    let (back, unread) = oneshot::channel();
    let lent = Lent {
        body: Some(body),
        back: Some(back),
    };
    (lent.boxed_unsync(), Unread(unread))
}

/// Reads a whole body.
///
/// # Errors
/// 413 above [`BODY_MAX`], 504 when the client is too slow, 400 when it breaks off.
pub async fn read(body: Body) -> ApiResult<Bytes> {
    tokio::time::timeout(READ_TIMEOUT, collect(body))
        .await
        .unwrap_or_else(|_| Err(ApiError::deadline()))
}

async fn collect(mut body: Body) -> ApiResult<Bytes> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("error reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > BODY_MAX {
            return Err(ApiError::too_large(&format!("limit is {BODY_MAX}")));
        }
        // Most bodies are one frame, which is then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}
