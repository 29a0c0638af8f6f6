//! Rows as an Arrow IPC stream, made as it is read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::ipc::writer::StreamWriter;
use agnes_core::arrow::record_batch::RecordBatch;
use agnes_core::query::Stop;
use agnes_core::{Error, Kind, Result, Rows};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::task::AbortHandle;

use super::answer::personal;
use super::app::App;
use super::serve::SLOW_LINE;

/// What an Arrow IPC stream is called.
pub(crate) const TYPE: &str = "application/vnd.apache.arrow.stream";
/// Says whether rows were left out.
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
    /// What is left of a batch, and how many of its rows go out at a time.
    rest: Option<(RecordBatch, usize)>,
    writer: Option<StreamWriter<Vec<u8>>>,
    count: Option<Count>,
    reader: Reader,
    _waits: Waits,
}

/// How long whoever reads takes. A statement holds its place until its last row is taken.
struct Reader {
    /// How long she may take nothing.
    pause: Duration,
    /// Since when it is hers to go on.
    since: Instant,
    took: Duration,
    bytes: u64,
    /// Those of them that she was given since she last asked.
    new: u64,
}

/// How long a reader may take in all, and how much each second more has to bring, bytes.
const PATIENCE: Duration = Duration::from_secs(120);
const RATE: u64 = 64 << 10;

impl Reader {
    fn new(pause: Duration) -> Reader {
        Reader { pause, since: Instant::now(), took: Duration::ZERO, bytes: 0, new: 0 }
    }

    /// Notes that she has been given so much more.
    fn given(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.new += bytes as u64;
        self.since = Instant::now();
    }

    /// How long she may take until she asks for more.
    fn time(&self) -> Duration {
        let pause = self.pause + Duration::from_secs(self.new / SLOW_LINE);
        pause.min((PATIENCE + Duration::from_secs(self.bytes / RATE)).saturating_sub(self.took))
    }

    /// Notes that she wants more.
    fn asks(&mut self) {
        self.took += self.since.elapsed();
        self.new = 0;
    }
}

/// Rows that their reader may have, for so long.
struct Offered {
    rows: Arc<Mutex<Option<Box<Sending>>>>,
    end: AbortHandle,
}

impl Offered {
    /// They are dropped when she doesn't ask for them in time: whoever leaves an answer where it is
    /// is never asked to take more of it, so that nothing else would tell.
    fn new(sending: Box<Sending>) -> Offered {
        let time = sending.reader.time();
        let rows = Arc::new(Mutex::new(Some(sending)));
        let held = rows.clone();
        let end = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            drop(taken(&held));
        });
        Offered { rows, end: end.abort_handle() }
    }

    /// # Errors
    /// `Limit` when she took too long.
    fn take(self) -> Result<Box<Sending>> {
        let mut sending = taken(&self.rows)
            .ok_or_else(|| Error::new(Kind::Limit, "the rows were read too slowly"))?;
        sending.reader.asks();
        Ok(sending)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.end.abort();
    }
}

fn taken(rows: &Mutex<Option<Box<Sending>>>) -> Option<Box<Sending>> {
    rows.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// How much goes out at a time, bytes: a reader has time for what she was given, however slow her line is, and a
/// statement holds its place meanwhile.
const PIECE: usize = 256 << 10;

/// What comes next of them.
enum Next {
    Bytes(Vec<u8>),
    End { truncated: bool },
}

impl Sending {
    /// The next rows.
    fn piece(&mut self) -> Option<Result<RecordBatch>> {
        let (batch, most) = match self.rest.take() {
            Some(rest) => rest,
            None => match self.rows.next()? {
                Ok(batch) => {
                    let pieces = batch.get_array_memory_size().div_ceil(PIECE).max(1);
                    let most = batch.num_rows().div_ceil(pieces).max(1);
                    (batch, most)
                }
                Err(error) => return Some(Err(error)),
            },
        };
        let count = batch.num_rows().min(most);
        let left = batch.num_rows() - count;
        self.rest = (left > 0).then(|| (batch.slice(count, left), most));
        Some(Ok(batch.slice(0, count)))
    }

    fn next(&mut self) -> Result<Next> {
        let unfit = |e: ArrowError| Error::new(Kind::Internal, "rows are no Arrow").because(e);
        let piece = self.piece();
        let Some(writer) = &mut self.writer else {
            return Ok(Next::End { truncated: self.rows.truncated() });
        };
        let bytes = match piece {
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
        self.reader.given(bytes.len());
        Ok(Next::Bytes(bytes))
    }
}

/// How much is made before anything is sent, bytes: of a result that is smaller it is known whether
/// it is whole, and what goes wrong meanwhile is an error as any other.
const FIRST: usize = 1 << 20;

/// The beginning of a result: all of it, or what comes before the rest.
enum Begun {
    Whole { truncated: bool },
    Part(Box<Sending>),
}

fn begin(mut sending: Sending) -> Result<(Vec<Bytes>, Begun)> {
    let (mut made, mut size) = (Vec::new(), 0);
    loop {
        match sending.next()? {
            Next::End { truncated } => return Ok((made, Begun::Whole { truncated })),
            Next::Bytes(bytes) => {
                size += bytes.len();
                made.push(Bytes::from(bytes));
            }
        }
        if size > FIRST {
            return Ok((made, Begun::Part(Box::new(sending))));
        }
    }
}

fn told(truncated: bool) -> HeaderValue {
    HeaderValue::from_static(if truncated { "true" } else { "false" })
}

/// A stream that is made as it is read: between two batches nothing waits on a thread. An error
/// ends it without its end, which every reader tells. Whether rows were left out is in a header of
/// a small result, and behind the rows of a large one.
///
/// # Errors
/// Those of the first rows; `Unavailable` while the server is busy.
pub(crate) async fn stream(
    app: App,
    rows: Rows,
    waits: Waits,
    count: Option<Count>,
) -> Result<Response> {
    let writer = StreamWriter::try_new(Vec::new(), rows.schema())
        .map_err(|e| Error::new(Kind::Internal, "rows are no Arrow").because(e))?;
    let reader = Reader::new(app.settings.connections.stall);
    let sending = Sending { rows, rest: None, writer: Some(writer), count, reader, _waits: waits };
    let (made, begun) = app.rows.run(move || begin(sending)).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
    personal(&mut headers);
    let rest = match begun {
        Begun::Whole { truncated } => {
            headers.insert(TRUNCATED, told(truncated));
            None
        }
        Begun::Part(sending) => {
            headers.insert(header::TRAILER, HeaderValue::from_static("x-agnes-truncated"));
            Some(Offered::new(sending))
        }
    };
    let rest = futures_util::stream::try_unfold(rest, move |offered| {
        let app = app.clone();
        async move {
            let Some(offered) = offered else { return Ok(None) };
            let broken = |error: Error| std::io::Error::other(error.to_string());
            let mut sending = offered.take().map_err(broken)?;
            let step = app.rows.go_on(move || sending.next().map(|next| (next, sending))).await;
            match step.map_err(broken)? {
                (Next::Bytes(bytes), sending) => {
                    let frame = Frame::data(Bytes::from(bytes));
                    std::io::Result::Ok(Some((frame, Some(Offered::new(sending)))))
                }
                (Next::End { truncated }, _) => {
                    let trailers = HeaderMap::from_iter([(TRUNCATED, told(truncated))]);
                    Ok(Some((Frame::trailers(trailers), None)))
                }
            }
        }
    });
    let first = futures_util::stream::iter(made.into_iter().map(|bytes| Ok(Frame::data(bytes))));
    let body = Body::new(StreamBody::new(futures_util::StreamExt::chain(first, rest)));
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_drips_is_given_up_and_one_on_a_slow_line_is_not() {
        let second = Duration::from_secs(1);
        let after = |took: u32, bytes: u64, new: u64| {
            let mut reader = Reader::new(30 * second);
            (reader.took, reader.bytes, reader.new) = (took * second, bytes, new);
            reader.time()
        };
        assert_eq!(after(0, 0, 0), 30 * second);
        assert_eq!(after(100, 1000, 1000), 20 * second);
        assert_eq!(after(121, 1000, 1000), Duration::ZERO);
        // Much that was read long ago earns no time for a pause.
        assert_eq!(after(3600, 3600 * RATE, 0), 30 * second);
        assert_eq!(after(3600, 3600 * RATE, 16 * SLOW_LINE), 46 * second);
        assert_eq!(after(3600, 3000 * RATE, 16 * SLOW_LINE), Duration::ZERO);
    }
}
