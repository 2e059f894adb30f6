//! COPY on the wire: rows in bulk from a client, and to it.
//!
//! A client that sends rows is read from only as fast as they are stored, and one that takes rows holds up the query that gives
//! them.

use bytes::{BufMut, BytesMut};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::time::Instant;

use super::cancel::Ticket;
use super::encode::Style;
use super::encode::copy::Encoder;
use super::error::{Failure, Stop, state};
use super::message::Body;
use super::session::{Core, in_time};
use super::wire::Reader;
use crate::ingest::copy::CopyIn;
use crate::ingest::copy::format::{Format, FormatKind};

impl Core {
    /// Tells the client to send rows.
    pub(super) fn ask_for_rows(&mut self, copy: &CopyIn) {
        respond(b'G', copy.format(), copy.width(), &mut self.writer.buffer);
    }

    /// Sends the rows of a COPY.
    pub(super) async fn copy_out(
        &mut self,
        format: &Format,
        mut stream: SendableRecordBatchStream,
    ) -> Result<(), Stop> {
        let schema = stream.schema();
        respond(b'H', format, schema.fields().len(), &mut self.writer.buffer);
        let mut encoder = Encoder::new(format, Style { zone: self.client.settings.time_zone() });
        encoder.begin(&schema, &mut self.writer.buffer)?;
        let mut sent = 0;
        while let Some(batch) = stream.next().await {
            let rows = encoder.rows(&batch?)?;
            for row in 0..rows.len() {
                encoder.write(&rows, row, &mut self.writer.buffer)?;
                sent += 1;
                self.writer.relieve().await?;
            }
        }
        encoder.end(&mut self.writer.buffer)?;
        self.writer.buffer.put_slice(&[b'c', 0, 0, 0, 4]);
        self.complete("COPY", Some(sent));
        Ok(())
    }
}

/// `CopyInResponse` and `CopyOutResponse`.
fn respond(kind: u8, format: &Format, width: usize, out: &mut BytesMut) {
    let binary = format.kind == FormatKind::Binary;
    out.put_u8(kind);
    out.put_i32(4 + 1 + 2 + 2 * width as i32);
    out.put_u8(u8::from(binary));
    out.put_i16(width as i16);
    (0..width).for_each(|_| out.put_i16(i16::from(binary)));
}

/// Takes all rows that the client sends. However it ends but well, nothing is left of them.
pub(super) async fn receive(
    reader: &mut Reader,
    ticket: &Ticket,
    deadline: Option<Instant>,
    mut copy: Box<CopyIn>,
) -> Result<Box<CopyIn>, Stop> {
    match in_time(ticket, deadline, take(reader, &mut copy)).await {
        Ok(()) => Ok(copy),
        Err(stop) => {
            copy.abandon().await;
            Err(stop)
        }
    }
}

async fn take(reader: &mut Reader, copy: &mut CopyIn) -> Result<(), Stop> {
    loop {
        let (kind, body) = reader.frame().await?;
        match kind {
            b'd' => copy.write(body).await?,
            b'c' => return Ok(()),
            b'f' => {
                let why = Body(body).string()?;
                let message = format!("COPY from stdin failed: {why}");
                return Err(Failure::new(state::QUERY_CANCELED, message).into());
            }
            // Clients may have sent these ahead, as behind any other Execute.
            b'H' | b'S' => {}
            b'X' => return Err(Stop::Gone),
            other => {
                let message = format!("unexpected message type {other} during COPY from stdin");
                return Err(Failure::protocol(message).into());
            }
        }
    }
}
