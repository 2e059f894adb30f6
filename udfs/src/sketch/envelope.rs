//! The bytes of a stored sketch.
//!
//! Version 1, little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 2 | `F5 54`: what no DataSketches sketch begins with |
//! | 2 | 1 | version |
//! | 3 | 1 | kind: 1 frequent items, 2 count-min, 3 distinct (HLL) |
//! | 4 | 3 | type of the items: code, precision or unit, scale |
//! | 7 | 3 | type of the weights: 0 none, 1 integer, 2 decimal; precision; scale |
//! | 10 | 1 | number of parts |
//! | 11 | 1 | 0 |
//! | 12 | 8 | seed (count-min), else 0 |
//! | 20 | | the parts: length (4 bytes), then a sketch in the format of Apache DataSketches |
//!
//! The first part has what was added, the second, if there is one, what was taken off again (weights below zero, their sign
//! dropped): two sketches whose difference is the net.

use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::Result;

use super::bytes::Reader;
use super::item::ItemType;
use super::weight::WeightType;

const MAGIC: [u8; 2] = [0xF5, 0x54];
const VERSION: u8 = 1;

/// What a sketch is for; the numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The most frequent items.
    FrequentItems = 1,
    /// The frequency of any item.
    CountMin = 2,
    /// How many different items.
    Distinct = 3,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::FrequentItems => "a top-k sketch",
            Kind::CountMin => "a count-min sketch",
            Kind::Distinct => "a distinct (hll) sketch",
        }
    }
}

/// What stands before the sketches themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) item: ItemType,
    pub(crate) weight: WeightType,
    pub(crate) seed: u64,
}

/// A stored sketch, taken apart.
pub(crate) struct Envelope<'a> {
    pub(crate) header: Header,
    /// What was added.
    pub(crate) added: &'a [u8],
    /// What was taken off again.
    pub(crate) taken: Option<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    /// Takes a sketch of one kind apart.
    pub(crate) fn read(bytes: &'a [u8], wanted: Kind) -> Result<Self> {
        let envelope = Self::read_any(bytes)?;
        let kind = envelope.header.kind;
        if kind != wanted {
            return exec_err!("expected {}, got {}", wanted.name(), kind.name());
        }
        Ok(envelope)
    }

    /// Takes a sketch of any kind apart.
    pub(crate) fn read_any(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.take(2, "its mark").ok() != Some(&MAGIC[..]) {
            return exec_err!("these {} bytes are not a sketch made by this library", bytes.len());
        }
        let version = reader.u8("the version")?;
        if version != VERSION {
            return exec_err!("the sketch has version {version} of the format; this build reads {VERSION}");
        }
        let kind = match reader.u8("the kind")? {
            1 => Kind::FrequentItems,
            2 => Kind::CountMin,
            3 => Kind::Distinct,
            other => return exec_err!("the sketch is corrupt: its kind is {other}"),
        };
        let mut three =
            |what| -> Result<[u8; 3]> { Ok([reader.u8(what)?, reader.u8(what)?, reader.u8(what)?]) };
        let item = ItemType::from_bytes(three("the item type")?)?;
        let weight = WeightType::from_bytes(three("the weight type")?)?;
        let parts = reader.u8("the number of parts")?;
        reader.u8("padding")?;
        let seed = reader.u64("the seed")?;
        let mut part = || -> Result<&'a [u8]> {
            let length = reader.u32("the length of a part")?;
            reader.take(length as usize, "a part")
        };
        let (added, taken) = match parts {
            1 => (part()?, None),
            2 => (part()?, Some(part()?)),
            other => return exec_err!("the sketch is corrupt: it has {other} parts"),
        };
        if reader.remaining() > 0 {
            return exec_err!("the sketch is corrupt: {} bytes follow its end", reader.remaining());
        }
        Ok(Envelope { header: Header { kind, item, weight, seed }, added, taken })
    }
}

/// Writes an envelope; the parts write themselves.
pub(crate) fn write(
    header: &Header,
    out: &mut Vec<u8>,
    added: impl FnOnce(&mut Vec<u8>),
    taken: Option<impl FnOnce(&mut Vec<u8>)>,
) -> Result<()> {
    out.extend(MAGIC);
    out.extend([VERSION, header.kind as u8]);
    out.extend(header.item.to_bytes());
    out.extend(header.weight.to_bytes());
    out.extend([if taken.is_some() { 2 } else { 1 }, 0]);
    out.extend(header.seed.to_le_bytes());
    write_part(out, added)?;
    taken.map_or(Ok(()), |taken| write_part(out, taken))
}

fn write_part(out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let at = out.len();
    out.extend([0; 4]);
    part(out);
    let length = u32::try_from(out.len() - at - 4)
        .map_err(|_| exec_datafusion_err!("the sketch has outgrown 4 GiB: use a smaller capacity"))?;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}
