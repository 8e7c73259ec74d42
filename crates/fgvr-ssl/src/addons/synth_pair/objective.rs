//! The step of SynthPair: what does not discriminate, its perturbation, the decoder's images, the pair.
//!
//! L = L_C + α L_R + ν(t) L_Cp; `docs/methods.md` has the equations.

use candle_core::{Result, bail};
use fgvr_nn::Decoder;

use super::along;
use super::bank::PlacedBank;
use super::decoded::reconstruct;
use super::image_pair::ImagePair;
use super::masked::Masked;
use super::perceptual::perceptual;
use super::twin::twin;
use super::{PairOf, Space, SynthPair, UnderWay, gated_pair_weight};
use crate::{AtFeatures, DecoderNetwork, FeatureOutput, Further, Values};

impl SynthPair {
    /// M and h̃ of each branch, d(h) and L_R, and the twin of the features where that is the pair.
    pub(super) fn perturb_and_reconstruct(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        let (cfg, input) = (&self.cfg, step.input);
        let opened = self.gate.opened;
        let nu = gated_pair_weight(cfg, input.step, input.total_steps, opened);
        // Whatever a step that failed left is gone.
        self.under_way = UnderWay {
            nu,
            ..UnderWay::default()
        };
        let now = &mut self.under_way;
        let between = cfg.keeps_pairs();
        if self.basis.is_none() {
            self.basis = along::basis(cfg.along, self.bank.width(), input.seed)?;
        }
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
                let masked = Masked::new(
                    cfg,
                    &mut self.bank,
                    h,
                    subject,
                    branch,
                    input,
                    self.basis.as_ref(),
                )?;
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

    /// The pair of images of each branch, and L_Cp.
    pub(super) fn pairs(&mut self, step: &mut Further<'_>) -> Result<()> {
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
}

/// The decoder of choices that use one.
fn used(decoder: &Option<DecoderNetwork>) -> Result<&dyn Decoder> {
    match decoder {
        Some(network) => Ok(network.decoder.as_ref()),
        None => bail!("synth pair: there is no decoder"),
    }
}
