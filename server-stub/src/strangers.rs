//! What is read of somebody of whom nobody knows yet who it is: little, so that many of them together do not fill the memory.
//!
//! A code, a password or a key is small. What may be large is read after somebody has shown who it is.

use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::exchange;
use crate::problem::Problem;

/// The largest body that is taken of a stranger. An enrolment with all its origins, the largest of them, has one or two KiB.
pub(crate) const STRANGER_BYTES_MAX: usize = 16 * 1024;

/// Stands before what anybody may ask: takes the whole body if it is a small one.
pub(crate) async fn with_a_small_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match whole(body, STRANGER_BYTES_MAX).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(refused) => refused.into_response(),
    }
}

/// A whole body of at most so many bytes. Of a larger one a little more is read, so that its sender gets to hear why.
pub(crate) async fn whole(mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    loop {
        // One that comes too slowly breaks off, and the server says which it was.
        let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else {
            return Ok(bytes.into());
        };
        let frame = frame.map_err(|_| Problem::bad_request("the body broke off"))?;
        // Trailers are nothing to us.
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > bytes_max {
            exchange::drain_a_little(body).await;
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large")
        .detail(format!("it has more than {bytes_max} bytes"))
        .hint("send less at once")
}
