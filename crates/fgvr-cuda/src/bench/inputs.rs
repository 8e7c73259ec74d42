//! Random operands, so that a GPU draws the power that it draws in training.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::machine::bf16_bits;
use crate::{Array, Machine, Real, Result};

/// Normals that are drawn; longer operands repeat them.
const DRAWN: usize = 1 << 20;
const SEED: u64 = 0;

/// Operands on one machine. What no case writes is shared between cases, so that all fit at once.
pub struct Inputs<'a> {
    machine: &'a dyn Machine,
    random: ChaCha8Rng,
    /// The bytes of the normals.
    normals: HashMap<Real, Vec<u8>>,
    shared: HashMap<(Real, usize), Vec<Array>>,
    /// How many of the shared arrays of a length the case at hand has.
    given: HashMap<(Real, usize), usize>,
}

impl<'a> Inputs<'a> {
    /// None yet.
    #[must_use]
    pub fn new(machine: &'a dyn Machine) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let drawn: Vec<f32> = (0..DRAWN).map(|_| normal(&mut random) as f32).collect();
        let wide = drawn.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let narrow = drawn.iter().flat_map(|v| bf16_bits(*v).to_ne_bytes());
        let normals = HashMap::from([(Real::F32, wide), (Real::Bf16, narrow.collect())]);
        Self {
            machine,
            random,
            normals,
            shared: HashMap::new(),
            given: HashMap::new(),
        }
    }

    pub(super) fn machine(&self) -> &'a dyn Machine {
        self.machine
    }

    /// What was given to the case before may be given again.
    pub(super) fn next_case(&mut self) {
        self.given.clear();
    }

    /// Normals that nobody may write; another array at each call in one case.
    ///
    /// # Errors
    /// What the machine says.
    pub fn reals(&mut self, real: Real, len: usize) -> Result<Array> {
        let key = (real, len);
        let at = self.given.get(&key).copied().unwrap_or(0);
        let held = self.shared.get(&key).and_then(|held| held.get(at)).cloned();
        let array = match held {
            Some(array) => array,
            None => {
                let made = self.own(real, len)?;
                self.shared.entry(key).or_default().push(made.clone());
                made
            }
        };
        self.given.insert(key, at + 1);
        Ok(array)
    }

    /// Normals that the case may write.
    pub(super) fn own(&mut self, real: Real, len: usize) -> Result<Array> {
        let array = Array::new(self.machine, real.into(), len)?;
        let drawn = &self.normals[&real];
        // Another start in each array, so that no two of a case are equal.
        let word = array.dtype().bytes();
        let start = self.random.random_range(0..DRAWN) * word;
        let mut bytes = Vec::with_capacity(len * word);
        bytes.extend_from_slice(&drawn[start..][..(drawn.len() - start).min(len * word)]);
        while bytes.len() < len * word {
            let rest = len * word - bytes.len();
            bytes.extend_from_slice(&drawn[..rest.min(drawn.len())]);
        }
        self.machine.upload(&bytes, array.memory())?;
        Ok(array)
    }

    /// f32 between 0.5 and 1.5: weights of norms, variances.
    pub(super) fn positive(&mut self, len: usize) -> Result<Array> {
        let values: Vec<f32> = (0..len)
            .map(|_| 0.5 + self.random.random::<f32>())
            .collect();
        Array::from_f32(self.machine, &values)
    }

    /// Normals of f64.
    pub(super) fn doubles(&mut self, len: usize) -> Result<Array> {
        let values: Vec<f64> = (0..len).map(|_| normal(&mut self.random)).collect();
        Array::from_f64(self.machine, &values)
    }
}

/// By Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1. - random.random::<f64>(), random.random());
    (-2. * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
