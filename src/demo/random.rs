//! Random numbers that are the same on every machine and with every version of every library: a demo that was begun can
//! be carried on, and a test can name what it expects.

/// SplitMix64 (Steele, Lea, Flood 2014): one multiplication chain a number, and any seed is a good one.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `n`, which is not 0. The bias of multiplying instead of dividing is below n / 2⁶⁴.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// From `low` to `high`, each order of magnitude as likely as the others.
    pub(super) fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }
}

/// The finaliser of SplitMix64: numbers that are close become numbers that are not.
pub(super) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Draws an index with a given weight in constant time (Walker's alias method, built as Vose does).
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    /// For each slot: below which part of it the slot itself is meant, and which other one above that.
    slots: Vec<(f64, u32)>,
}

impl Weighted {
    /// Of these weights, which are positive.
    pub(super) fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut left: Vec<f64> = weights.iter().map(|w| w / mean).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|i| left[*i as usize] < 1.0);
        // What rounding leaves over keeps its slot to itself.
        let mut slots: Vec<(f64, u32)> = (0..weights.len() as u32).map(|i| (1.0, i)).collect();
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            let share = left[poor as usize];
            slots[poor as usize] = (share, rich);
            left[rich as usize] -= 1.0 - share;
            if left[rich as usize] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Weighted { slots }
    }

    /// Product `i` of `n` has a weight of `1 / (i + 1)^exponent`.
    pub(super) fn zipf(n: usize, exponent: f64) -> Self {
        Self::new(&(1..=n).map(|rank| (rank as f64).powf(-exponent)).collect::<Vec<_>>())
    }

    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        let slot = random.below(self.slots.len() as u64) as u32;
        let (share, other) = self.slots[slot as usize];
        if random.unit() < share { slot } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The reference implementation's first numbers for this seed.
        let mut random = Random::new(1234567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn each_index_is_drawn_by_its_weight() {
        let weights = [8.0, 1.0, 4.0, 2.0, 1.0];
        let (weighted, mut random) = (Weighted::new(&weights), Random::new(1));
        let mut drawn = [0.0; 5];
        for _ in 0..160_000 {
            drawn[weighted.draw(&mut random) as usize] += 1.0;
        }
        for (drawn, weight) in drawn.iter().zip(weights) {
            assert!((drawn / (weight * 10_000.0) - 1.0_f64).abs() < 0.05, "{drawn} of weight {weight}");
        }
    }
}
