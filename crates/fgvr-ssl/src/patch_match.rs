//! Patch match: places of one view against the places of the other view that look most like them.

use candle_core::{DType, Device, Result, Tensor, bail};
use fgvr_nn::Parameters;

use crate::addons::{AddonConfig, AddonParts};
use crate::momentum::check_temperature;
use crate::shuffle::Shuffle;
use crate::{
    Addon, AddonKind, AtFeatures, InfoNce, Negatives, ProjectionHead, info_nce, l2_normalise,
};

/// Sets the draw of places apart from other draws of the same (seed, step).
const PLACES: u64 = 0x7061_7463_6865;

/// Choices of [`PatchMatch`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct PatchMatchConfig {
    /// Weight of the loss.
    pub weight: f64,
    /// T of InfoNCE.
    pub temperature: f64,
    /// D, the width of the projections.
    pub dim: usize,
    /// Width between the projector's two layers; that of the encoder where absent.
    pub hidden: Option<usize>,
    /// At most this many places of an image are compared, drawn by (seed, step, image); the match is
    /// sought among all. The cost grows with the square of batch times places.
    pub places: usize,
}

impl Default for PatchMatchConfig {
    fn default() -> Self {
        Self {
            weight: 0.5,
            temperature: 0.2,
            dim: 128,
            hidden: None,
            places: 49,
        }
    }
}

impl AddonConfig for PatchMatchConfig {
    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "patch match: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        for (name, size) in [
            ("dim", self.dim),
            ("hidden", self.hidden.unwrap_or(1)),
            ("places", self.places),
        ] {
            if size == 0 {
                bail!("patch match: {name} is 0, expected at least 1");
            }
        }
        check_temperature("patch match", "temperature", self.temperature)
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(PatchMatch::new(self, parts)?))
    }
}

/// Beside the base's loss, one of places. With F and F' the last maps of two views of image n, g two 1x1
/// convolutions with a ReLU between them and L2 normalisation after them,
///
/// m(i) = argmax_j cos(F_ni, F'_nj),  q_ni = g(F_ni),  k_nj = sg g(F'_nj),
/// L = w · mean_{n,i} -log( exp(q_ni·k_nm(i)/T) / (exp(q_ni·k_nm(i)/T) + Σ_{n'≠n, j} exp(q_ni·k_n'j/T)) )
///
/// over the places of the batch, the views also the other way round where the base has two query branches
/// (then L is the mean of both). A base with one compares with the key encoder's map. After DenseCL
/// (arXiv:2011.09157), which matches places the same way.
///
/// # Differs
/// Negatives are the places of the batch's other images, without a queue. Other places of the same image
/// are none: they often show the same part.
#[derive(Debug)]
pub struct PatchMatch {
    cfg: PatchMatchConfig,
    head: ProjectionHead,
    parameters: Parameters,
}

impl PatchMatch {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &PatchMatchConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let hidden = cfg.hidden.unwrap_or(parts.width);
        Ok(Self {
            head: ProjectionHead::new(parts.width, hidden, cfg.dim, vb.pp("patch_match"))?,
            cfg: cfg.clone(),
            parameters,
        })
    }

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

impl Addon for PatchMatch {
    fn kind(&self) -> AddonKind {
        AddonKind::PatchMatch
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let (input, pass) = (step.input, step.pass);
        let draw = [input.seed, input.step];
        let maps = pass.global().map(|branch| Ok(&branch.leaves()?.map));
        let maps = maps.collect::<Result<Vec<&Tensor>>>()?;
        let found = match (maps.as_slice(), &pass.key_map) {
            ([first, second], _) => {
                let forth = self.between(first, second, input.images, draw)?;
                let both = forth.plus(self.between(second, first, input.images, draw)?)?;
                InfoNce {
                    loss: (both.loss * 0.5)?,
                    ..both
                }
            }
            ([one], Some(key)) => self.between(one, &key.to_host()?, input.images, draw)?,
            (maps, _) => bail!(
                "patch match: {} query branches and no map of keys, expected two branches or a map",
                maps.len()
            ),
        };
        step.add_loss("loss_patch_match", self.cfg.weight, &found.loss)?;
        step.report.figures.push(("patch_match_top1", found.top1));
        Ok(())
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }
}
