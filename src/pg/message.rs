//! The messages that a client sends, read from the bytes of one frame.
//!
//! Every read is checked: a short or mutated message is an error, never a panic, and no count in a message makes us
//! reserve memory that the message itself does not fill.

use bytes::{Buf, Bytes};

use super::error::Failure;

/// A message of a client that has started up.
#[derive(Debug)]
pub(super) enum Frontend {
    /// The simple protocol: one string of statements.
    Query(String),
    /// Makes a prepared statement.
    Parse {
        /// Its name; the unnamed one is empty.
        name: String,
        /// One statement.
        query: String,
        /// Types of the first parameters; 0 leaves one open.
        types: Vec<u32>,
    },
    /// Makes a portal of a prepared statement and values for its parameters.
    Bind {
        /// The portal's name.
        portal: String,
        /// The statement's name.
        statement: String,
        /// Formats of the parameters: none, one for all, or one each.
        formats: Vec<i16>,
        /// The values.
        values: Vec<Option<Bytes>>,
        /// Formats of the result columns: none, one for all, or one each.
        results: Vec<i16>,
    },
    /// Asks for the columns (and parameters) of a statement or portal.
    Describe(Target, String),
    /// Runs a portal, up to so many rows (0: all).
    Execute(String, usize),
    /// Forgets a statement or portal.
    Close(Target, String),
    /// Ends a series of extended messages.
    Sync,
    /// Asks for what was written so far.
    Flush,
    /// Ends the connection.
    Terminate,
    /// Messages of COPY and of password exchanges that nobody asked for.
    Unexpected(u8),
}

/// What a Describe or Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// Reads a message of type `kind` from its body.
pub(super) fn decode(kind: u8, body: Bytes) -> Result<Frontend, Failure> {
    let mut body = Body(body);
    let message = match kind {
        b'Q' => Frontend::Query(body.string()?),
        b'P' => {
            let (name, query) = (body.string()?, body.string()?);
            let types = (0..body.u16()?).map(|_| body.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, query, types }
        }
        b'B' => {
            let (portal, statement) = (body.string()?, body.string()?);
            let formats = (0..body.u16()?).map(|_| body.i16()).collect::<Result<_, _>>()?;
            let values = (0..body.u16()?).map(|_| body.value()).collect::<Result<_, _>>()?;
            let results = (0..body.u16()?).map(|_| body.i16()).collect::<Result<_, _>>()?;
            Frontend::Bind { portal, statement, formats, values, results }
        }
        b'D' => Frontend::Describe(body.target()?, body.string()?),
        b'E' => {
            let portal = body.string()?;
            // A negative limit means none.
            Frontend::Execute(portal, usize::try_from(body.i32()?).unwrap_or(0))
        }
        b'C' => Frontend::Close(body.target()?, body.string()?),
        b'S' => Frontend::Sync,
        b'H' => Frontend::Flush,
        b'X' => Frontend::Terminate,
        b'd' | b'c' | b'f' | b'p' | b'F' => return Ok(Frontend::Unexpected(kind)),
        _ => return Err(Failure::protocol(format!("invalid frontend message type {kind}"))),
    };
    body.end()?;
    Ok(message)
}

/// The bytes of a message that are not read yet.
pub(super) struct Body(pub(super) Bytes);

impl Body {
    fn need(&self, n: usize) -> Result<(), Failure> {
        if self.0.remaining() < n {
            return Err(Failure::protocol("insufficient data left in message"));
        }
        Ok(())
    }

    /// A string that ends with a zero byte.
    pub(super) fn string(&mut self) -> Result<String, Failure> {
        let end = self.0.iter().position(|b| *b == 0);
        let Some(end) = end else { return Err(Failure::protocol("invalid string in message")) };
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec())
            .map_err(|_| Failure::fatal("22021", "invalid byte sequence for encoding \"UTF8\""))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Failure> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }

    fn u16(&mut self) -> Result<u16, Failure> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    pub(super) fn i32(&mut self) -> Result<i32, Failure> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    fn u32(&mut self) -> Result<u32, Failure> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    /// A value with its length in front; a negative length is NULL.
    pub(super) fn value(&mut self) -> Result<Option<Bytes>, Failure> {
        let Ok(length) = usize::try_from(self.i32()?) else { return Ok(None) };
        self.need(length)?;
        Ok(Some(self.0.split_to(length)))
    }

    fn target(&mut self) -> Result<Target, Failure> {
        self.need(1)?;
        match self.0.get_u8() {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(Failure::protocol(format!("invalid target {other} of a Describe or Close message"))),
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Failure::protocol("invalid message format")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_is_an_error() {
        for kind in 0..=255u8 {
            for length in 0..24 {
                let _ = decode(kind, Bytes::from(vec![0xffu8; length]));
                let _ = decode(kind, Bytes::from(vec![0u8; length]));
            }
        }
    }

    #[test]
    fn a_bind_message_is_read_whole() {
        let body =
            [b"p\0s\0".as_slice(), &[0, 1, 0, 1, 0, 2, 0, 0, 0, 1, 7, 255, 255, 255, 255, 0, 0]].concat();
        let Ok(Frontend::Bind { portal, statement, formats, values, results }) = decode(b'B', body.into())
        else {
            panic!("not a bind message")
        };
        assert_eq!((portal.as_str(), statement.as_str(), formats, results), ("p", "s", vec![1], vec![]));
        assert_eq!(values, [Some(Bytes::from_static(&[7])), None]);
    }
}
