//! Named settings.

/// Name, what it is for, and its settings in TOML.
pub const PRESETS: &[(&str, &str, &str)] = &[
    (
        "demo",
        "the whole pipeline on the built-in set in a few minutes on two cores",
        include_str!("../presets/demo.toml"),
    ),
    (
        "learn",
        "the built-in set at the length that claims about learning are made from",
        include_str!("../presets/learn.toml"),
    ),
    (
        "photos",
        "a folder of photos at 64 px with a ResNet-18",
        include_str!("../presets/photos.toml"),
    ),
    (
        "pretrained",
        "careful training from pretrained weights with batch norm, in 100 steps",
        include_str!("../presets/pretrained.toml"),
    ),
    (
        "pretrained-vit",
        "careful training from a pretrained vision transformer, in 100 steps",
        include_str!("../presets/pretrained-vit.toml"),
    ),
    (
        "distil",
        "a small network learns the features of teacher.source on the photos",
        include_str!("../presets/distil.toml"),
    ),
    (
        "moco-v2",
        "MoCo v2 as published: ResNet-50 at 224 px, 200 epochs",
        include_str!("../presets/published/moco-v2.toml"),
    ),
    (
        "simsiam",
        "SimSiam as published: ResNet-50 at 224 px, 100 epochs",
        include_str!("../presets/published/simsiam.toml"),
    ),
    (
        "byol",
        "BYOL as published: ResNet-50 at 224 px, 1000 epochs, LARS",
        include_str!("../presets/published/byol.toml"),
    ),
    (
        "moco-v3",
        "MoCo v3 as released: ResNet-50 at 224 px, 300 epochs, LARS",
        include_str!("../presets/published/moco-v3.toml"),
    ),
    (
        "moco-v3-vit",
        "MoCo v3 as published: ViT-S/16 at 224 px, 300 epochs, AdamW",
        include_str!("../presets/published/moco-v3-vit.toml"),
    ),
    (
        "dino",
        "DINO as released: ResNet-50 at 224 px, eight small crops",
        include_str!("../presets/published/dino.toml"),
    ),
    (
        "dino-vit",
        "DINO as published: ViT-S/16 at 224 px, eight small crops, AdamW",
        include_str!("../presets/published/dino-vit.toml"),
    ),
    (
        "lcr",
        "LCR as released: ResNet-50 at 224 px, 100 epochs, on MoCo v2",
        include_str!("../presets/published/lcr.toml"),
    ),
    (
        "lodisc",
        "LoDisc as released: ViT-B/16 at 224 px, 100 epochs, AdamW, on MoCo v3",
        include_str!("../presets/published/lodisc.toml"),
    ),
];

#[cfg(test)]
mod tests {
    use fgvr_encoder::{Initialisation, NetworkConfig, Positions};
    use fgvr_ssl::{
        BaseKind, ByolConfig, DinoConfig, MoCoConfig, MoCoV3Config, Optimizer, ViewRecipe,
    };

    use crate::config::{Layers, OptimizerKind, PretrainConfig};

    fn resolved(name: &str) -> PretrainConfig {
        let mut layers = Layers::default();
        layers.preset(name).unwrap();
        layers.set("loader.batch=256").unwrap();
        layers.resolve().unwrap()
    }

    /// The presets of published runs say what the bases' recipes say.
    #[test]
    fn published_presets_are_the_recipes_of_their_bases() {
        let names = [
            "moco-v2",
            "simsiam",
            "byol",
            "moco-v3",
            "moco-v3-vit",
            "dino",
            "dino-vit",
            "lodisc",
        ];
        for name in names {
            let config = resolved(name);
            let recipe = match name {
                "lodisc" => fgvr_ssl::LODISC_RECIPE,
                _ => {
                    let base = config.base_config(usize::MAX).unwrap();
                    base.recipe(config.trunk()).unwrap()
                }
            };
            let o = &config.optimizer;
            let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
            assert!(close(o.lr, recipe.learning_rate.per_256), "{name}");
            assert_eq!(o.lr_per_256, None, "{name}: the rate itself is kept");
            assert_eq!(o.epochs, recipe.epochs, "{name}");
            let warm_up = recipe.learning_rate.warm_up_epochs as f64 / recipe.epochs as f64;
            assert!(close(o.warm_up, warm_up), "{name}");
            let end = o.weight_decay_end.unwrap_or(o.weight_decay);
            assert_eq!([o.weight_decay, end], recipe.weight_decay, "{name}");
            match recipe.optimizer {
                Optimizer::Sgd { momentum } => {
                    assert_eq!((o.kind, o.momentum), (OptimizerKind::Sgd, momentum));
                }
                Optimizer::Lars { momentum, trust } => {
                    assert_eq!((o.kind, o.momentum), (OptimizerKind::Lars, momentum));
                    assert_eq!(o.trust, trust, "{name}");
                }
                Optimizer::AdamW { .. } => assert_eq!(o.kind, OptimizerKind::Adamw, "{name}"),
            }
            let momentum = match config.base {
                BaseKind::MOCO_V2 => Some(config.methods.get::<MoCoConfig>().momentum),
                BaseKind::BYOL => Some(config.methods.get::<ByolConfig>().momentum),
                BaseKind::MOCO_V3 => Some(config.methods.get::<MoCoV3Config>().momentum),
                BaseKind::DINO => Some(config.methods.get::<DinoConfig>().momentum),
                _ => None,
            };
            assert_eq!(momentum, recipe.momentum.map(|(m, _)| m), "{name}");
            let second = config
                .augment_second
                .clone()
                .unwrap_or(config.augment.clone());
            let small = config.crop_augment();
            let crops = recipe.local_crops.filter(|_| config.local_crops() > 0);
            let views = [config.augment.clone(), second];
            let views = views.iter().zip(&recipe.views);
            for (found, expected) in views.chain(crops.iter().map(|c| (&small, &c.view))) {
                let jitter = &found.jitter_strength;
                let found = ViewRecipe {
                    crop_scale: found.crop_scale,
                    jitter: [
                        jitter.brightness,
                        jitter.contrast,
                        jitter.saturation,
                        jitter.hue,
                    ],
                    blur: found.blur,
                    solarise: found.solarise,
                };
                assert_eq!(found, *expected, "{name}");
            }
            if let Some(crops) = crops {
                assert_eq!(config.local_crops(), crops.count, "{name}");
                assert_eq!(config.crop_size(), crops.side_at_224, "{name}");
            }
        }
    }

    #[test]
    fn moco_v3s_small_transformer_is_the_released_one() {
        let encoder = resolved("moco-v3-vit").encoder;
        let NetworkConfig::Vit(vit) = encoder.network().unwrap() else {
            panic!("a vision transformer");
        };
        assert_eq!((vit.width, vit.heads, vit.patch_size), (384, 12, 16));
        assert_eq!(vit.positions, Positions::Sincos);
        assert_eq!(vit.initialisation, Initialisation::Xavier);
        let NetworkConfig::Vit(dino) = resolved("dino-vit").encoder.network().unwrap() else {
            panic!("a vision transformer");
        };
        assert_eq!((dino.width, dino.heads), (384, 6));
        assert_eq!(dino.positions, Positions::Learned);
    }

    #[test]
    fn the_rate_follows_the_batch_and_the_later_of_two_wins() {
        let mut layers = Layers::default();
        layers.preset("moco-v2").unwrap();
        let config = layers.resolve().unwrap();
        assert!((config.optimizer.lr - 0.03 * 64. / 256.).abs() < 1e-12);
        layers.set("optimizer.accumulate=4").unwrap();
        assert!((layers.resolve().unwrap().optimizer.lr - 0.03).abs() < 1e-12);
        layers.set("optimizer.lr=0.5").unwrap();
        assert_eq!(layers.resolve().unwrap().optimizer.lr, 0.5);
        layers.set("optimizer.lr_per_256=0.1").unwrap();
        assert!((layers.resolve().unwrap().optimizer.lr - 0.1).abs() < 1e-12);
    }
}
