//! What is done to an image: quarter turns, and orders of its patches.

use candle_core::{Result, Tensor, bail};
use rand::Rng;

use super::{Pretext, PretextTask};
use crate::step::shuffle::{Shuffle, keyed_rng};

/// Sets these draws apart from others of the same (seed, step).
const TASK: u64 = 0x0070_7265_7465_7874;

impl Pretext {
    /// The images (N, 3, S, S), each as its answer has it.
    ///
    /// # Errors
    /// Images that are not square, or that the grid does not divide.
    pub fn apply(&mut self, images: &Tensor, answers: &[u32]) -> Result<Tensor> {
        let (n, channels, h, w) = images.dims4()?;
        if h != w {
            bail!("pretext: images of {h} x {w}, expected square ones");
        }
        if self.sources.first().is_none_or(|s| s.len() != h * w) {
            self.sources = self.sources(h)?;
        }
        let mut index = Vec::with_capacity(n * h * w);
        for answer in answers {
            match self.sources.get(*answer as usize) {
                Some(source) => index.extend_from_slice(source),
                None => bail!(
                    "pretext: answer {answer}, expected below {}",
                    self.sources.len()
                ),
            }
        }
        // (N, 1, S*S), the same for all channels
        let index = Tensor::from_vec(index, (n, 1, h * w), images.device())?
            .expand((n, channels, h * w))?
            .contiguous()?;
        // (N, 3, S, S) -> (N, 3, S*S), and back
        let flat = images.flatten_from(2)?.contiguous()?;
        flat.gather(&index, 2)?.reshape((n, channels, h, w))
    }

    /// The answers of a step, one an image.
    #[must_use]
    pub fn answers(&self, seed: u64, step: u64, images: &[u32]) -> Vec<u32> {
        let count = self.cfg.answers() as u32;
        let draw = |image: &u32| keyed_rng([seed, step, TASK, u64::from(*image)]).next_u32();
        // The high word of a 32x32-bit product is uniform in 0..count up to 2^-27.
        let scaled = |draw: u32| ((u64::from(draw) * u64::from(count)) >> 32) as u32;
        images.iter().map(|image| scaled(draw(image))).collect()
    }

    /// Where each place's pixel comes from, one list an answer, of images of this side.
    fn sources(&self, side: usize) -> Result<Vec<Vec<u32>>> {
        let last = side.saturating_sub(1);
        let places = |of: &dyn Fn(usize, usize) -> (usize, usize)| -> Vec<u32> {
            let at = |place: usize| of(place / side, place % side);
            let index = |(row, column): (usize, usize)| (row * side + column) as u32;
            (0..side * side).map(|place| index(at(place))).collect()
        };
        match self.cfg.task {
            // Counter-clockwise, as torch.rot90 turns.
            PretextTask::Rotation => Ok(vec![
                places(&|row, column| (row, column)),
                places(&|row, column| (column, last - row)),
                places(&|row, column| (last - row, last - column)),
                places(&|row, column| (last - column, row)),
            ]),
            PretextTask::PatchShuffle => {
                let grid = self.cfg.grid;
                if !side.is_multiple_of(grid) {
                    bail!("pretext: grid is {grid}, expected a divisor of the image size {side}");
                }
                let patch = side / grid;
                let orders = self.orders()?.into_iter().map(|order| {
                    places(&|row, column| {
                        let from = order[(row / patch) * grid + column / patch];
                        (
                            (from / grid) * patch + row % patch,
                            (from % grid) * patch + column % patch,
                        )
                    })
                });
                Ok(orders.collect())
            }
        }
    }

    /// Different orders of the patches, the first as they stand: which patch each place gets.
    fn orders(&self) -> Result<Vec<Vec<usize>>> {
        let n = self.cfg.grid * self.cfg.grid;
        let mut orders = vec![(0..n).collect::<Vec<_>>()];
        let mut draw = 0;
        while orders.len() < self.cfg.orders {
            let order = Shuffle::new(n, [self.seed, TASK, draw, 1])?;
            let order: Vec<usize> = order.order().iter().map(|at| *at as usize).collect();
            if !orders.contains(&order) {
                orders.push(order);
            }
            draw += 1;
        }
        Ok(orders)
    }
}
