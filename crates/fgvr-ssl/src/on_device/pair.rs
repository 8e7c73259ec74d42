//! SynthPair on a device: mask, reconstruction and the pair stay there.

use candle_core::{Result, bail};
use fgvr_nn::cuda::ops::elementwise;
use fgvr_nn::cuda::ops::squared_error::{mean_absolute_error, mean_squared_error};
use fgvr_nn::cuda::{Array, Machine};
use fgvr_nn::{Decoder, Device, Map, NormMode, ParameterGradients, Tape};

use super::masked::MaskedThere;
use super::{
    AddonOnDevice, AtFeaturesOnDevice, BankThere, Contrasted, FurtherOnDevice, narrow, wide,
};
use crate::diagnostics::PairDiagnostics;
use crate::step::{Report, StepInput};
use crate::synth_pair::{SynthPairStep, swapped};
use crate::{PairOf, Space, SynthPairConfig, Variance, pair_weight};

/// What a step on a device leaves for its report.
#[derive(Default)]
pub(crate) struct PairOnDevice {
    nu: f64,
    masked: Option<MaskedThere>,
    decoded: Option<DecodedThere>,
    pair: Option<PairThere>,
    /// The key features and the query's, f32, for the bank.
    remembered: Option<[Array; 2]>,
    device: Option<Device>,
}

/// The decoder's images of h, and where their error leads.
struct DecodedThere {
    images: Map,
    loss: Array,
    gradients: ParameterGradients,
}

/// A pair that went through the base.
struct PairThere {
    found: Contrasted,
    perturbed: Map,
    /// Query and key image, as the networks saw them.
    seen: [Map; 2],
    /// Pooled features of query and key.
    features: [Map; 2],
    /// mean |x̂ - x̃| and mean |x - x̂|.
    distances: [Array; 2],
}

/// Whether all that `cfg` asks for has a form on a device.
pub(crate) fn has_form(cfg: &SynthPairConfig, width: usize) -> bool {
    // What a block ranks at once.
    const CHANNELS: usize = 2048;
    cfg.space == Space::Vector
        && cfg.pair == PairOf::Images
        && cfg.perceptual == 0.
        && width <= CHANNELS
}

/// L_R = mean over pixels of (d(h) - x)^2, back to the decoder's variables and, `alpha` times, to h.
fn reconstruct(
    device: &Device,
    decoder: &dyn Decoder,
    h: &Map,
    x: &Map,
    alpha: Option<f64>,
) -> Result<(DecodedThere, Option<Map>)> {
    let mut tape = Tape::recording().on(Some(device));
    let entered = tape.enter(h)?;
    let images = decoder.apply(&mut tape, &entered, NormMode::Train)?;
    if images.shape() != x.shape() {
        bail!(
            "synth pair: the decoder made {:?}, expected {:?} (N, H, W, C)",
            images.shape(),
            x.shape()
        );
    }
    let (made, target) = (images.array()?, x.array()?);
    let (loss, gradient) = device.run(|m| mean_squared_error(m, made, target, 1.))?;
    let gradient = Map::new(device, images.shape(), gradient)?;
    let mut gradients = ParameterGradients::default();
    let Some(at_features) = tape.backward_from(&[(&images, &gradient)], &mut gradients)? else {
        bail!("synth pair: the decoder's tape returned no gradient of its input");
    };
    let at_features = match alpha {
        None => None,
        Some(alpha) => {
            let array = at_features.array()?;
            let scaled = device.run(|m| elementwise::scale(m, array, alpha as f32))?;
            Some(Map::new(device, at_features.shape(), scaled)?)
        }
    };
    let decoded = DecodedThere {
        images,
        loss,
        gradients,
    };
    Ok((decoded, at_features))
}

/// The pair's own augmentation of `images`, where they are if that can be.
fn augmented(device: &Device, input: &StepInput<'_>, images: &Map, view: u64) -> Result<Map> {
    match input.augment_there {
        Some(augment) => augment(device, images, view),
        None => device.send(&(input.augment)(&images.to_tensor()?, view)?),
    }
}

impl PairThere {
    fn new(
        step: &mut FurtherOnDevice<'_>,
        cfg: &SynthPairConfig,
        decoder: &dyn Decoder,
        original: &Map,
        masked: &MaskedThere,
        nu: f64,
    ) -> Result<Self> {
        let (device, input) = (step.device, step.input);
        let channels = masked.features.len() / input.images.len().max(1);
        let features = narrow(device, &masked.features, [input.images.len(), channels])?;
        let mut tape = Tape::inference().on(Some(device));
        let features = tape.constant(&features)?;
        let perturbed = decoder.apply(&mut tape, &features, NormMode::NoUpdate)?;
        let [first, second] = match cfg.augment_pair {
            true => [
                augmented(device, input, original, 0)?,
                augmented(device, input, &perturbed, 1)?,
            ],
            false => [original.clone(), perturbed.clone()],
        };
        let seen = match swapped(cfg, input, 0) {
            true => [second, first],
            false => [first, second],
        };
        let [query, key] = &seen;
        let pass = (step.base).generated_there([query, key], nu, input.images, step.gradients)?;
        let [x, original, changed] = [step.seen, original, &perturbed].map(Map::array);
        let (x, original, changed) = (x?, original?, changed?);
        let between = |a, b| device.run(|m: &dyn Machine| mean_absolute_error(m, a, b));
        let distances = [between(original, changed)?, between(x, original)?];
        let made = Self {
            found: pass.found.clone(),
            features: [pass.first.features.pooled.clone(), pass.key_pooled.clone()],
            perturbed,
            seen,
            distances,
        };
        pass.backward(None, step.gradients)?;
        Ok(made)
    }
}

impl AddonOnDevice for SynthPairStep<'_> {
    fn at_features(&mut self, step: &mut AtFeaturesOnDevice<'_>) -> Result<Option<Map>> {
        let (cfg, input) = (&self.method.cfg, step.input);
        let nu = pair_weight(cfg, input.step, input.total_steps);
        self.there.nu = nu;
        self.there.device = Some(step.device.clone());
        let pairs = cfg.variance == Variance::Between;
        let bank = match &mut self.method.there {
            Some(bank) => bank,
            there => there.insert(BankThere::new(step.device, &self.method.bank, pairs)?),
        };
        // Importance from the gradient of L_C, variance from the bank: the mask M, and h̃.
        if nu > 0. && bank.len() >= cfg.bank_minimum {
            let masked = MaskedThere::new(cfg, bank, step.h, step.images, input)?;
            self.there.masked = Some(masked);
        }
        let keys = wide(step.device, &step.pass.key_pooled)?;
        self.there.remembered = Some([keys, step.h[0].clone()]);
        if !cfg.uses_decoder() {
            return Ok(None);
        }
        let alpha =
            Some(cfg.alpha).filter(|alpha| *alpha > 0. && cfg.reconstruction_reaches_encoder);
        let h = &step.pass.first.features.pooled;
        let (decoded, more) = reconstruct(step.device, self.decoder, h, step.seen, alpha)?;
        self.there.decoded = Some(decoded);
        Ok(more)
    }

    fn further_passes(&mut self, step: &mut FurtherOnDevice<'_>) -> Result<()> {
        let there = &mut self.there;
        if let (Some(masked), Some(decoded)) = (&there.masked, &there.decoded) {
            let (cfg, decoder) = (&self.method.cfg, self.decoder);
            let pair = PairThere::new(step, cfg, decoder, &decoded.images, masked, there.nu)?;
            there.pair = Some(pair);
        }
        Ok(())
    }

    fn report(&mut self, report: &mut Report, finite: bool) -> Result<()> {
        let there = std::mem::take(&mut self.there);
        let (Some(device), Some(bank)) = (there.device, &mut self.method.there) else {
            return Ok(());
        };
        let cfg = &self.method.cfg;
        report.diagnostics.pair_weight = there.nu;
        // This step's mask has been drawn: the bank may move on.
        if let (true, Some([keys, h])) = (finite, &there.remembered) {
            bank.push(keys, (cfg.variance == Variance::Between).then_some(h))?;
        }
        if bank.len() > 0 {
            report.diagnostics.dead_fraction = Some(bank.dead()?);
        }
        let scalar = |array: &Array| -> Result<f64> {
            let values = device.values(array)?;
            Ok(values.first().map_or(f64::NAN, |v| f64::from(*v)))
        };
        let vector = |map: &Map| -> Result<candle_core::Tensor> {
            // (N, C, 1, 1) -> (N, C)
            map.to_tensor()?.flatten_from(1)
        };
        if let Some(decoded) = &there.decoded {
            let loss = scalar(&decoded.loss)?;
            report.losses.reconstruction = Some(loss);
            report.losses.total += cfg.alpha * loss;
        }
        if let (Some(pair), Some(masked)) = (&there.pair, &there.masked) {
            let found = pair.found.numbers(&device)?;
            let [changed, error] = &pair.distances;
            let [query, key] = &pair.features;
            let diagnostics = PairDiagnostics::new(
                masked.stats(&device)?,
                scalar(changed)? / scalar(error)?.max(f64::MIN_POSITIVE),
                [&vector(query)?, &vector(key)?],
                (found.top1, found.negative),
            )?;
            report.add_pair(there.nu, vec![(found.loss, diagnostics)]);
        }
        if let Some(pictures) = &mut report.pictures {
            if let Some(masked) = &there.masked {
                let [n, c] = [pictures.gradient.dim(0)?, pictures.gradient.dim(1)?];
                let mask = device.values(&masked.mask)?;
                let mask = candle_core::Tensor::from_vec(mask, (n, c), &candle_core::Device::Cpu)?;
                pictures.mask = Some(mask);
            }
            if let Some(decoded) = &there.decoded {
                pictures.reconstruction = Some(decoded.images.to_tensor()?);
            }
            if let Some(pair) = &there.pair {
                pictures.perturbed = Some(pair.perturbed.to_tensor()?);
                let [query, key] = &pair.seen;
                pictures.pair = Some([query.to_tensor()?, key.to_tensor()?]);
            }
        }
        report.decoder_gradients = there.decoded.map(|decoded| decoded.gradients);
        Ok(())
    }
}
