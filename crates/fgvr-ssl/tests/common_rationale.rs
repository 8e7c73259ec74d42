//! LCR against PyTorch, and in a step.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};
use fgvr_gradcam::Sign;
use fgvr_nn::NormMode;
use fgvr_ssl::{
    Addon, AddonParts, BaseKind, CommonRationale, CommonRationaleConfig, MapRange, MethodConfig,
    RationaleForm, RationaleViews, Route, RunLength, StepOutput, Views, step,
};
use fgvr_testkit::{assert_close, golden, uniform};
use toy::{WIDTH, base, batch, crops, input, settings, values};

fn rationale(cfg: &CommonRationaleConfig, width: usize) -> CommonRationale {
    let parts = AddonParts {
        teacher: None,
        width,
        seed: 2,
        run: RunLength {
            steps: 10,
            steps_per_epoch: 2,
        },
        decoder: None,
    };
    CommonRationale::new(cfg, parts).unwrap()
}

const FORMS: [(&str, RationaleForm, Option<MapRange>); 4] = [
    ("corrected", RationaleForm::Corrected, None),
    (
        "no-minimum",
        RationaleForm::Corrected,
        Some(MapRange::NoMinimum),
    ),
    ("released-moco", RationaleForm::ReleasedMoco, None),
    ("released-byol", RationaleForm::ReleasedByol, None),
];

const ROUTES: [(&str, Route); 3] = [
    ("released", Route::Released),
    ("constant-target", Route::ConstantTarget),
    ("read-out", Route::ReadOut),
];

const SIGNS: [(&str, Sign); 2] = [
    ("raises-loss", Sign::RaisesLoss),
    ("lowers-loss", Sign::LowersLoss),
];

#[test]
fn losses_and_gradients_of_every_form_route_and_sign_are_pytorchs() {
    let golden = golden("common_rationale.safetensors");
    let gradient = golden.get("gradient");
    for (form_name, form, range) in FORMS {
        for (route_name, route) in ROUTES {
            for (sign_name, sign) in SIGNS {
                let name = format!("{form_name}.{route_name}.{sign_name}");
                let cfg = CommonRationaleConfig {
                    form,
                    range,
                    channels: 4,
                    route: Some(route),
                    sign: Some(sign),
                    ..CommonRationaleConfig::default()
                };
                let mut addon = rationale(&cfg, 6);
                let mut state: HashMap<_, _> = addon.state().unwrap().into_iter().collect();
                for (variable, from) in [
                    ("addon.lcr.conv.weight", "conv"),
                    ("addon.lcr.norm.weight", "gain"),
                    ("addon.lcr.norm.bias", "shift"),
                ] {
                    state.insert(variable.to_owned(), golden.get(from));
                }
                addon.load_state(&state).unwrap();
                let map = Var::from_tensor(&golden.get("map")).unwrap();
                let fit = addon.fit(&map, &gradient, NormMode::Train).unwrap();
                for (what, found) in [("rationale", &fit.rationale), ("target", &fit.target)] {
                    let expected = golden.get(&format!("{form_name}.{sign_name}.{what}"));
                    assert_close(&format!("{name} {what}"), found, &expected, 1e-5);
                }
                let loss = fit.loss.reshape(1).unwrap();
                let expected = golden.get(&format!("{name}.loss"));
                assert_close(&name, &loss, &expected, 1e-4);
                let gradients = fit.loss.backward().unwrap();
                let vars = addon.trainable();
                for (variable, of) in [
                    ("addon.lcr.conv.weight", "conv_grad"),
                    ("addon.lcr.norm.weight", "gain_grad"),
                    ("addon.lcr.norm.bias", "shift_grad"),
                ] {
                    let found = gradients.get(&vars[variable]).unwrap();
                    let expected = golden.get(&format!("{name}.{of}"));
                    assert_close(&format!("{name} {of}"), found, &expected, 2e-4);
                }
                match (route, gradients.get(&map)) {
                    (Route::ReadOut, found) => assert!(found.is_none(), "{name}"),
                    (_, found) => {
                        let expected = golden.get(&format!("{name}.map_grad"));
                        assert_close(&name, found.unwrap(), &expected, 2e-4);
                    }
                }
            }
        }
    }
}

fn steps(kind: BaseKind, addon: &mut CommonRationale, count: u64) -> StepOutput {
    let mut base = base(kind, &settings(), 1);
    let mut run = |number: u64| {
        let ([first, second], images) = batch(number, 8);
        let local = crops(kind, &settings(), number, 8);
        let input = input(
            Views {
                global: [&first, &second],
                local: &local,
                sent: None,
            },
            &images,
            number,
        );
        let output = step(base.as_mut(), &mut [addon], input).unwrap();
        base.after_step().unwrap();
        output
    };
    (1..count).for_each(|number| drop(run(number)));
    run(count)
}

#[test]
fn a_step_reports_maps_and_figures_of_images_that_the_queries_were_made_of() {
    for kind in BaseKind::ALL {
        let mut addon = rationale(&CommonRationaleConfig::default(), WIDTH);
        // MoCo's first step has no negatives yet, hence no gradient to look at.
        let output = steps(kind, &mut addon, 2);
        let term = output.losses.terms[1];
        assert_eq!((term.name, term.weight), ("loss_lcr", 0.1));
        assert!(term.loss > 0., "{kind}: {term:?}");
        let names: Vec<_> = output.figures.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["lcr_entropy", "lcr_correlation"]);
        let (entropy, correlation) = (output.figures[0].1, output.figures[1].1);
        assert!((0. ..=1.).contains(&entropy), "{kind}: {entropy}");
        assert!((-1. ..=1.).contains(&correlation), "{kind}: {correlation}");
        for (name, map) in &output.pictures.unwrap().maps {
            assert_eq!(map.dims(), [8, 4, 4], "{kind}: {name}");
            let least = map.min_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(least >= 0., "{kind}: {name}");
        }
    }
}

#[test]
fn the_first_branch_alone_gives_another_loss_than_all() {
    let loss = |views| {
        let cfg = CommonRationaleConfig {
            views: Some(views),
            ..CommonRationaleConfig::default()
        };
        let mut addon = rationale(&cfg, WIDTH);
        let output = steps(BaseKind::BYOL, &mut addon, 1);
        output.losses.terms[1].loss
    };
    let [all, first] = [RationaleViews::All, RationaleViews::First].map(loss);
    assert!((all - first).abs() > 1e-6, "{all} {first}");
}

#[test]
fn a_weight_of_zero_changes_nothing() {
    let cfg = CommonRationaleConfig {
        weight: Some(0.),
        ..CommonRationaleConfig::default()
    };
    let mut addon = rationale(&cfg, WIDTH);
    assert!(!addon.is_active() && addon.trainable().is_empty());
    let output = steps(BaseKind::MOCO_V2, &mut addon, 2);
    assert!(output.losses.terms.len() == 1 && output.figures.is_empty());
    assert_eq!(output.losses.total, output.losses.base());
}

#[test]
fn the_read_out_route_leaves_the_trunks_gradient_as_it_is() {
    let trunk = |route: Option<Route>| {
        let mut base = base(BaseKind::MOCO_V2, &settings(), 1);
        let ([first, second], images) = batch(0, 8);
        let input = input([&first, &second], &images, 0);
        let cfg = CommonRationaleConfig {
            route,
            ..CommonRationaleConfig::default()
        };
        let mut addon = rationale(&cfg, WIDTH);
        let mut addons: Vec<&mut dyn Addon> = Vec::new();
        if route.is_some() {
            addons.push(&mut addon);
        }
        let output = step(base.as_mut(), &mut addons, input).unwrap();
        let conv = &base.encoder_parameters().trainable()["conv.weight"];
        let gradient = output.gradients.get(conv).unwrap().flatten_all().unwrap();
        gradient.to_vec1::<f32>().unwrap()
    };
    let alone = trunk(None);
    assert_eq!(alone, trunk(Some(Route::ReadOut)));
    assert_ne!(alone, trunk(Some(Route::Released)));
    assert_ne!(alone, trunk(Some(Route::ConstantTarget)));
}

#[test]
fn the_map_of_images_is_that_of_the_trunks_features_and_changes_nothing() {
    let base = base(BaseKind::MOCO_V2, &settings(), 1);
    let addon = rationale(&CommonRationaleConfig::default(), WIDTH);
    let ([first, second], images) = batch(0, 8);
    let before = values(&base.trainable());
    let map = |images_of: &Tensor| {
        let map = addon.map(base.as_ref(), images_of, &second, &images);
        map.unwrap().unwrap()
    };
    let all = map(&first);
    assert_eq!(all.dims(), [8, 4, 4]);
    let alone = map(&first.narrow(0, 0, 2).unwrap());
    assert_close("of two", &alone, &all.narrow(0, 0, 2).unwrap(), 1e-5);
    assert_eq!(before, values(&base.trainable()));
}

#[test]
fn a_state_that_was_saved_gives_the_same_map() {
    let map = uniform(1, (2, WIDTH, 3, 3), 0., 1.);
    let gradient = uniform(2, (2, WIDTH), -1., 1.);
    let cfg = CommonRationaleConfig::default();
    let saved = rationale(&cfg, WIDTH);
    saved.fit(&map, &gradient, NormMode::Train).unwrap();
    let mut other = rationale(&cfg, WIDTH);
    let of = |addon: &CommonRationale| {
        let found = addon.fit(&map, &gradient, NormMode::Eval).unwrap();
        found
            .rationale
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_ne!(of(&saved), of(&other));
    other
        .load_state(&saved.state().unwrap().into_iter().collect())
        .unwrap();
    assert_eq!(of(&saved), of(&other));
    let error = other.load_state(&HashMap::new()).unwrap_err().to_string();
    assert!(error.contains("addon.lcr.conv.weight"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |cfg: CommonRationaleConfig| cfg.validate().unwrap_err().to_string();
    let start = CommonRationaleConfig::default;
    let weight = Some(-1.);
    assert!(refused(CommonRationaleConfig { weight, ..start() }).contains("weight is -1"));
    let temperature = Some(0.);
    let cfg = CommonRationaleConfig {
        temperature,
        ..start()
    };
    assert!(refused(cfg).contains("temperature is 0"));
    let cfg = CommonRationaleConfig {
        channels: 0,
        ..start()
    };
    assert!(refused(cfg).contains("channels is 0"));
    let addon = rationale(&start(), 3);
    let fit = |map: (usize, usize, usize, usize), gradient: (usize, usize)| {
        let ones = |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu);
        let map = ones(&[map.0, map.1, map.2, map.3]).unwrap();
        let gradient = ones(&[gradient.0, gradient.1]).unwrap();
        let found = addon.fit(&map, &gradient, NormMode::Train);
        found.unwrap_err().to_string()
    };
    assert!(fit((2, 3, 1, 1), (2, 3)).contains("1 x 1 places"));
    assert!(fit((2, 3, 2, 2), (2, 4)).contains("expected [2, 3]"));
}
