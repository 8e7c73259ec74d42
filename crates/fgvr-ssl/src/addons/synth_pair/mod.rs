//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

mod along;
mod arm;
mod bank;
mod config;
mod curriculum;
mod decoded;
mod gate;
mod image_pair;
mod masked;
mod masked_on_device;
mod objective;
mod outcome;
mod perceptual;
mod sheets;
mod twin;
mod weight;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Decoder;
use fgvr_perturb::FeatureBank;

use self::bank::PlacedBank;
use self::decoded::Decoded;
use self::gate::Gate;
use self::image_pair::ImagePair;
use self::masked::Masked;
use self::outcome::Outcome;
use self::sheets::{IMAGES, PAIRS, SEEN};
use crate::step::state::{prefixed, under};
use crate::step::{Report, StepInput, StepOutput, Term};
use crate::{
    Addon, AddonKind, AtFeatures, Base, DecoderNetwork, Further, MethodConfig, OwnOptimizer, Rows,
    Values,
};

pub use self::along::Along;
pub(crate) use self::along::{basis as noise_basis, noise as noise_along};
pub use self::arm::Arm;
pub use self::config::{PairOf, Space, SynthPairConfig, Variance};
pub use self::curriculum::{Course, CurriculumConfig, mask_at};
pub use self::gate::PairGate;
pub use self::weight::{gated_pair_weight, pair_weight};

/// The names of L_R and L_Cp.
const RECONSTRUCTION: &str = "loss_reconstruction";
const PAIR: &str = "loss_pair";

/// SynthPair (after arXiv:2407.14676) over any [`Base`] that [`supports`](crate::supports) it. See
/// [`SynthPairConfig`] for what is whose choice.
///
/// The pair waits until ν(t) > 0 and the bank holds its minimum. Where α = 0 and ν = 0 the decoder
/// does not run, and the gradients are those of the base alone, bit for bit. A step whose L_C is not
/// finite, or whose gradient at the features or key features are not, gets no pair and leaves the bank as
/// it was; the losses and the gradient norm say so.
///
/// # Design choice
/// A base that is symmetric in the views has two query branches: both views are reconstructed, the
/// features of both are masked and perturbed, and L_Cp is the mean of the base's loss on the pair made
/// of each view. Each pair is a batch of its own. The bank holds what the targets are made of, of the
/// second view.
pub struct SynthPair {
    cfg: SynthPairConfig,
    bank: PlacedBank,
    /// The rotation of noise in a random basis, once it was needed.
    basis: Option<Tensor>,
    decoder: Option<DecoderNetwork>,
    gate: Gate,
    /// What one part of a step leaves to the next.
    under_way: UnderWay,
}

/// A step while it is under way.
#[derive(Default)]
struct UnderWay {
    nu: f64,
    /// The images that each branch saw.
    seen: Vec<Values>,
    masked: Vec<Masked>,
    decoded: Option<Decoded>,
    /// Keys that the base is to keep, of twins.
    keys: Vec<Rows>,
    outcomes: Vec<Outcome>,
    /// The key features of real images, and the query's in a bank of pairs, for the bank.
    remembered: Option<(Rows, Option<Rows>)>,
    /// The first pair of images, for pictures.
    shown: Option<ImagePair>,
}

impl SynthPair {
    /// For features of C = `width` channels. Choices that [use a decoder](SynthPairConfig::uses_decoder) need one.
    ///
    /// # Errors
    /// A configuration out of range, and a decoder that is missing.
    pub fn new(
        cfg: &SynthPairConfig,
        width: usize,
        decoder: Option<DecoderNetwork>,
    ) -> Result<Self> {
        cfg.validate()?;
        if cfg.uses_decoder() && decoder.is_none() {
            bail!(
                "synth pair: alpha is {} and nu {}, which need a decoder, and none was given",
                cfg.alpha,
                cfg.nu
            );
        }
        Ok(Self {
            cfg: cfg.clone(),
            bank: PlacedBank::new(cfg.bank_size, width)?,
            basis: None,
            decoder,
            gate: Gate::default(),
            under_way: UnderWay::default(),
        })
    }

    /// One step of `base` with these pairs and nothing else: [`crate::step`].
    ///
    /// # Errors
    /// Shapes that do not fit, a base that carries no pairs, and a decoder whose tape returns no gradient of its input.
    pub fn step(&mut self, base: &mut dyn Base, input: StepInput<'_>) -> Result<StepOutput> {
        crate::step(base, &mut [self], input)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SynthPairConfig {
        &self.cfg
    }
}

impl std::fmt::Debug for SynthPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.bank {
            PlacedBank::Host(_) => "the CPU",
            PlacedBank::Device(_) => "a device",
        };
        write!(f, "SynthPair({:?}, bank on {place})", self.cfg)
    }
}

impl Addon for SynthPair {
    fn kind(&self) -> AddonKind {
        AddonKind::SYNTH_PAIR
    }

    fn is_active(&self) -> bool {
        self.cfg.alpha > 0. || self.cfg.nu > 0.
    }

    fn runs_on_host(&self) -> bool {
        !PlacedBank::fits_device(self.bank.width()) || self.cfg.perceptual > 0.
    }

    fn records(&self) -> &'static [&'static str] {
        &[
            RECONSTRUCTION,
            PAIR,
            "nu",
            "dead_fraction",
            "masked_fraction",
            "mask_overlap",
            "pair_top1",
            "pair_difference",
            "pair_same_cosine",
            "pair_other_cosine",
        ]
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        let network = self.decoder.as_ref();
        Some(
            network
                .filter(|_| self.cfg.uses_decoder())?
                .decoder
                .as_ref(),
        )
    }

    fn own_optimizer(&self) -> Option<OwnOptimizer<'_>> {
        let network = self.decoder.as_ref()?;
        Some(OwnOptimizer {
            parameters: &network.parameters,
            is_trained: self.cfg.uses_decoder(),
            adam: network.adam.clone(),
            learning_rate: network.learning_rate,
            files: ["decoder", "adam"],
        })
    }

    fn bank(&self) -> Result<Option<FeatureBank>> {
        self.bank.to_host().map(Some)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = prefixed([("bank", self.bank.to_host()?.state()?)]);
        state.extend(self.gate.state(&self.cfg)?);
        Ok(state)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut bank = FeatureBank::new(self.cfg.bank_size, self.bank.width(), true)?;
        bank.load_state(&under(state, "bank"))?;
        self.gate = Gate::load(state)?;
        // A step on a device takes it there again.
        self.bank = PlacedBank::Host(bank);
        Ok(())
    }

    fn gate(&self) -> Option<PairGate> {
        self.gate.waiting(&self.cfg)
    }

    fn measured(&mut self, share: f64, steps: u64) -> bool {
        let opens = self.gate().is_some_and(|gate| share >= gate.share);
        if opens {
            self.gate.opened = Some(steps);
        }
        opens
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        self.perturb_and_reconstruct(step)
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        self.pairs(step)
    }

    fn report(&mut self, report: &mut Report) -> Result<()> {
        let now = std::mem::take(&mut self.under_way);
        report.figures.push(("nu", now.nu));
        // This step's masks have been drawn: the bank may move on.
        if let (true, Some((keys, pooled))) = (report.finite, now.remembered) {
            self.bank.push(&keys, pooled.as_ref())?;
        }
        if self.bank.len() > 0 {
            report.figures.push(("dead_fraction", self.bank.dead()?));
        }
        if let Some(decoded) = &now.decoded {
            let loss = decoded.loss.value()?;
            report.add(Term::new(RECONSTRUCTION, self.cfg.alpha, loss));
        }
        for (name, mean) in Outcome::mean(&now.outcomes)? {
            match name {
                PAIR => report.add(Term::new(PAIR, now.nu, mean)),
                _ => report.figures.push((name, mean)),
            }
        }
        let Some(pictures) = &mut report.pictures else {
            return Ok(());
        };
        if let Some(masked) = now.masked.first() {
            pictures.masks.push(("synthpair", masked.mask.to_host()?));
        }
        if let Some(decoded) = now.decoded {
            let n = pictures.x.dim(0)?;
            let first = decoded.images.narrow(0, n)?.to_host()?;
            pictures.images.push((IMAGES[0], first));
            pictures.sheets.push(("reconstructions", &PAIRS[..2]));
        }
        if let Some(pair) = now.shown {
            let images = [&pair.perturbed, &pair.query, &pair.key];
            for (name, images) in IMAGES[1..].iter().zip(images) {
                pictures.images.push((*name, images.to_host()?));
            }
            pictures.sheets.push(("pairs", &PAIRS));
            pictures.sheets.push(("pair-views", &SEEN));
        }
        Ok(())
    }
}
