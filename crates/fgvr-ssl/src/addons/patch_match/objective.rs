//! The loss of patch match: each place against the one of the other view that looks most like it.

use candle_core::{Device, Result, Tensor, bail};

use super::PatchMatch;
use crate::{InfoNce, Negatives, Shuffle, info_nce, l2_normalise};

/// Sets the draw of places apart from other draws of the same (seed, step).
const PLACES: u64 = 0x7061_7463_6865;

impl PatchMatch {
    /// The loss of the places of `map` against those of `other`, which is a constant; both (N, C, h, w) of
    /// the same images. `draw` is (seed, step).
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn between(
        &self,
        map: &Tensor,
        other: &Tensor,
        images: &[u32],
        draw: [u64; 2],
    ) -> Result<InfoNce> {
        let (n, c, h, w) = map.dims4()?;
        if other.dims() != map.dims() || images.len() != n {
            bail!(
                "patch match: maps are {:?} and {:?} of {} images, expected two of one shape",
                map.dims(),
                other.dims(),
                images.len()
            );
        }
        let (all, taken) = (h * w, self.cfg.places.min(h * w));
        let chosen = self.chosen(all, images, draw)?;
        let (here, there) = (rows(map)?, rows(&other.detach())?);
        let here = here.index_select(&chosen, 0)?; // (N*taken, C)

        // (N, taken, C) x (N, C, all) -> (N, taken, all)
        let unit = |x: &Tensor, places| l2_normalise(x)?.reshape((n, places, c));
        let looks = unit(&here.detach(), taken)?
            .matmul(&unit(&there, all)?.transpose(1, 2)?.contiguous()?)?;
        let nearest = looks.argmax(2)?.flatten_all()?.to_vec1::<u32>()?;
        let nearest = (0..).zip(nearest);
        let nearest: Vec<u32> = nearest
            .map(|(at, place)| (at / taken * all) as u32 + place)
            .collect();
        let nearest = Tensor::from_vec(nearest, n * taken, map.device())?;

        let project = |places: &Tensor| -> Result<Tensor> {
            let of = there.index_select(places, 0)?;
            Ok(self.head.forward(&of)?.detach())
        };
        let of: Vec<u32> = images
            .iter()
            .flat_map(|image| std::iter::repeat_n(*image, taken))
            .collect();
        let keys = project(&chosen)?;
        let negatives = (n > 1).then_some(Negatives {
            keys: &keys,
            images: &of,
        });
        let queries = self.head.forward(&here)?;
        let temperature = self.cfg.temperature;
        info_nce(&queries, &project(&nearest)?, &of, negatives, temperature)
    }

    /// Rows of (N*all, C): the places of each image that are compared.
    fn chosen(&self, all: usize, images: &[u32], [seed, step]: [u64; 2]) -> Result<Tensor> {
        let taken = self.cfg.places.min(all);
        let mut chosen = Vec::with_capacity(images.len() * taken);
        for (at, image) in images.iter().enumerate() {
            let start = (at * all) as u32;
            if taken == all {
                chosen.extend((0..all as u32).map(|place| start + place));
                continue;
            }
            let order = Shuffle::new(all, [seed, step, PLACES, u64::from(*image)])?;
            chosen.extend(order.order()[..taken].iter().map(|place| start + place));
        }
        let len = chosen.len();
        Tensor::from_vec(chosen, len, &Device::Cpu)
    }
}

/// (N, C, h, w) -> (N*h*w, C)
fn rows(map: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = map.dims4()?;
    let places = map.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
    places.reshape((n * h * w, c))
}
