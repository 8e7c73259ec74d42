//! Auxiliary tasks: by how much an image was turned, or in which order its patches stand.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::ModuleT;
use candle_nn::ops::log_softmax;
use fgvr_nn::layers::Linear;
use fgvr_nn::{NormMode, ParameterGradients, Parameters};
use rand::Rng;

use crate::addons::{AddonConfig, AddonParts};
use crate::info_nce::scalar;
use crate::shuffle::{Shuffle, keyed_rng};
use crate::step::Term;
use crate::{Addon, AddonKind, AtFeatures, Further};

/// Sets these draws apart from others of the same (seed, step).
const TASK: u64 = 0x0070_7265_7465_7874;

/// What is to be told of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PretextTask {
    /// By how many quarter turns it was rotated: four answers (RotNet, arXiv:1803.07728).
    #[default]
    Rotation,
    /// Which of `orders` orders its patches of a grid were put in (after jigsaw, arXiv:1603.09246, and the
    /// destruction of DCL, CVPR 2019).
    PatchShuffle,
}

/// Choices of [`Pretext`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct PretextConfig {
    /// The task.
    pub task: PretextTask,
    /// Weight of its cross-entropy.
    pub weight: f64,
    /// Patches along a side, of [`PretextTask::PatchShuffle`].
    pub grid: usize,
    /// Orders that are told apart, of [`PretextTask::PatchShuffle`]; the first is the image as it is.
    pub orders: usize,
}

impl Default for PretextConfig {
    fn default() -> Self {
        Self {
            task: PretextTask::Rotation,
            weight: 0.1,
            grid: 2,
            orders: 8,
        }
    }
}

/// Beside the base's loss, a linear layer tells from h what was done to the image:
/// L = w · mean_i −log softmax(W h(T_{y_i} x_i) + b)_{y_i}, y_i drawn by (seed, step, image).
///
/// # Design choice
/// The task gets a pass of its own over the first view of each image, whose batch statistics leave no
/// trace in the running ones: evaluation sees no turned images. Its gradient reaches the trunk.
#[derive(Debug)]
pub struct Pretext {
    cfg: PretextConfig,
    head: Linear,
    parameters: Parameters,
    /// Where each place's pixel comes from, one list an answer; of the image size last seen.
    sources: Vec<Vec<u32>>,
    seed: u64,
}

impl PretextConfig {
    /// How many answers there are.
    #[must_use]
    pub fn answers(&self) -> usize {
        match self.task {
            PretextTask::Rotation => 4,
            PretextTask::PatchShuffle => self.orders,
        }
    }
}

impl AddonConfig for PretextConfig {
    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "pretext: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        if !(2..=16).contains(&self.grid) {
            bail!("pretext: grid is {}, expected 2 to 16", self.grid);
        }
        // Two by two patches have 24 orders.
        if !(2..=24).contains(&self.orders) {
            bail!("pretext: orders is {}, expected 2 to 24", self.orders);
        }
        Ok(())
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(Pretext::new(self, parts)?))
    }
}

impl Pretext {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &PretextConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let head = Linear::new(parts.width, cfg.answers(), true, vb.pp("pretext"))?;
        Ok(Self {
            cfg: cfg.clone(),
            head,
            parameters,
            sources: Vec::new(),
            seed: parts.seed,
        })
    }

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

impl Addon for Pretext {
    fn kind(&self) -> AddonKind {
        AddonKind::Pretext
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, _: &mut AtFeatures<'_>) -> Result<()> {
        Ok(())
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let input = step.input;
        let n = input.images.len();
        let answers = self.answers(input.seed, input.step, input.images);
        let images = self.apply(input.views.global[0], &answers)?;
        let encoder = step.base.encoder();
        let (features, tape) = encoder.forward_train(&images, NormMode::NoUpdate)?;
        let logits = self.head.forward_t(&features.pooled, true)?; // (N, answers)
        let wanted = Tensor::from_vec(answers, (n, 1), logits.device())?;
        let likelihood = log_softmax(&logits, 1)?.gather(&wanted, 1)?;
        let loss = likelihood.mean_all()?.neg()?;
        let found = logits.detach().argmax_keepdim(1)?.eq(&wanted)?;
        let found = scalar(&found.to_dtype(DType::F32)?.mean_all()?)?;
        let mut leaves = (&loss * self.cfg.weight)?.backward()?;
        tape.backward(&leaves, step.gradients)?;
        let mut own = ParameterGradients::default();
        for var in self.trainable().values() {
            if let Some(gradient) = leaves.remove(var) {
                own.insert(var, gradient);
            }
        }
        step.gradients.append(own)?;
        let loss = scalar(&loss)?;
        step.report
            .add(Term::new("loss_pretext", self.cfg.weight, loss));
        step.report.figures.push(("pretext_top1", found));
        Ok(())
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }
}
