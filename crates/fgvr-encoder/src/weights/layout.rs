//! The ways programs name the tensors of the same network.
//!
//! Each [`Layout`] turns a name into timm's, which the variables have. Which one a file has, and
//! under which prefix, is found in [`find`](super::find).

use std::fmt;

/// A tensor under timm's name, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Which third of the rows it is: query, key, value.
    pub(crate) third: Option<usize>,
}

impl Target {
    fn whole(name: impl Into<String>) -> Option<Self> {
        Some(Self {
            name: name.into(),
            third: None,
        })
    }
}

/// A way to name tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// The variables' own names; for residual networks torchvision has the same.
    Timm,
    /// Facebook's DINOv2: registers are `register_tokens`, and blocks may lie in chunks.
    Dino,
    /// torchvision's vision transformer.
    TorchvisionVit,
    /// transformers' `ViTModel`, `Dinov2Model` and `Dinov2WithRegistersModel`.
    TransformersVit,
    /// transformers' `ResNetModel`.
    TransformersResNet,
    /// A residual network in a `Sequential`, as lightly keeps it: stem, norm, activation and pool
    /// are 0 to 3 and the stages 4 to 7.
    SequentialResNet,
    /// timm's names of an EfficientNet.
    TimmEfficientNet,
    /// efficientnet_pytorch's names, which count the blocks of all stages together: so many.
    EfficientNetPytorch(u8),
}

/// Blocks of the stages of EfficientNets by how many they are together, which the depth multiplier decides on:
/// Lite0, Lite1 and Lite2, Lite3, Lite4.
const STAGES: [(u8, [u8; 7]); 4] = [
    (16, [1, 2, 2, 3, 3, 4, 1]),
    (21, [1, 3, 3, 4, 4, 5, 1]),
    (24, [1, 3, 3, 5, 5, 6, 1]),
    (30, [1, 4, 4, 6, 6, 8, 1]),
];

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timm | Self::TimmEfficientNet => "timm's names",
            Self::Dino => "DINOv2's names",
            Self::TorchvisionVit => "torchvision's ViT names",
            Self::TransformersVit => "transformers' ViT names",
            Self::TransformersResNet => "transformers' ResNet names",
            Self::SequentialResNet => "ResNet names by index in a Sequential",
            Self::EfficientNetPytorch(_) => "efficientnet_pytorch's names",
        })
    }
}

impl Layout {
    /// All of them; of two that explain a file equally well, the first is taken.
    pub(crate) const ALL: [Self; 11] = [
        Self::Timm,
        Self::Dino,
        Self::TorchvisionVit,
        Self::TransformersVit,
        Self::TransformersResNet,
        Self::SequentialResNet,
        Self::TimmEfficientNet,
        Self::EfficientNetPytorch(16),
        Self::EfficientNetPytorch(21),
        Self::EfficientNetPytorch(24),
        Self::EfficientNetPytorch(30),
    ];

    /// Names that a trunk begins with: where one stands, what is before it may be the prefix.
    pub(crate) fn anchors(self) -> &'static [&'static str] {
        match self {
            Self::Timm => &[
                "conv1.weight",
                "bn1.weight",
                "patch_embed.proj.weight",
                "cls_token",
            ],
            Self::Dino => &["patch_embed.proj.weight", "cls_token"],
            Self::TorchvisionVit => &["conv_proj.weight", "class_token"],
            Self::TransformersVit => &[
                "embeddings.patch_embeddings.projection.weight",
                "embeddings.cls_token",
            ],
            Self::TransformersResNet => &["embedder.embedder.convolution.weight"],
            Self::SequentialResNet => &["0.weight", "1.weight"],
            Self::TimmEfficientNet => &["conv_stem.weight", "conv_head.weight"],
            Self::EfficientNetPytorch(_) => &["_conv_stem.weight", "_conv_head.weight"],
        }
    }

    /// timm's name for `name`, which has no prefix any more; `None` for what is no part of a trunk
    /// in this layout.
    pub(crate) fn translate(self, name: &str) -> Option<Target> {
        let mut parts = [""; 10];
        let mut count = 0;
        for part in name.split('.') {
            *parts.get_mut(count)? = part;
            count += 1;
        }
        let parts = &parts[..count];
        match self {
            Self::Timm => is_trunk(parts).then(|| Target::whole(name)).flatten(),
            Self::Dino => dino(parts),
            Self::TorchvisionVit => torchvision_vit(parts),
            Self::TransformersVit => transformers_vit(parts),
            Self::TransformersResNet => transformers_resnet(parts),
            Self::SequentialResNet => sequential_resnet(parts),
            Self::TimmEfficientNet => is_efficientnet(parts).then(|| Target::whole(name))?,
            Self::EfficientNetPytorch(blocks) => efficientnet_pytorch(blocks, parts),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_norm(leaf: &str) -> bool {
    matches!(leaf, "weight" | "bias" | "running_mean" | "running_var")
}

fn is_affine(leaf: &str) -> bool {
    matches!(leaf, "weight" | "bias")
}

/// Whether these are the parts of one of timm's names of a trunk.
pub(crate) fn is_trunk(parts: &[&str]) -> bool {
    match parts {
        ["conv1", "weight"] | ["cls_token" | "reg_token" | "pos_embed"] => true,
        ["bn1", leaf] => is_norm(leaf),
        ["norm", leaf] | ["patch_embed", "proj", leaf] => is_affine(leaf),
        [stage, block, rest @ ..] if stage.starts_with("layer") => {
            matches!(*stage, "layer1" | "layer2" | "layer3" | "layer4")
                && is_number(block)
                && is_residual_part(rest)
        }
        ["blocks", block, rest @ ..] => is_number(block) && is_block_part(rest),
        _ => false,
    }
}

/// What follows `layer1.0`.
fn is_residual_part(parts: &[&str]) -> bool {
    match parts {
        ["conv1" | "conv2" | "conv3", "weight"] | ["downsample", "0", "weight"] => true,
        ["bn1" | "bn2" | "bn3", leaf] | ["downsample", "1", leaf] => is_norm(leaf),
        _ => false,
    }
}

/// What follows `blocks.0`.
fn is_block_part(parts: &[&str]) -> bool {
    match parts {
        ["norm1" | "norm2", leaf]
        | ["attn", "qkv" | "proj", leaf]
        | ["mlp", "fc1" | "fc2", leaf] => is_affine(leaf),
        ["ls1" | "ls2", leaf] => *leaf == "gamma",
        _ => false,
    }
}

/// Whether these are the parts of one of timm's names of an EfficientNet's trunk, squeeze-and-excitation included.
fn is_efficientnet(parts: &[&str]) -> bool {
    match parts {
        ["conv_stem" | "conv_head", "weight"] => true,
        ["bn1" | "bn2", leaf] => is_norm(leaf),
        ["blocks", stage, block, rest @ ..] if is_number(stage) && is_number(block) => match rest {
            ["conv_pw" | "conv_dw" | "conv_pwl", "weight"] => true,
            ["bn1" | "bn2" | "bn3", leaf] => is_norm(leaf),
            ["se", "conv_reduce" | "conv_expand", leaf] => is_affine(leaf),
            _ => false,
        },
        _ => false,
    }
}

/// The names of the package efficientnet_pytorch, of a network of `count` blocks.
fn efficientnet_pytorch(count: u8, parts: &[&str]) -> Option<Target> {
    let (module, leaf) = match parts {
        ["_conv_stem", "weight"] => return Target::whole("conv_stem.weight"),
        ["_conv_head", "weight"] => return Target::whole("conv_head.weight"),
        ["_bn0", leaf] if is_norm(leaf) => return Target::whole(format!("bn1.{leaf}")),
        ["_bn1", leaf] if is_norm(leaf) => return Target::whole(format!("bn2.{leaf}")),
        ["_blocks", block, rest @ ..] if is_number(block) => {
            let [module, leaf] = rest else {
                return None;
            };
            let (stage, block) = place(count, block.parse().ok()?)?;
            // The first stage has no expansion: its norms are numbered from 1 here, and from 1 there.
            let module = match (*module, stage) {
                ("_expand_conv", 1..) => "conv_pw",
                ("_bn0", 1..) => "bn1",
                ("_depthwise_conv", _) => "conv_dw",
                ("_bn1", 0) => "bn1",
                ("_bn1", _) => "bn2",
                ("_project_conv", 0) => "conv_pw",
                ("_project_conv", _) => "conv_pwl",
                ("_bn2", 0) => "bn2",
                ("_bn2", _) => "bn3",
                ("_se_reduce", _) => "se.conv_reduce",
                ("_se_expand", _) => "se.conv_expand",
                _ => return None,
            };
            (format!("blocks.{stage}.{block}.{module}"), leaf)
        }
        _ => return None,
    };
    let fits = if module.ends_with("bn1") || module.ends_with("bn2") || module.ends_with("bn3") {
        is_norm(leaf)
    } else {
        *leaf == "weight" || module.contains(".se.") && is_affine(leaf)
    };
    fits.then(|| Target::whole(format!("{module}.{leaf}")))?
}

/// Stage and block of the block `index` of all `count`.
fn place(count: u8, index: usize) -> Option<(usize, usize)> {
    let (_, stages) = STAGES.iter().find(|(all, _)| *all == count)?;
    let mut first = 0;
    for (stage, blocks) in stages.iter().enumerate() {
        let next = first + usize::from(*blocks);
        if index < next {
            return Some((stage, index - first));
        }
        first = next;
    }
    None
}

fn dino(parts: &[&str]) -> Option<Target> {
    match parts {
        ["register_tokens"] => Target::whole("reg_token"),
        // The number within a chunk counts from the first block, not from the chunk's.
        ["blocks", chunk, block, rest @ ..] if is_number(chunk) && is_number(block) => {
            is_block_part(rest)
                .then(|| Target::whole(format!("blocks.{block}.{}", rest.join("."))))?
        }
        parts => is_trunk(parts).then(|| Target::whole(parts.join(".")))?,
    }
}

fn torchvision_vit(parts: &[&str]) -> Option<Target> {
    match parts {
        ["class_token"] => Target::whole("cls_token"),
        ["encoder", "pos_embedding"] => Target::whole("pos_embed"),
        ["conv_proj", leaf] if is_affine(leaf) => Target::whole(format!("patch_embed.proj.{leaf}")),
        ["encoder", "ln", leaf] if is_affine(leaf) => Target::whole(format!("norm.{leaf}")),
        ["encoder", "layers", layer, rest @ ..] => {
            let block = layer
                .strip_prefix("encoder_layer_")
                .filter(|n| is_number(n))?;
            let part = match rest {
                ["ln_1", leaf] if is_affine(leaf) => format!("norm1.{leaf}"),
                ["ln_2", leaf] if is_affine(leaf) => format!("norm2.{leaf}"),
                // nn.MultiheadAttention stacks query, key and value as timm does.
                ["self_attention", "in_proj_weight"] => "attn.qkv.weight".to_owned(),
                ["self_attention", "in_proj_bias"] => "attn.qkv.bias".to_owned(),
                ["self_attention", "out_proj", leaf] if is_affine(leaf) => {
                    format!("attn.proj.{leaf}")
                }
                ["mlp", "0" | "linear_1", leaf] if is_affine(leaf) => format!("mlp.fc1.{leaf}"),
                ["mlp", "3" | "linear_2", leaf] if is_affine(leaf) => format!("mlp.fc2.{leaf}"),
                _ => return None,
            };
            Target::whole(format!("blocks.{block}.{part}"))
        }
        _ => None,
    }
}

fn transformers_vit(parts: &[&str]) -> Option<Target> {
    let (block, rest) = match parts {
        ["embeddings", "cls_token"] => return Target::whole("cls_token"),
        ["embeddings", "register_tokens"] => return Target::whole("reg_token"),
        ["embeddings", "position_embeddings"] => return Target::whole("pos_embed"),
        ["embeddings", "patch_embeddings", "projection", leaf] if is_affine(leaf) => {
            return Target::whole(format!("patch_embed.proj.{leaf}"));
        }
        ["layernorm", leaf] if is_affine(leaf) => return Target::whole(format!("norm.{leaf}")),
        // Files have the first form; since version 5 modules in memory have the second for ViT.
        ["encoder", "layer", block, rest @ ..] | ["layers", block, rest @ ..]
            if is_number(block) =>
        {
            (block, rest)
        }
        _ => return None,
    };
    let leaf = *rest.last()?;
    let third = |part: &str| match part {
        "query" | "q_proj" => Some(0),
        "key" | "k_proj" => Some(1),
        "value" | "v_proj" => Some(2),
        _ => None,
    };
    let part = match rest {
        ["layer_scale1", "lambda1"] => "ls1.gamma",
        ["layer_scale2", "lambda1"] => "ls2.gamma",
        _ if !is_affine(leaf) => return None,
        ["attention", "attention", part, _] | ["attention", part, _] if third(part).is_some() => {
            return Some(Target {
                name: format!("blocks.{block}.attn.qkv.{leaf}"),
                third: third(part),
            });
        }
        ["attention", "output", "dense", _] | ["attention", "o_proj", _] => "attn.proj",
        ["layernorm_before" | "norm1", _] => "norm1",
        ["layernorm_after" | "norm2", _] => "norm2",
        ["intermediate", "dense", _] | ["mlp", "fc1", _] => "mlp.fc1",
        ["output", "dense", _] | ["mlp", "fc2", _] => "mlp.fc2",
        _ => return None,
    };
    Target::whole(match part {
        "ls1.gamma" | "ls2.gamma" => format!("blocks.{block}.{part}"),
        part => format!("blocks.{block}.{part}.{leaf}"),
    })
}

fn transformers_resnet(parts: &[&str]) -> Option<Target> {
    let (place, conv, norm, rest) = match parts {
        ["embedder", "embedder", rest @ ..] => (String::new(), "conv1".into(), "bn1".into(), rest),
        ["encoder", "stages", stage, "layers", block, rest @ ..]
            if is_number(block) && matches!(*stage, "0" | "1" | "2" | "3") =>
        {
            let stage: u32 = stage.parse().ok()?;
            let place = format!("layer{}.{block}.", stage + 1);
            match rest {
                ["shortcut", rest @ ..] => {
                    (place, "downsample.0".into(), "downsample.1".into(), rest)
                }
                ["layer", index @ ("0" | "1" | "2"), rest @ ..] => {
                    let number = index.parse::<u32>().ok()? + 1;
                    (place, format!("conv{number}"), format!("bn{number}"), rest)
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    match rest {
        ["convolution", "weight"] => Target::whole(format!("{place}{conv}.weight")),
        ["normalization", leaf] if is_norm(leaf) => Target::whole(format!("{place}{norm}.{leaf}")),
        _ => None,
    }
}

fn sequential_resnet(parts: &[&str]) -> Option<Target> {
    match parts {
        ["0", "weight"] => Target::whole("conv1.weight"),
        ["1", leaf] if is_norm(leaf) => Target::whole(format!("bn1.{leaf}")),
        [stage @ ("4" | "5" | "6" | "7"), block, rest @ ..]
            if is_number(block) && is_residual_part(rest) =>
        {
            let stage = stage.parse::<u32>().ok()? - 3;
            Target::whole(format!("layer{stage}.{block}.{}", rest.join(".")))
        }
        _ => None,
    }
}
