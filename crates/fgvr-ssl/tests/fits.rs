//! What an add-on needs of the network, before it is built.

use fgvr_ssl::{
    CommonRationaleConfig, LoDiscConfig, MethodConfig, Regions, Space, SynthPairConfig, TrainedOn,
    Trunk,
};

fn on(trunk: Trunk, pools_places: bool) -> TrainedOn<'static> {
    TrainedOn {
        architecture: "a network",
        trunk,
        pools_both: false,
        pools_places,
        side: 32,
        stride: 8,
        batch: 4,
    }
}

#[test]
fn what_reads_places_off_pooled_features_wants_their_mean_whatever_the_trunk() {
    let maps = SynthPairConfig {
        space: Space::Map,
        ..SynthPairConfig::default()
    };
    let lcr = CommonRationaleConfig::default();
    let by_gradient = LoDiscConfig {
        regions: Regions::GradCam,
        ..LoDiscConfig::default()
    };
    let all: [(&dyn MethodConfig, &str); 3] = [
        (&maps, "space is map"),
        (&lcr, "class token"),
        (&by_gradient, "regions is grad-cam"),
    ];
    for (choices, words) in all {
        choices.fits(&on(Trunk::ResNet, true)).unwrap();
        choices.fits(&on(Trunk::Vit, true)).unwrap();
        let error = choices.fits(&on(Trunk::Vit, false)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    for error in [
        maps.fits(&on(Trunk::Vit, false)),
        lcr.fits(&on(Trunk::Vit, false)),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("encoder.pooling=patch-mean"), "{error}");
    }
    let by_attention = LoDiscConfig {
        regions: Regions::Attention,
        ..LoDiscConfig::default()
    };
    by_attention.fits(&on(Trunk::Vit, true)).unwrap();
    by_attention.fits(&on(Trunk::ResNet, true)).unwrap_err();
}
