//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

mod bank;
mod decoded;
mod image_pair;
mod masked;
mod masked_on_device;
mod outcome;
mod perceptual;
mod twin;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Decoder;
use fgvr_perturb::FeatureBank;

use self::bank::PlacedBank;
use self::decoded::{Decoded, reconstruct};
use self::image_pair::ImagePair;
use self::masked::Masked;
use self::outcome::Outcome;
use self::perceptual::perceptual;
use self::twin::twin;
use crate::pass::FeatureOutput;
use crate::state::{prefixed, under};
use crate::step::{Column, Report, Shows, StepInput, StepOutput, Term};
use crate::{
    Addon, AddonConfig, AddonKind, AddonParts, AtFeatures, Base, DecoderNetwork, Further,
    OwnOptimizer, PairOf, Rows, Space, SynthPairConfig, Values, Variance, pair_weight,
};

/// The names of L_R and L_Cp.
const RECONSTRUCTION: &str = "loss_reconstruction";
const PAIR: &str = "loss_pair";

/// The names of images in pictures, and the sheets of them.
const IMAGES: [&str; 4] = ["reconstruction", "perturbed", "query", "key"];
const X: Column = Column {
    caption: "x",
    shows: Shows::View,
};
const D_OF_H: Column = Column {
    caption: "d(h)",
    shows: Shows::Images(IMAGES[0]),
};
const PAIRS: [Column; 4] = [
    X,
    D_OF_H,
    Column {
        caption: "perturbed",
        shows: Shows::Images(IMAGES[1]),
    },
    Column {
        caption: "2x difference",
        shows: Shows::Difference([IMAGES[0], IMAGES[1]]),
    },
];
const SEEN: [Column; 2] = [
    Column {
        caption: "query",
        shows: Shows::Images(IMAGES[2]),
    },
    Column {
        caption: "key",
        shows: Shows::Images(IMAGES[3]),
    },
];

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
    decoder: Option<DecoderNetwork>,
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
            decoder,
            under_way: UnderWay::default(),
        })
    }

    /// One step of `base` with these pairs and nothing else: [`crate::step`].
    ///
    /// # Errors
    /// As [`crate::step`], and a decoder whose tape returns no gradient of its input.
    pub fn step(&mut self, base: &mut dyn Base, input: StepInput<'_>) -> Result<StepOutput> {
        crate::step(base, &mut [self], input)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SynthPairConfig {
        &self.cfg
    }
}

/// The decoder of choices that use one.
fn used(decoder: &Option<DecoderNetwork>) -> Result<&dyn Decoder> {
    match decoder {
        Some(network) => Ok(network.decoder.as_ref()),
        None => bail!("synth pair: there is no decoder"),
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
        AddonKind::SynthPair
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
        Ok(prefixed([("bank", self.bank.to_host()?.state()?)]))
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut bank = FeatureBank::new(self.cfg.bank_size, self.bank.width(), true)?;
        bank.load_state(&under(state, "bank"))?;
        // A step on a device takes it there again.
        self.bank = PlacedBank::Host(bank);
        Ok(())
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        let (cfg, input) = (&self.cfg, step.input);
        let nu = pair_weight(cfg, input.step, input.total_steps);
        // Whatever a step that failed left is gone.
        self.under_way = UnderWay {
            nu,
            ..UnderWay::default()
        };
        let now = &mut self.under_way;
        let between = cfg.variance == Variance::Between;
        let fits = PlacedBank::fits_device(self.bank.width());
        self.bank
            .place(step.pass.device().filter(|_| fits), between)?;

        // Importance from the gradient of L_C, variance from the bank: the mask M, and h̃.
        let branches: Vec<_> = step.pass.global().collect();
        let subjects = branches
            .iter()
            .zip(step.pooled)
            .map(|(branch, h)| match cfg.space {
                Space::Vector => h.values(),
                Space::Map => Ok(branch.map()),
            });
        let subjects = subjects.collect::<Result<Vec<_>>>()?;
        if nu > 0. && self.bank.len() >= cfg.bank_minimum && step.is_finite()? {
            for (branch, subject) in subjects.iter().enumerate() {
                let h = [&step.pooled[branch], &step.gradient[branch]];
                let masked = Masked::new(cfg, &mut self.bank, h, subject, branch, input)?;
                now.masked.push(masked);
            }
        }

        // d(h): L_R. Its gradient at h joins that of L_C.
        if cfg.uses_decoder() {
            let decoder = used(&self.decoder)?;
            now.seen = branches
                .iter()
                .map(|branch| branch.images.clone())
                .collect();
            let subject = Values::stack(&subjects)?;
            let mut decoded = reconstruct(decoder, &subject, &Values::stack(&now.seen)?)?;
            if cfg.perceptual > 0. {
                let maps = branches.iter().map(|branch| branch.map().to_host());
                let maps = maps.collect::<Result<Vec<_>>>()?;
                let h = match cfg.space {
                    Space::Vector => subject.rows()?.to_host()?,
                    Space::Map => subject.to_host()?,
                };
                let (encoder, into) = (step.base.encoder(), &mut decoded.gradients);
                let loss = perceptual(encoder, decoder, &h, &maps, cfg.perceptual, into)?;
                step.report.figures.push(("loss_perceptual", loss));
            }
            if cfg.alpha > 0. && cfg.reconstruction_reaches_encoder {
                let gradient = decoded.at_features.scaled(cfg.alpha)?;
                let at = match cfg.space {
                    Space::Vector => FeatureOutput::Pooled,
                    Space::Map => FeatureOutput::Map,
                };
                let n = input.images.len();
                for (number, branch) in branches.iter().enumerate() {
                    let part = gradient.narrow(number * n, n)?;
                    step.gradients.add(branch, at, &part)?;
                }
            }
            now.decoded = Some(decoded);
        }

        // The twin of the features: its gradient at h joins the others.
        if cfg.pair == PairOf::Features {
            let share = nu / now.masked.len().max(1) as f64;
            for (branch, masked) in branches.iter().zip(&now.masked) {
                let mut twin = twin(step.base, branch, masked, input)?;
                twin.between.found.backward(share, step.gradients)?;
                now.keys.push(twin.between.keys);
                now.outcomes.push(twin.outcome);
            }
        }
        let pooled = between.then(|| step.pooled[0].clone());
        now.remembered = Some((step.pass.key_pooled.clone(), pooled));
        Ok(())
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        let (cfg, input, now) = (&self.cfg, step.input, &mut self.under_way);
        for keys in std::mem::take(&mut now.keys) {
            step.base.keep_pair_keys(&keys, input.images)?;
        }
        let Some(decoded) = &mut now.decoded else {
            return Ok(());
        };
        step.gradients
            .append(std::mem::take(&mut decoded.gradients))?;
        if cfg.pair == PairOf::Features {
            return Ok(());
        }
        // x̂ = d(h) as it is, x̃ = d(h̃), both without a way back to the decoder; of each branch. x̂ through f, x̃
        // through f_m (or the other way round): L_Cp, on a tape of its own.
        let share = now.nu / now.masked.len().max(1) as f64;
        let n = input.images.len();
        for (branch, (masked, seen)) in now.masked.iter().zip(&now.seen).enumerate() {
            let decoder = used(&self.decoder)?;
            let original = decoded.images.narrow(branch * n, n)?;
            let pair = ImagePair::new(cfg, decoder, original, masked, branch, input)?;
            let generated = (step.base).generated([&pair.query, &pair.key], input.images)?;
            now.outcomes.push(pair.outcome(seen, masked, &generated)?);
            step.add_pass(share, generated)?;
            if step.report.pictures.is_some() {
                now.shown.get_or_insert(pair);
            }
        }
        Ok(())
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

impl AddonConfig for SynthPairConfig {
    fn validate(&self) -> Result<()> {
        SynthPairConfig::validate(self)
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        let decoder = parts.decoder.map(|make| make(self.space)).transpose()?;
        Ok(Box::new(SynthPair::new(self, parts.width, decoder)?))
    }
}
