//! Configuration files: what they may say, and what is refused.
#![cfg(feature = "serde")]

use fgvr_ssl::{Arm, MoCoConfig, SynthPairConfig};

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
struct File {
    arm: Arm,
    moco: MoCoConfig,
    synth_pair: SynthPairConfig,
}

#[test]
fn every_arm_survives_the_way_to_toml_and_back_under_its_name() {
    for arm in Arm::ALL {
        let mut synth_pair = SynthPairConfig::default();
        arm.apply(&mut synth_pair);
        let file = File {
            arm,
            moco: MoCoConfig::default(),
            synth_pair,
        };
        let text = toml::to_string(&file).unwrap();
        assert!(text.contains(&format!("arm = \"{arm}\"")), "{text}");
        assert_eq!(toml::from_str::<File>(&text).unwrap(), file);
    }
}

#[test]
fn absent_fields_have_their_defaults_and_unknown_ones_are_refused() {
    let cfg: SynthPairConfig = toml::from_str("nu = 1.0\n[mask]\nrho_variance = 0.5").unwrap();
    assert_eq!((cfg.nu, cfg.alpha, cfg.mask.rho_variance), (1., 0.05, 0.5));
    let cfg: MoCoConfig = toml::from_str("hidden = 64\nrunning_statistics = \"copied\"").unwrap();
    assert_eq!((cfg.hidden, cfg.queue), (Some(64), 4096));
    for text in ["nue = 1.0", "[mask]\nrho = 0.5", "variance = \"within\""] {
        assert!(toml::from_str::<SynthPairConfig>(text).is_err(), "{text}");
    }
    assert!(toml::from_str::<MoCoConfig>("tau = 0.2").is_err());
}
