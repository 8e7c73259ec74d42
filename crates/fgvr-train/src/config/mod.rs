//! The settings of a run: every choice is a field, every field has a default, and the resolved
//! settings are written into the run folder.

mod adapt;
mod derived;
mod fine_tune;
mod from_weights;
mod frozen;
mod methods;
mod optimizer_kind;
mod overrides;
mod positives;
mod presets;
mod protocols;
mod safe_start;
mod teacher;
mod validate;

pub use adapt::{AdaptSettings, Measure, ViewAugment};
pub use fine_tune::FineTuneSettings;
pub use frozen::Use;
pub use methods::{Methods, Section, addon_kinds, base_kinds, register_addon, register_base};
pub use optimizer_kind::OptimizerKind;
pub use overrides::Layers;
pub(crate) use overrides::did_you_mean;
pub use positives::{PositiveKind, PositivesSettings};
pub use presets::PRESETS;
pub use protocols::ProtocolSettings;
pub use teacher::TeacherSettings;

use fgvr_data::augment::{AugmentConfig, Interpolation, PairAugmentConfig, RESIZE_RATIO};
use fgvr_data::{DataConfig, Normalisation};
use fgvr_encoder::EncoderConfig;
use fgvr_eval::{KnnConfig, ProbeConfig};
use fgvr_nn::Precision;
use fgvr_ssl::{AddonKind, Arm, BaseKind, TrunkNorm};
use serde::{Deserialize, Serialize};

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PretrainConfig {
    /// Name of these settings, for people: it stands in the log.
    pub name: String,
    /// Seed of everything random: weights, order, augmentation, masks, noise.
    pub seed: u64,
    /// The arm of the comparison: which parts of the method run.
    pub arm: Arm,
    /// What else stands on the base, in the order in which it runs.
    #[serde(deserialize_with = "methods::addons")]
    pub addons: Vec<AddonKind>,
    /// `builtin:lookalikes`, or a folder of images.
    pub source: String,
    /// How the source is read and split.
    pub data: DataConfig,
    /// From pixel values in [0, 1] to what the network is fed; pretrained weights bring their own.
    pub normalisation: Normalisation,
    /// Pretrained weights that the trunk starts from.
    pub weights: WeightsSettings,
    /// How batches are put together.
    pub loader: LoaderSettings,
    /// Which image the second view is of.
    pub positives: PositivesSettings,
    /// How a view is made from an image.
    pub augment: AugmentConfig,
    /// How the second view is made, where not as the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment_second: Option<AugmentConfig>,
    /// How a small crop is made; as the first view, of 0.05 to 0.4 of the area, where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment_crops: Option<AugmentConfig>,
    /// How generated pairs are augmented.
    pub pair_augment: PairAugmentConfig,
    /// What a GPU computes networks in; the CPU knows f32 alone.
    pub precision: Precision,
    /// The trunk.
    pub encoder: EncoderConfig,
    /// The decoder.
    pub decoder: DecoderSettings,
    /// The base objective.
    #[serde(deserialize_with = "methods::base_kind")]
    pub base: BaseKind,
    /// Weight of its loss beside those of add-ons; 0 leaves the loss of a teacher alone.
    pub base_weight: f64,
    /// Whose features are learnt by the add-on `distil`.
    pub teacher: TeacherSettings,
    /// The choices of bases and add-ons, a section each.
    #[serde(flatten)]
    pub methods: Methods,
    /// Length, learning rates and their course.
    pub optimizer: OptimizerSettings,
    /// What is watched while training.
    pub monitor: MonitorSettings,
    /// When the state is saved.
    pub checkpoint: CheckpointSettings,
    /// How frozen features are judged.
    pub evaluate: EvaluateSettings,
    /// How frozen features are adapted to photos without labels; training does not look at it.
    pub adapt: AdaptSettings,
}

/// Pretrained weights that the trunk starts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsSettings {
    /// A file, a folder, or `hf:owner/name[@revision][:file]`; empty starts from random weights.
    pub source: String,
    /// Variables that the source may lack and that then keep their random start, by name; `layer4.*`
    /// names all below `layer4`.
    pub allow_missing: Vec<String>,
    /// What may say that the source is of another network than the one it is loaded into, and is then passed
    /// over: keys of its `config.json` such as `architecture`, and tensors of its trunk that have no place in
    /// the network, by name or `layer1.*` for all below `layer1`.
    pub allow_mismatch: Vec<String>,
}

/// How batches are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderSettings {
    /// Images a step.
    pub batch: usize,
    /// Bytes that prefetched batches may take, in MiB.
    pub prefetch_mib: usize,
    /// Share of unreadable images that are set aside before the run stops; one image always is,
    /// unless this is 0.
    pub bad_image_budget: f64,
    /// Threads that decode and augment; 0 takes half of the machine's, at least one.
    pub threads: usize,
    /// Side in pixels of the small crops that `dino.local_crops` asks for; 96/224 of `data.size`, in
    /// steps of 8 or of a transformer's patch, where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<usize>,
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self {
            batch: 64,
            prefetch_mib: 256,
            bad_image_budget: 0.01,
            threads: 0,
            crop_size: None,
        }
    }
}

/// The decoder's size; the rest follows from the encoder and the image size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderSettings {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Channels of the first map; each block halves them, down to 16.
    pub channels: usize,
    /// Blocks of two convolutions with a shortcut: sharper images at about twice the cost.
    pub residual: bool,
}

impl Default for DecoderSettings {
    fn default() -> Self {
        Self {
            hidden: 512,
            channels: 256,
            residual: false,
        }
    }
}

/// Length, learning rates and their course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// Passes over the set; `steps` wins where both are given.
    pub epochs: u64,
    /// Optimiser steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The optimiser of encoder and head.
    pub kind: OptimizerKind,
    /// Its peak learning rate; 2e-5 with AdamW is a safe one for pretrained weights.
    pub lr: f64,
    /// Its peak learning rate for 256 images a step, in place of `lr`, which becomes this times the images of
    /// a step over 256; of two given in turn the later counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_per_256: Option<f64>,
    /// Peak learning rate of what stands on the trunk (projector, predictor, variables of add-ons), where it is not the
    /// trunk's: heads start from random weights, also above a pretrained trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lr: Option<f64>,
    /// Steps at the start in which the heads learn alone: the trunk's rate is 0.
    pub head_steps: u64,
    /// Share of a layer's rate that the layer (block, or stage of a residual network) below it has; 1 gives all of the
    /// trunk `lr`.
    pub layer_decay: f64,
    /// Variables of the trunk that stay as they are, by timm's names; `layer1.*` names all below `layer1`.
    pub freeze: Vec<String>,
    /// Layers of the trunk that stay as they are, from the images on: 1 is what comes before the first block or stage, 2 that and
    /// the first block or stage.
    pub freeze_layers: usize,
    /// Rank of the change of each matrix of the trunk in attention, MLP and 1x1 convolutions (LoRA), all else of the trunk staying
    /// as it is; 0 trains the trunk's variables themselves.
    pub low_rank: usize,
    /// The change of low rank is the product of the two matrices times this over the rank.
    pub low_rank_alpha: f64,
    /// How strongly the trunk's variables are drawn toward the start, in units of weight decay.
    pub anchor: f64,
    /// Which statistics batch norm of the trunk takes in training.
    pub trunk_norm: TrunkNorm,
    /// Momentum of SGD and LARS.
    pub momentum: f64,
    /// LARS: length of a step as a share of the variable's.
    pub trust: f64,
    /// Weight decay; norms and biases have none.
    pub weight_decay: f64,
    /// AdamW: weight decay at the last step, along a cosine from `weight_decay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay_end: Option<f64>,
    /// Fraction of all steps over which the learning rate rises linearly; a cosine to zero follows.
    pub warm_up: f64,
    /// Largest gradient norm of encoder and head; 0 switches clipping off.
    pub clip: f64,
    /// Batches whose gradients are averaged into one step.
    pub accumulate: usize,
    /// Learning rate of Adam for the decoder, constant.
    pub decoder_lr: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            epochs: 100,
            steps: None,
            kind: OptimizerKind::Sgd,
            lr: 0.03,
            lr_per_256: None,
            head_lr: None,
            head_steps: 0,
            layer_decay: 1.,
            freeze: Vec::new(),
            freeze_layers: 0,
            low_rank: 0,
            low_rank_alpha: 8.,
            anchor: 0.,
            trunk_norm: TrunkNorm::Batch,
            momentum: 0.9,
            trust: 1e-3,
            weight_decay: 1e-4,
            weight_decay_end: None,
            warm_up: 0.02,
            clip: 0.,
            accumulate: 1,
            decoder_lr: 1e-3,
        }
    }
}

/// What an alarm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing.
    Off,
    /// A line in the log.
    #[default]
    Warn,
    /// The run is saved and stops.
    Stop,
}

/// What is watched while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorSettings {
    /// Epochs between two kNN figures on the validation split; 0 for none.
    pub knn_every: u64,
    /// Training images the online kNN looks among.
    pub knn_images: usize,
    /// Epochs between two sets of pictures; 0 for none.
    pub pictures_every: u64,
    /// Images in a picture sheet.
    pub pictures: usize,
    /// Policy on a loss or gradient that is not finite.
    pub not_finite: Policy,
    /// Policy on collapse: embedding s.d. or effective rank below the limits here.
    pub collapse: Policy,
    /// Smallest s.d. of an embedding's dimensions, times the square root of their number (1 when
    /// directions are uniform).
    pub min_embedding_std: f64,
    /// Smallest effective rank of a batch's embeddings.
    pub min_effective_rank: f64,
    /// Policy on a pair task that teaches nothing (top-1 above 0.99, or pairs that hardly differ).
    pub idle_pair: Policy,
    /// Policy on a gradient norm above `max_gradient_norm`.
    pub gradient: Policy,
    /// See `gradient`.
    pub max_gradient_norm: f64,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            knn_every: 1,
            knn_images: 2000,
            pictures_every: 1,
            pictures: 8,
            not_finite: Policy::Stop,
            collapse: Policy::Warn,
            min_embedding_std: 0.1,
            min_effective_rank: 2.,
            idle_pair: Policy::Warn,
            gradient: Policy::Warn,
            max_gradient_norm: 1e3,
        }
    }
}

/// When the state is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// Steps between two checkpoints; the last step and a signal save too.
    pub every: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            every: 500,
            keep: 2,
        }
    }
}

/// How frozen features are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSettings {
    /// Nearest neighbours.
    pub knn: KnnConfig,
    /// Linear probe.
    pub linear: ProbeConfig,
    /// More protocols.
    pub protocols: ProtocolSettings,
    /// Fine-tuning with labels, of weights.
    pub fine_tune: FineTuneSettings,
    /// Side of the images whose raw pixels are a baseline.
    pub pixel_side: usize,
    /// Test images that the masks' hits are measured on.
    pub part_images: usize,
    /// The shorter side of an image before its centre is cut out, in units of `data.size`.
    pub resize_ratio: f64,
    /// Bring both sides of an image to `data.size` instead, whatever its shape: what some pretrained
    /// weights expect.
    pub squash: bool,
    /// How an image is resized.
    pub interpolation: Interpolation,
    /// Images a forward pass.
    pub batch: usize,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            knn: KnnConfig::default(),
            linear: ProbeConfig::default(),
            protocols: ProtocolSettings::default(),
            fine_tune: FineTuneSettings::default(),
            pixel_side: 32,
            part_images: 512,
            resize_ratio: RESIZE_RATIO,
            squash: false,
            interpolation: Interpolation::Bilinear,
            batch: 64,
        }
    }
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            precision: Precision::default(),
            name: String::new(),
            seed: 0,
            arm: Arm::Full,
            addons: Vec::new(),
            source: "builtin:lookalikes".to_owned(),
            data: DataConfig::default(),
            normalisation: Normalisation::imagenet(),
            weights: WeightsSettings::default(),
            loader: LoaderSettings::default(),
            positives: PositivesSettings::default(),
            augment: AugmentConfig::default(),
            augment_second: None,
            augment_crops: None,
            pair_augment: PairAugmentConfig::default(),
            encoder: EncoderConfig::default(),
            decoder: DecoderSettings::default(),
            base: BaseKind::MOCO_V2,
            base_weight: 1.,
            teacher: TeacherSettings::default(),
            methods: Methods::default(),
            optimizer: OptimizerSettings::default(),
            monitor: MonitorSettings::default(),
            checkpoint: CheckpointSettings::default(),
            evaluate: EvaluateSettings::default(),
            adapt: AdaptSettings::default(),
        }
    }
}

/// Settings that are absent where nobody gives them.
const OPTIONAL: [&str; 2] = ["augment_second", "augment_crops"];

impl PretrainConfig {
    /// Names of settings and sections that belong to no method.
    fn own_settings() -> impl Iterator<Item = String> {
        let own = Self {
            methods: Methods::none(),
            ..Self::default()
        };
        let own = toml::Table::try_from(own).unwrap_or_default();
        own.into_iter()
            .map(|(name, _)| name)
            .chain(OPTIONAL.map(str::to_owned))
    }

    /// The settings as TOML.
    ///
    /// # Errors
    /// A value that TOML cannot hold (a seed above `i64::MAX`).
    pub fn to_toml(&self) -> crate::Result<String> {
        toml::to_string_pretty(self).map_err(|e| crate::Error::config("config", e.to_string()))
    }

    /// The first setting that differs from `other`'s: its path and both values; `None` if all are
    /// the same.
    ///
    /// # Errors
    /// A value that TOML cannot hold (a seed above `i64::MAX`).
    pub fn first_difference(&self, other: &Self) -> crate::Result<Option<Difference>> {
        Ok(self.differences(other)?.into_iter().next())
    }

    /// Every setting that differs from `other`'s: its path and both values.
    ///
    /// # Errors
    /// A value that TOML cannot hold (a seed above `i64::MAX`).
    pub fn differences(&self, other: &Self) -> crate::Result<Vec<Difference>> {
        let table = |config: &Self| {
            toml::Value::try_from(config).map_err(|e| crate::Error::config("config", e.to_string()))
        };
        let mut found = Vec::new();
        add_differences("", &table(self)?, &table(other)?, &mut found);
        Ok(found)
    }
}

/// A setting's path, and its values on both sides.
pub type Difference = (String, String, String);

fn add_differences(path: &str, a: &toml::Value, b: &toml::Value, found: &mut Vec<Difference>) {
    let (Some(left), Some(right)) = (a.as_table(), b.as_table()) else {
        if a != b {
            found.push((path.to_owned(), a.to_string(), b.to_string()));
        }
        return;
    };
    let absent = toml::Value::String("not set".to_owned());
    let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for key in keys {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let [a, b] = [left, right].map(|table| table.get(key).unwrap_or(&absent));
        add_differences(&path, a, b, found);
    }
}
