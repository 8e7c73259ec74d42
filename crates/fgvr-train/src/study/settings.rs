//! The settings of a study's runs, each over those before: preset, weights, study, data set, arm, seed.

use super::config::{START, StudyArm, StudyConfig, StudyData};
use crate::config::Layers;
use crate::{Error, Observer, PretrainConfig, Result, Silent};

/// Keys that decide how much an arm may spend and how it is judged: the same for all arms.
const BUDGET: [&str; 6] = [
    "source",
    "data",
    "loader.batch",
    "optimizer.steps",
    "optimizer.epochs",
    "optimizer.accumulate",
];

/// In the place of a preset: the one for careful training that fits the weights.
pub(super) const CAREFUL: &str = "careful";

/// The setting that carries a study's seed for a frozen arm with these settings; `None` where nothing in it is drawn anew
/// for a seed, so that its figures are the same for all.
fn seed_setting(layers: &Layers) -> Option<&'static str> {
    // A closed form draws nothing; a head that is trained on its features would.
    layers.get("adapt.head").map(|_| "adapt.head.seed")
}

impl StudyConfig {
    /// What lies below all settings on `data`: the preset, and what its weights bring, as for `fgvr pretrain`.
    ///
    /// # Errors
    /// An unknown preset; weights that cannot be opened.
    pub(super) fn base(&self, data: &StudyData, observer: &mut dyn Observer) -> Result<Layers> {
        let mut layers = Layers::default();
        let preset = data.preset.as_deref().or(self.preset.as_deref());
        match &data.weights {
            None => {
                if let Some(preset) = preset {
                    layers.preset(preset)?;
                }
            }
            Some(source) => {
                let asked = preset.filter(|preset| *preset != CAREFUL);
                if let Some(preset) = asked {
                    layers.preset(preset)?;
                }
                layers.weights(source, observer)?;
                if asked.is_none() {
                    let careful = layers.careful_preset();
                    layers.preset_under(careful)?;
                }
            }
        }
        layers.set_value("source", data.source.clone())?;
        Ok(layers)
    }

    /// The settings of one run; weights of `data` are opened for what they bring.
    ///
    /// # Errors
    /// A setting that is unknown or out of range; weights that cannot be opened.
    pub fn resolve(&self, data: &StudyData, arm: &StudyArm, seed: u64) -> Result<PretrainConfig> {
        self.resolve_over(&self.base(data, &mut Silent)?, (data, arm), seed)
    }

    /// The settings of one run over `base`, which is [`Self::base`] of its data set.
    ///
    /// # Errors
    /// A setting that is unknown or out of range.
    pub(super) fn resolve_over(
        &self,
        base: &Layers,
        (data, arm): (&StudyData, &StudyArm),
        seed: u64,
    ) -> Result<PretrainConfig> {
        let mut layers = self.layers(base, data, arm)?;
        layers.set_value("seed", number(seed)?)?;
        layers.set_value("name", format!("{}/{}", data.name, arm.name))?;
        layers.resolve()
    }

    fn layers(&self, base: &Layers, data: &StudyData, arm: &StudyArm) -> Result<Layers> {
        let mut layers = base.clone();
        for setting in self.set.iter().chain(&data.set).chain(&arm.set) {
            layers.set(setting)?;
        }
        Ok(layers)
    }

    /// Whether the figures of a frozen arm depend on the seed.
    ///
    /// # Errors
    /// A setting that is unknown.
    pub(super) fn is_seeded(
        &self,
        base: &Layers,
        (data, arm): (&StudyData, &StudyArm),
    ) -> Result<bool> {
        Ok(seed_setting(&self.layers(base, data, arm)?).is_some())
    }

    /// Those settings of what no run trains that its figures depend on; with a frozen arm its own, otherwise those of the
    /// start.
    ///
    /// # Errors
    /// A setting that is unknown or out of range.
    pub(super) fn resolve_frozen(
        &self,
        base: &Layers,
        (data, arm): (&StudyData, Option<&StudyArm>),
        seed: u64,
    ) -> Result<PretrainConfig> {
        let start = StudyArm {
            name: START.to_owned(),
            frozen: true,
            set: Vec::new(),
        };
        let arm = arm.unwrap_or(&start);
        let mut layers = self.layers(base, data, arm)?;
        if let Some(setting) = seed_setting(&layers) {
            layers.set_value(setting, number(seed)?)?;
        }
        let all = layers.resolve()?;
        all.adapt.validate()?;
        // The rest is of trainings: changing it leaves these figures as they are.
        Ok(PretrainConfig {
            name: format!("{}/{}", data.name, arm.name),
            source: all.source,
            data: all.data,
            precision: all.precision,
            encoder: all.encoder,
            weights: all.weights,
            normalisation: all.normalisation,
            evaluate: all.evaluate,
            adapt: all.adapt,
            ..PretrainConfig::default()
        })
    }

    /// Every arm that trains sees the same images and is judged on the same ones.
    pub(super) fn equal_budgets(
        &self,
        data: &StudyData,
        base: &Layers,
        origin: &str,
    ) -> Result<()> {
        let resolve = |arm: &StudyArm| self.resolve_over(base, (data, arm), self.seeds[0]);
        let trained = || self.arm.iter().filter(|arm| !arm.frozen);
        let control = trained().find(|arm| arm.name == self.control);
        let Some(control) = control.or(trained().next()) else {
            return Ok(());
        };
        let (name, control) = (&control.name, resolve(control)?);
        for arm in trained() {
            let config = resolve(arm)?;
            let mut same = config.clone();
            // What an arm may change: everything that is not listed.
            same.source.clone_from(&control.source);
            same.data = control.data.clone();
            same.loader.batch = control.loader.batch;
            same.optimizer.steps = control.optimizer.steps;
            same.optimizer.epochs = control.optimizer.epochs;
            same.optimizer.accumulate = control.optimizer.accumulate;
            same.evaluate = control.evaluate.clone();
            if let Some((key, was, is)) = same.first_difference(&config)? {
                let whose = match *name == self.control {
                    true => "the control".to_owned(),
                    false => format!("arm {name}"),
                };
                return Err(Error::config(
                    origin,
                    format!(
                        "arm {} has {key} = {is}, {whose} {was}; arms are compared at the same \
                         budget and judged alike ({} and evaluate), so set it for all",
                        arm.name,
                        BUDGET.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn number(seed: u64) -> Result<i64> {
    i64::try_from(seed).map_err(|_| Error::config("seeds", format!("{seed} is above {}", i64::MAX)))
}
