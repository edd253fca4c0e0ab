//! As much of gRPC as the socket needs: one message comes in, messages go out, a status ends it.
//!
//! Written out here, and not left to tonic, for three reasons: the size of a request is judged before
//! it is read, answers are encoded once and then shared by every stream, and a connection's first
//! answer is the hot path. Health and reflection are tonic's.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

use crate::limits::{MESSAGE_WITHIN, REQUEST_BYTES};

/// Whether it is compressed, and its length in four bytes.
pub(crate) const MESSAGE_HEADER_BYTES: usize = 5;

/// Reads the one message of a request.
pub(crate) async fn read_message(body: Incoming) -> Result<Bytes, Status> {
    tokio::time::timeout(MESSAGE_WITHIN, read_whole_message(body))
        .await
        .map_err(|_| Status::deadline_exceeded("the request's message did not come"))?
}

async fn read_whole_message(mut body: Incoming) -> Result<Bytes, Status> {
    let mut message = BytesMut::new();
    loop {
        if let Some(header) = message.first_chunk::<MESSAGE_HEADER_BYTES>() {
            let length = judge_header(*header)?;
            if message.len() >= MESSAGE_HEADER_BYTES + length {
                message.advance(MESSAGE_HEADER_BYTES);
                return Ok(message.split_to(length).freeze());
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if message.len() + data.len() > MESSAGE_HEADER_BYTES + REQUEST_BYTES {
                        return Err(too_large());
                    }
                    message.extend_from_slice(data);
                }
            }
            Some(Err(_)) | None => return Err(Status::internal("the request has no whole message")),
        }
    }
}

/// The length of the message that follows.
fn judge_header([compressed, length @ ..]: [u8; MESSAGE_HEADER_BYTES]) -> Result<usize, Status> {
    if compressed != 0 {
        return Err(Status::unimplemented("requests must not be compressed"));
    }
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length <= REQUEST_BYTES => Ok(length),
        _ => Err(too_large()),
    }
}

fn too_large() -> Status {
    Status::resource_exhausted(format!("a request has at most {REQUEST_BYTES} bytes"))
}

/// An answer of framed messages as they come; the stream's error, or OK, is its status.
pub(crate) fn messages(
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> Response<tonic::body::Body> {
    let body = Messages { messages: Box::pin(messages), ended: false };
    let mut response = Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An answer of one framed message.
pub(crate) fn message(message: Bytes) -> Response<tonic::body::Body> {
    messages(futures::stream::iter([Ok(message)]))
}

struct Messages<S> {
    messages: Pin<Box<S>>,
    ended: bool,
}

impl<S: Stream<Item = Result<Bytes, Status>>> Body for Messages<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.messages.as_mut().poll_next(context)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_message_is_judged_by_its_header() {
        assert_eq!(judge_header([0, 0, 0, 0, 0]).unwrap(), 0);
        assert_eq!(judge_header([0, 0, 1, 0, 0]).unwrap(), REQUEST_BYTES);
        assert_eq!(judge_header([0, 0, 1, 0, 1]).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(judge_header([0, 255, 255, 255, 255]).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(judge_header([1, 0, 0, 0, 0]).unwrap_err().code(), Code::Unimplemented);
    }
}
