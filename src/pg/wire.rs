//! The two halves of a connection: frames in, messages out.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage as Backend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::error::{Failure, Stop};
use super::tls::Tls;

/// A message of a client may be so long, as in PostgreSQL.
const MAX_FRAME: usize = 0x3fff_ffff;
/// What a client may send ahead while a statement runs.
const READ_AHEAD: usize = 1 << 20;
/// So much is collected before it is written.
const WRITE_AT: usize = 32 << 10;

/// What a connection goes over: a socket, or TLS over one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The two halves of a stream.
pub(super) fn halves(stream: Box<dyn Stream>) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    let buffer = || BytesMut::with_capacity(8 << 10);
    (Reader { stream: read, buffer: buffer() }, Writer { stream: write, buffer: buffer() })
}

/// Goes on with encryption. A handshake that fails ends the connection; TLS itself has told the client why.
pub(super) async fn encrypt(
    reader: &mut Reader,
    writer: &mut Writer,
    tls: &Tls,
    direct: bool,
) -> Result<(), Stop> {
    // What was sent in front of the handshake may be anybody's, and must not be taken for the client's own.
    if !reader.buffer.is_empty() {
        return Err(Failure::protocol("received unencrypted data after SSL request").into());
    }
    let (nothing, nowhere) = halves(Box::new(tokio::io::empty()));
    let read = std::mem::replace(reader, nothing).stream;
    let write = std::mem::replace(writer, nowhere).stream;
    (*reader, *writer) = halves(tls.accept(read.unsplit(write), direct).await?);
    Ok(())
}

/// The half that reads.
pub(super) struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
}

impl Reader {
    /// Reads until `length` bytes are there; false at the end of the stream.
    pub(super) async fn fill(&mut self, length: usize) -> io::Result<bool> {
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes that are there.
    pub(super) fn peek(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes `length` bytes that are there.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        self.buffer.split_to(length).freeze()
    }

    /// The next message: its type and body. Losing this future loses nothing.
    pub(super) async fn frame(&mut self) -> Result<(u8, Bytes), Stop> {
        self.frame_within(MAX_FRAME).await
    }

    /// The same, of a client that is not trusted with more memory yet.
    pub(super) async fn frame_within(&mut self, most: usize) -> Result<(u8, Bytes), Stop> {
        if !self.fill(5).await? {
            return Err(Stop::Gone);
        }
        let kind = self.buffer[0];
        let length = (&self.buffer[1..5]).get_u32() as usize;
        if !(4..=most).contains(&length) {
            return Err(Failure::protocol("invalid message length").into());
        }
        if !self.fill(length + 1).await? {
            return Err(Stop::Gone);
        }
        self.buffer.advance(5);
        Ok((kind, self.take(length - 4)))
    }

    /// Whether a whole message is there already.
    pub(super) fn has_frame(&self) -> bool {
        self.buffer.len() >= 5 && self.buffer.len() > (&self.buffer[1..5]).get_u32() as usize
    }

    /// Ends when the client has closed the connection. What it sends meanwhile is kept, up to a bound.
    pub(super) async fn closed(&mut self) {
        while self.buffer.len() < READ_AHEAD {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }
}

/// The half that writes. What is written waits here until there is enough, or someone flushes: the client's pace is
/// ours, because a full buffer waits for the socket.
pub(super) struct Writer {
    stream: WriteHalf<Box<dyn Stream>>,
    /// What is not written yet; rows are encoded straight into it.
    pub(super) buffer: BytesMut,
}

impl Writer {
    /// Adds a message.
    pub(super) fn put(&mut self, message: Backend) {
        let before = self.buffer.len();
        if let Err(e) = message.encode(&mut self.buffer) {
            // Only a message beyond the protocol's own limits; half of it must not go out.
            self.buffer.truncate(before);
            tracing::warn!("a message could not be encoded: {e}");
        }
    }

    /// Writes when enough has been collected.
    pub(super) async fn relieve(&mut self) -> io::Result<()> {
        if self.buffer.len() >= WRITE_AT {
            self.stream.write_all_buf(&mut self.buffer).await?;
        }
        Ok(())
    }

    /// Writes messages that are encoded already.
    pub(super) async fn forward(&mut self, messages: &Bytes) -> io::Result<()> {
        if messages.len() < WRITE_AT {
            self.buffer.extend_from_slice(messages);
            return self.relieve().await;
        }
        self.stream.write_all_buf(&mut self.buffer).await?;
        self.stream.write_all(messages).await
    }

    /// Writes everything.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.buffer).await?;
        self.stream.flush().await
    }

    /// Writes everything and says that no more will come.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }
}
