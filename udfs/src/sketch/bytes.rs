//! Little-endian reading that never runs past the end.

use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;

/// Reads a sketch's bytes from front to back; what is missing is an error that names it.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            exec_datafusion_err!(
                "the sketch is cut short: {what} needs {length} bytes, {} are left",
                self.rest.len()
            )
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A quantity: not negative as a signed number either, as Java keeps it.
    pub(crate) fn quantity(&mut self, what: &str) -> Result<u64> {
        let value = self.u64(what)?;
        if value > i64::MAX as u64 {
            return Err(exec_datafusion_err!("the sketch is corrupt: {what} is {}", value as i64));
        }
        Ok(value)
    }
}
