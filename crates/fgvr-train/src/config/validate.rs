//! Ranges: what each setting may be, before anything is spent.

use fgvr_encoder::Pooling;
use fgvr_ssl::{AddonKind, Arm, TrainedOn};

use super::{OptimizerKind, PretrainConfig};
use crate::{Error, Result};

impl PretrainConfig {
    /// Checks every setting that has a range.
    ///
    /// # Errors
    /// The first setting out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        let o = &self.optimizer;
        self.validate_view()?;
        within("loader.batch", self.loader.batch as f64, 2., 65_536.)?;
        within("optimizer.lr", o.lr, 0., 1e3)?;
        within("optimizer.head_lr", o.head_lr.unwrap_or(o.lr), 0., 1e3)?;
        within("optimizer.layer_decay", o.layer_decay, 0., 1.)?;
        within("optimizer.low_rank_alpha", o.low_rank_alpha, 0., 1e6)?;
        within("optimizer.anchor", o.anchor, 0., 1e6)?;
        if o.anchor > 0. && o.low_rank > 0 {
            return Err(Error::config(
                "optimizer.anchor",
                "weight decay draws a change of low rank toward the start already; leave one of optimizer.anchor and optimizer.low_rank out",
            ));
        }
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
        self.positives.validate()?;
        self.validate_teacher()?;
        self.augment.validate()?;
        for other in [&self.augment_second, &self.augment_crops]
            .into_iter()
            .flatten()
        {
            other.validate()?;
        }
        self.pair_augment.validate()?;
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
        let (of_base, on) = (self.methods.base(base)?, self.trained_on()?);
        self.validate_patches()?;
        of_base
            .validate()
            .and_then(|()| of_base.fits(&on))
            .map_err(|e| of_section(base.section(), &e))?;
        self.validate_addons(&on)?;
        if self.local_crops() > 0 {
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
            fgvr_ssl::supports(base, AddonKind::SYNTH_PAIR)
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
    /// What stands on the base.
    fn validate_addons(&self, on: &TrainedOn<'_>) -> Result<()> {
        if let Some(kind) = AddonKind::repeated(&self.addons) {
            return Err(Error::config(
                "addons",
                format!("{kind} stands there twice"),
            ));
        }
        if self.addons.contains(&AddonKind::SYNTH_PAIR) {
            return Err(Error::config(
                "addons",
                "synthpair is chosen by arm: take it out of addons and set arm=full",
            ));
        }
        for kind in &self.addons {
            fgvr_ssl::supports(self.base, *kind)
                .map_err(|e| Error::config("addons", e.to_string()))?;
        }
        // SynthPair's choices also where the arm leaves it out.
        let pairs = std::iter::once(&AddonKind::SYNTH_PAIR);
        for kind in pairs.chain(&self.addons) {
            let own = self.methods.addon(*kind)?;
            own.validate()
                .and_then(|()| own.fits(on))
                .map_err(|e| of_section(kind.section(), &e))?;
        }
        Ok(())
    }

    /// What methods must fit.
    fn trained_on(&self) -> Result<TrainedOn<'_>> {
        Ok(TrainedOn {
            architecture: self.encoder.architecture.name(),
            trunk: self.trunk(),
            pools_both: self.encoder.pooling == Pooling::Both,
            pools_places: self.pools_places(),
            side: self.data.size,
            stride: self.stride()?,
            batch: self.loader.batch,
        })
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
