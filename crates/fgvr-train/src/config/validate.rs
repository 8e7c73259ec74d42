//! Ranges: what each setting may be, before anything is spent.

use fgvr_encoder::Pooling;
use fgvr_ssl::{AddonKind, Arm, BaseKind, Regions, Space};

use super::{OptimizerKind, PretrainConfig};
use crate::{Error, Result};

impl PretrainConfig {
    /// Checks every setting that has a range.
    ///
    /// # Errors
    /// The first setting out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        let o = &self.optimizer;
        let s = &self.synthpair;
        self.validate_view()?;
        within("loader.batch", self.loader.batch as f64, 2., 65_536.)?;
        within("optimizer.lr", o.lr, 0., 1e3)?;
        within("optimizer.head_lr", o.head_lr.unwrap_or(o.lr), 0., 1e3)?;
        within("optimizer.layer_decay", o.layer_decay, 0., 1.)?;
        within("optimizer.decoder_lr", o.decoder_lr, 0., 1e3)?;
        below_one("optimizer.momentum", o.momentum)?;
        within("optimizer.weight_decay", o.weight_decay, 0., 1.)?;
        within("optimizer.warm_up", o.warm_up, 0., 1.)?;
        within("optimizer.clip", o.clip, 0., f64::MAX)?;
        within("optimizer.accumulate", o.accumulate as f64, 1., 65_536.)?;
        if o.steps.unwrap_or(o.epochs) == 0 {
            return Err(Error::config(
                "optimizer.steps",
                "expected at least one step, found 0",
            ));
        }
        within("optimizer.trust", o.trust, 0., 1e3)?;
        self.validate_base()?;
        within("synthpair.alpha", s.alpha, 0., 1e3)?;
        within("synthpair.nu", s.nu, 0., 1e3)?;
        within("synthpair.warm_up", s.warm_up, 0., 1.)?;
        within("synthpair.ramp", s.ramp, 0., 1.)?;
        within("synthpair.mask.rho_variance", s.mask.rho_variance, 0., 1.)?;
        within(
            "synthpair.mask.rho_importance",
            s.mask.rho_importance,
            0.,
            1.,
        )?;
        within("synthpair.noise.scale", s.noise.scale, 0., 1e3)?;
        within("decoder.hidden", self.decoder.hidden as f64, 1., 65_536.)?;
        within(
            "decoder.channels",
            self.decoder.channels as f64,
            1.,
            65_536.,
        )?;
        within("checkpoint.keep", self.checkpoint.keep as f64, 1., 1e6)?;
        within("checkpoint.every", self.checkpoint.every as f64, 1., 1e12)?;
        within("monitor.pictures", self.monitor.pictures as f64, 1., 64.)?;
        within(
            "evaluate.pixel_side",
            self.evaluate.pixel_side as f64,
            1.,
            512.,
        )?;
        within(
            "loader.bad_image_budget",
            self.loader.bad_image_budget,
            0.,
            1.,
        )?;
        within("evaluate.knn.k", self.evaluate.knn.k as f64, 1., 1e6)?;
        self.encoder
            .validate()
            .map_err(|e| Error::config("encoder", e.to_string()))?;
        self.augment.validate()?;
        for other in [&self.augment_second, &self.augment_crops]
            .into_iter()
            .flatten()
        {
            other.validate()?;
        }
        self.pair_augment.validate()?;
        if s.space == Space::Map && self.encoder.architecture.is_vit() {
            return Err(Error::config(
                "synthpair.space",
                format!(
                    "found map, but {} does not pool its map; set synthpair.space=vector",
                    self.encoder.architecture
                ),
            ));
        }
        s.validate()
            .map_err(|e| Error::config("synthpair", e.to_string()))?;
        Ok(())
    }
}

impl PretrainConfig {
    /// How photos are found and how evaluation sees them.
    pub(super) fn validate_view(&self) -> Result<()> {
        within("data.size", self.data.size as f64, 16., 4096.)?;
        within("evaluate.resize_ratio", self.evaluate.resize_ratio, 1., 4.)?;
        within("evaluate.batch", self.evaluate.batch as f64, 1., 65_536.)?;
        self.data.validate()?;
        self.normalisation.validate()?;
        Ok(())
    }

    /// The base, its optimiser and what stands on it.
    fn validate_base(&self) -> Result<()> {
        let (base, o) = (self.base, &self.optimizer);
        let settings = fgvr_ssl::BaseSettings {
            moco: self.moco.clone(),
            ..self.base_settings(usize::MAX)
        };
        base.validate(&settings).map_err(|e| {
            let section = match base {
                BaseKind::MoCoV2 => "moco",
                BaseKind::MoCoV3 => "moco_v3",
                other => other.name(),
            };
            of_section(section, &e)
        })?;
        self.validate_patches()?;
        self.validate_addons()?;
        if base == BaseKind::MoCoV2 {
            let (queue, batch) = (self.moco.queue as f64, self.loader.batch as f64);
            within("moco.queue", queue, batch, 1e7)?;
        }
        if self.local_crops() > 0 {
            within("dino.local_crops", self.dino.local_crops as f64, 0., 64.)?;
            within("loader.crop_size", self.crop_size() as f64, 8., 4096.)?;
            let patch = self.stride()?;
            if self.encoder.architecture.is_vit() && !self.crop_size().is_multiple_of(patch) {
                let found = self.crop_size();
                return Err(Error::config(
                    "loader.crop_size",
                    format!("expected a multiple of the patch size {patch}, found {found}"),
                ));
            }
        }
        if self.arm != Arm::Base {
            fgvr_ssl::supports(base, AddonKind::SynthPair)
                .map_err(|e| Error::config("base", format!("{e}; arm=base trains {base} alone")))?;
        }
        if let Some(end) = o.weight_decay_end {
            within("optimizer.weight_decay_end", end, 0., 1.)?;
            if o.kind != OptimizerKind::Adamw {
                return Err(Error::config(
                    "optimizer.weight_decay_end",
                    format!(
                        "{} has one weight decay; set optimizer.kind=adamw",
                        o.kind.name()
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl PretrainConfig {
    /// What stands on the base besides SynthPair, which `arm` decides on.
    fn validate_addons(&self) -> Result<()> {
        if let Some(kind) = AddonKind::repeated(&self.addons) {
            return Err(Error::config(
                "addons",
                format!("{kind} stands there twice"),
            ));
        }
        let settings = self.addon_settings();
        for kind in &self.addons {
            if *kind == AddonKind::SynthPair {
                return Err(Error::config(
                    "addons",
                    "synthpair is chosen by arm: take it out of addons and set arm=full",
                ));
            }
            kind.validate(&settings)
                .map_err(|e| of_section(kind.section(), &e))?;
            fgvr_ssl::supports(self.base, *kind)
                .map_err(|e| Error::config("addons", e.to_string()))?;
            match kind {
                AddonKind::CommonRationale => self.validate_places()?,
                AddonKind::LocalDiscrimination => self.validate_lodisc()?,
                AddonKind::PatchMatch if self.encoder.pooling == Pooling::Both => {
                    return Err(Error::config(
                        "encoder.pooling",
                        "found both, and patch-match compares places, which have half as many channels; expected \
                         class-token or patch-mean",
                    ));
                }
                AddonKind::SynthPair | AddonKind::Pretext | AddonKind::PatchMatch => {}
            }
        }
        Ok(())
    }

    /// Whether the trunk has places to choose among, and pools them by their mean.
    fn validate_places(&self) -> Result<()> {
        let (architecture, size) = (self.encoder.architecture, self.data.size);
        if architecture.is_vit() {
            return Err(Error::config(
                "addons",
                format!(
                    "lcr shares the gradient at the pooled features out among the places of a map, and \
                     {architecture} pools no places but has a class token; take a ResNet, or leave lcr out"
                ),
            ));
        }
        let stride = self.stride()?;
        if size <= stride {
            return Err(Error::config(
                "data.size",
                format!(
                    "lcr chooses among places, and {size} px give a map of a single one; expected more than {stride}"
                ),
            ));
        }
        Ok(())
    }

    /// Whether the encoder can rank patches as `lodisc.regions` wants it, and its map be masked.
    fn validate_lodisc(&self) -> Result<()> {
        let (encoder, regions) = (&self.encoder, self.lodisc.regions);
        let wrong = match (encoder.architecture.is_vit(), regions) {
            (true, Regions::GradCam) => Some(Regions::Attention),
            (false, Regions::Attention) => Some(Regions::GradCam),
            _ => None,
        };
        if let Some(right) = wrong {
            return Err(Error::config(
                "lodisc.regions",
                format!(
                    "found {}, expected {} or {} with {}",
                    regions.name(),
                    right.name(),
                    Regions::AutoByEncoder.name(),
                    encoder.architecture
                ),
            ));
        }
        // Convolutions round up.
        let cells = self.data.size.div_ceil(self.stride()?);
        let fits = self.lodisc.fits(self.data.size, cells);
        fits.map_err(|e| of_section(AddonKind::LocalDiscrimination.section(), &e))
    }

    /// Pixels of the image per place of the encoder's map.
    fn stride(&self) -> Result<usize> {
        match self.encoder.stride() {
            Ok(stride) => Ok(stride.max(1)),
            Err(e) => Err(Error::config("encoder", e.to_string())),
        }
    }

    /// A transformer cuts an image into whole patches.
    fn validate_patches(&self) -> Result<()> {
        let (encoder, size) = (&self.encoder, self.data.size);
        let patch = self.stride()?;
        if encoder.architecture.is_vit() && !size.is_multiple_of(patch) {
            return Err(Error::config(
                "data.size",
                format!("expected a multiple of the patch size {patch}, found {size}"),
            ));
        }
        Ok(())
    }
}

/// "byol: momentum is 2, expected ..." as an error of the setting byol.momentum.
fn of_section(section: &str, error: &candle_core::Error) -> Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let what = line.split_once(": ").map_or(line, |(_, what)| what);
    match what
        .split_once(" is ")
        .filter(|(field, _)| !field.contains(' '))
    {
        Some((field, problem)) => {
            Error::config(format!("{section}.{field}"), format!("found {problem}"))
        }
        None => Error::config(section, what),
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if value >= low && value <= high {
        return Ok(());
    }
    let range = if high >= 1e6 {
        format!("at least {low}")
    } else {
        format!("{low} to {high}")
    };
    Err(Error::config(
        key,
        format!("expected {range}, found {value}"),
    ))
}

fn below_one(key: &str, value: f64) -> Result<()> {
    if (0. ..1.).contains(&value) {
        return Ok(());
    }
    Err(Error::config(
        key,
        format!("expected at least 0 and below 1, found {value}"),
    ))
}
