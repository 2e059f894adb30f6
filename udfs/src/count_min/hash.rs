//! Where an item goes: the hashes of DataSketches' count-min sketch.

/// One row's hash function: MurmurHash3 (x64, 128 bits) with this seed, its first half.
pub(crate) fn murmur3(bytes: &[u8], seed: u64) -> u64 {
    const C1: u64 = 0x87C3_7B91_1142_53D5;
    const C2: u64 = 0x4CF5_AD43_2745_937F;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (seed, seed);
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        h1 ^= mix1(block as u64);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52DC_E729);
        h2 ^= mix2((block >> 64) as u64);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5AB5);
    }
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let last = u128::from_le_bytes(last);
    // Words that are zero change nothing, so a short tail needs no case of its own.
    h2 ^= mix2((last >> 64) as u64);
    h1 ^= mix1(last as u64);
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1.wrapping_add(h2)
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    h = (h ^ h >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    h ^ h >> 33
}

/// The 16 bits that tell sketches of different seeds apart.
pub(crate) fn seed_hash(seed: u64) -> u16 {
    murmur3(&seed.to_le_bytes(), 0) as u16
}

/// The seeds of the rows: `uniform_int_distribution<uint64_t>` over `default_random_engine(seed)`, as libstdc++ has them, each
/// plus the seed.
pub(crate) fn row_seeds(seed: u64, rows: u8) -> Vec<u64> {
    let mut engine = MinStd::new(seed);
    (0..rows).map(|_| engine.uniform(u64::MAX).wrapping_add(seed)).collect()
}

/// The "minimal standard" generator of Park and Miller with factor 16807.
struct MinStd(u64);

impl MinStd {
    const MODULUS: u64 = (1 << 31) - 1;
    /// It gives 1 to MODULUS − 1; less one, 0 to this.
    const RANGE: u64 = Self::MODULUS - 2;

    fn new(seed: u64) -> Self {
        MinStd((seed % Self::MODULUS).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0 * 16_807 % Self::MODULUS;
        self.0 - 1
    }

    /// A number from 0 to `max`.
    fn uniform(&mut self, max: u64) -> u64 {
        if max < Self::RANGE {
            let scale = Self::RANGE / (max + 1);
            loop {
                let number = self.next();
                if number < scale * (max + 1) {
                    return number / scale;
                }
            }
        }
        loop {
            let high = self.uniform(max / (Self::RANGE + 1)).wrapping_mul(Self::RANGE + 1);
            let number = high.wrapping_add(self.next());
            if number <= max && number >= high {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_is_the_published_one() {
        // First halves, of the reference implementation.
        assert_eq!(murmur3(b"", 0), 0);
        assert_eq!(murmur3(b"hello", 0), 0xCBD8_A7B3_41BD_9B02);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog", 0), 0xE34B_BC7B_BC07_1B6C);
    }
}
