//! Rows as an Arrow IPC stream, made as it is read.

use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::ipc::writer::StreamWriter;
use agnes_core::query::Stop;
use agnes_core::{Error, Kind, Result, Rows};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;

use super::answer::personal;
use super::app::App;
use super::error::Answer;

/// What an Arrow IPC stream is called.
pub(crate) const TYPE: &str = "application/vnd.apache.arrow.stream";
/// Says behind the rows whether some were left out: nobody knows before.
pub(crate) const TRUNCATED: HeaderName = HeaderName::from_static("x-agnes-truncated");

/// Says that nobody waits any more when it is dropped, as it is when the client goes away.
pub(crate) struct Waits(pub(crate) Stop);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Is told the bytes that were sent, and held until the last of them is.
pub(crate) type Count = Box<dyn Fn(usize) + Send>;

/// Rows on their way out.
struct Sending {
    rows: Rows,
    writer: Option<StreamWriter<Vec<u8>>>,
    count: Option<Count>,
    _waits: Waits,
}

/// What comes next of them.
enum Next {
    Bytes(Vec<u8>),
    End { truncated: bool },
}

impl Sending {
    fn next(&mut self) -> Result<Next> {
        let unfit = |e: ArrowError| Error::new(Kind::Internal, "rows are no Arrow").because(e);
        let Some(writer) = &mut self.writer else {
            return Ok(Next::End { truncated: self.rows.truncated() });
        };
        let bytes = match self.rows.next() {
            Some(batch) => {
                writer.write(&batch?).map_err(unfit)?;
                std::mem::take(writer.get_mut())
            }
            None => {
                writer.finish().map_err(unfit)?;
                let end = std::mem::take(writer.get_mut());
                self.writer = None;
                end
            }
        };
        if let Some(count) = &self.count {
            count(bytes.len());
        }
        Ok(Next::Bytes(bytes))
    }
}

/// A stream that is made as it is read: between two batches nothing waits on a thread. An error
/// ends it without its end, which every reader tells.
pub(crate) fn stream(app: App, rows: Rows, waits: Waits, count: Option<Count>) -> Answer<Response> {
    let writer = StreamWriter::try_new(Vec::new(), rows.schema())
        .map_err(|e| Error::new(Kind::Internal, "rows are no Arrow").because(e))?;
    let sending = Sending { rows, writer: Some(writer), count, _waits: waits };
    let frames = futures_util::stream::try_unfold(Some(sending), move |sending| {
        let app = app.clone();
        async move {
            let Some(mut sending) = sending else { return Ok(None) };
            let step = app.pool.run(move || sending.next().map(|next| (next, sending))).await;
            match step.map_err(|error| std::io::Error::other(error.to_string()))? {
                (Next::Bytes(bytes), sending) => {
                    std::io::Result::Ok(Some((Frame::data(Bytes::from(bytes)), Some(sending))))
                }
                (Next::End { truncated }, _) => {
                    let mut trailers = HeaderMap::new();
                    let value = if truncated { "true" } else { "false" };
                    trailers.insert(TRUNCATED, HeaderValue::from_static(value));
                    Ok(Some((Frame::trailers(trailers), None)))
                }
            }
        }
    });
    let mut response = Body::new(StreamBody::new(frames)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
    headers.insert(header::TRAILER, HeaderValue::from_static("x-agnes-truncated"));
    personal(headers);
    Ok(response)
}
