//! Tensors that lie beside a trunk and are no part of it: heads, counters, what only training needs.

use super::find::Trunk;
use super::layout::Layout;

/// First parts of names, below the trunk's prefix.
const HEADS: &[&str] = &[
    "fc",
    "_fc",
    "head",
    "heads",
    "head_dist",
    "classifier",
    "pooler",
    "pre_logits",
    "projector",
    "projection",
    "projection_head",
    "predictor",
    "prediction_head",
    "prototypes",
    "mlp_head",
    "proj_head",
    "contrastive_head",
    "dino_head",
    "ibot_head",
    "last_layer",
    "linear",
];

/// Other networks that share a file, by the beginning of the first part of a name.
const NETWORKS: &[&str] = &[
    "decoder",
    "momentum_",
    "target_",
    "teacher",
    "student",
    "ema_",
    "model_ema",
    "text_",
    "discriminator",
];

/// What training keeps in a file, by the first part of a name.
const TRAINING: &[&str] = &[
    "optimizer",
    "optimizers",
    "optimizer_states",
    "optim",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "amp",
    "criterion",
    "loss",
    "loss_fn",
    "center",
    "centers",
    "memory_bank",
    "bank",
    "logit_scale",
    "log_temperature",
    "temperature",
    "epoch",
    "step",
    "global_step",
];

/// Why the tensor `name` that is no part of the trunk is left aside, if that is known.
pub(super) fn aside(name: &str, trunk: &Trunk) -> Option<String> {
    let Some(short) = name.strip_prefix(trunk.prefix.as_str()) else {
        return Some(format!("outside {:?}", trunk.prefix));
    };
    if trunk
        .others
        .iter()
        .any(|other| name.starts_with(other.as_str()) && other.starts_with(&trunk.prefix))
    {
        return Some("the same network once more".to_owned());
    }
    below(short, trunk.layout).map(str::to_owned)
}

/// The same of a name without the prefix.
fn below(short: &str, layout: Layout) -> Option<&'static str> {
    let leaf = short.rsplit('.').next().unwrap_or(short);
    match leaf {
        "num_batches_tracked" => return Some("a count of batches"),
        "mask_token" | "mask_tokens" | "masked_embed" => {
            return Some("the token of masked patches");
        }
        "queue" | "queue_ptr" => return Some("a queue of negatives"),
        "total_ops" | "total_params" => return Some("a count of operations"),
        _ => {}
    }
    let first = short.split('.').next().unwrap_or(short);
    let ending = ["_head", "_heads", "_classifier", "_projector", "_predictor"];
    // In a Sequential the pool is 8, and what follows it a head.
    let after = layout == Layout::SequentialResNet && first.parse::<u32>().is_ok_and(|at| at > 8);
    if HEADS.contains(&first) || ending.iter().any(|ending| first.ends_with(ending)) || after {
        return Some("a head");
    }
    if NETWORKS.iter().any(|start| first.starts_with(start)) {
        return Some("another network");
    }
    TRAINING.contains(&first).then_some("kept for training")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_other_networks_and_what_training_keeps_lie_beside_a_trunk() {
        for name in [
            "fc.weight",
            "projection_head.layers.0.weight",
            "online_classifier.weight",
            "decoder_blocks.0.norm1.weight",
            "decoder_pos_embed",
            "momentum_encoder.conv1.weight",
            "optimizer.state.0.exp_avg",
            "layer1.0.bn1.num_batches_tracked",
            "blocks.0.attn.total_ops",
            "mask_token",
            "logit_scale",
        ] {
            assert!(below(name, Layout::Timm).is_some(), "{name}");
        }
        for name in [
            "layer1.0.se.fc1.weight",
            "layer1.0.conv2.fc.weight",
            "blocks.0.attn.q_norm.weight",
            "blocks.0.attn.relative_position_bias_table",
            "rope.freqs",
            "norm_pre.weight",
            "fc_norm.weight",
            "dist_token",
            "attn_pool.latent",
            "conv1.3.weight",
            "maxpool.0.weight",
            "9.weight",
        ] {
            assert_eq!(below(name, Layout::Timm), None, "{name}");
        }
        assert_eq!(below("9.weight", Layout::SequentialResNet), Some("a head"));
    }
}
