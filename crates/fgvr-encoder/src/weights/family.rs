//! Networks that this crate does not have, by names that only they have: so that a person is told what a file holds.

use std::collections::BTreeMap;

use super::tensor::TensorInfo;

/// A family, and parts that must all be found in names of its tensors.
const FAMILIES: &[(&str, &[&str])] = &[
    (
        "an EfficientNet with squeeze-and-excitation",
        &["_conv_stem.weight", "_se_reduce.weight"],
    ),
    (
        "an EfficientNet of other sizes than Lite0 to Lite4",
        &["_conv_stem.weight", "_depthwise_conv.weight"],
    ),
    (
        "an EfficientNet or a MobileNet with squeeze-and-excitation",
        &[
            "conv_stem.weight",
            "conv_dw.weight",
            ".se.conv_reduce.weight",
        ],
    ),
    (
        "a MobileNet, or an EfficientNet of other sizes than Lite0 to Lite4",
        &["conv_stem.weight", "conv_dw.weight"],
    ),
    (
        "a MobileNet or an EfficientNet",
        &["features.0.0.weight", ".conv.0.0.weight"],
    ),
    (
        "a Swin transformer",
        &[
            "relative_position_bias_table",
            "downsample.reduction.weight",
        ],
    ),
    (
        "a transformer with relative positions, such as BEiT",
        &["relative_position_bias_table"],
    ),
    ("a ConvNeXt", &["stages.0.blocks.0.conv_dw.weight"]),
    ("a ConvNeXt", &["dwconv.weight", "pwconv1.weight"]),
    ("a ConvNeXt", &["stages.0.layers.0.dwconv.weight"]),
    ("a DenseNet", &["denseblock1."]),
    ("a RegNet", &["stem.conv.weight", "s1.b1."]),
    (
        "a residual network with its norms before the convolutions",
        &["stem.conv.weight", "stages.0.blocks.0.norm1"],
    ),
    (
        "a residual network with a stem of three convolutions",
        &["conv1.0.weight", "layer1.0.conv1.weight"],
    ),
    ("a CLIP model", &["logit_scale", "text_model."]),
    ("a CLIP model", &["logit_scale", "visual."]),
    (
        "a VGG",
        &[
            "features.0.weight",
            "features.3.weight",
            "classifier.0.weight",
        ],
    ),
    ("an Inception", &["Mixed_5b."]),
];

/// The family that the names of `tensors` speak of.
pub(super) fn family(tensors: &BTreeMap<String, TensorInfo>) -> Option<&'static str> {
    let has = |part: &&str| tensors.keys().any(|name| name.contains(*part));
    let mut families = FAMILIES.iter();
    families.find_map(|(family, parts)| parts.iter().all(has).then_some(*family))
}
