//! What every kind of adaptation keeps to.

use fgvr_perturb::{AdaptConfig, AdaptKind, Adaptation, NuisanceCovariance, random_orthogonal};

use crate::{FEW, Photos};

#[test]
fn outputs_of_the_plain_features_have_mean_zero_and_a_mean_square_of_one() {
    for kind in AdaptKind::ALL {
        let outputs = FEW.fit_kind(kind).apply(&FEW.plain()).unwrap();
        let square: f64 = outputs.iter().map(|v| f64::from(*v).powi(2)).sum();
        let square = square / outputs.len() as f64;
        assert!((square - 1.).abs() < 1e-5, "{kind}: {square}");
        for channel in 0..FEW.width {
            let values = outputs.iter().skip(channel).step_by(FEW.width);
            let mean = values.map(|v| f64::from(*v)).sum::<f64>() / FEW.images as f64;
            assert!(mean.abs() < 1e-5, "{kind}: {mean} at channel {channel}");
        }
    }
}

#[test]
fn without_a_ridge_views_vary_alike_in_all_directions_after_whitening_by_them() {
    let cfg = AdaptConfig {
        ridge: 0.,
        ..AdaptConfig::of(AdaptKind::Nuisance)
    };
    let adaptation = FEW.fit(&cfg).unwrap();
    let mut after = NuisanceCovariance::new(FEW.width).unwrap();
    let whitened = adaptation.apply(&FEW.augmented()).unwrap();
    after.add_views(&whitened, FEW.views).unwrap();
    let within = after.within().unwrap();
    for (at, value) in within.iter().enumerate() {
        let expected = if at % (FEW.width + 1) == 0 {
            within[0]
        } else {
            0.
        };
        assert!((value - expected).abs() < 1e-5 * within[0], "{at}: {value}");
    }
}

#[test]
fn every_control_gives_another_transformation_and_the_seed_draws_the_random_basis() {
    let fitted = AdaptKind::ALL.map(|kind| FEW.fit_kind(kind));
    for (i, a) in fitted.iter().enumerate() {
        assert_eq!(a.config().kind, AdaptKind::ALL[i]);
        assert!(fitted[..i].iter().all(|b| a.weight() != b.weight()));
    }
    let random = |seed| {
        let kind = AdaptKind::RandomBasis;
        let cfg = AdaptConfig {
            seed,
            ..AdaptConfig::of(kind)
        };
        FEW.fit(&cfg).unwrap().weight().to_vec()
    };
    assert_eq!(random(3), random(3));
    assert_ne!(random(3), random(4));
}

#[test]
fn kinds_say_what_they_need_and_need_no_more() {
    let mut plain_only = NuisanceCovariance::new(FEW.width).unwrap();
    plain_only.add_plain(&FEW.plain()).unwrap();
    for kind in AdaptKind::ALL {
        let cfg = AdaptConfig::of(kind);
        let without_views = Adaptation::fit(&plain_only, Some(&FEW.plain()), &cfg);
        assert_eq!(without_views.is_err(), kind.needs_views(), "{kind}");
        let without_features = Adaptation::fit(&FEW.statistics(), None, &cfg);
        assert_eq!(without_features.is_err(), kind.needs_features(), "{kind}");
    }
}

#[test]
fn neighbours_of_weight_zero_leave_the_nuisance_alone() {
    let cfg = AdaptConfig {
        neighbour_weight: 0.,
        ..AdaptConfig::default()
    };
    let (without, alone) = (FEW.fit(&cfg).unwrap(), FEW.fit_kind(AdaptKind::Nuisance));
    for (a, b) in without.weight().iter().zip(alone.weight()) {
        assert!((a - b).abs() <= 1e-6, "{a}, {b}");
    }
    assert!(without.fitted().pairs.is_some_and(|pairs| pairs > 0));
    assert_eq!(alone.fitted().pairs, None);
}

#[test]
fn a_nuisance_of_few_directions_is_whitened_with_the_ridge_and_reported() {
    let few = Photos {
        images: 3,
        views: 2,
        width: 8,
    };
    for kind in AdaptKind::ALL {
        let adaptation = few.fit_kind(kind);
        assert_eq!(adaptation.rank_deficient(), kind.needs_views(), "{kind}");
        if kind.needs_views() {
            let fitted = adaptation.fitted();
            // One direction for each image.
            assert_eq!(fitted.rank, Some(3));
            assert!(
                fitted
                    .effective_rank
                    .is_some_and(|rank| rank > 1. && rank <= 3.)
            );
        }
    }
    let cfg = AdaptConfig {
        ridge: 0.,
        ..AdaptConfig::of(AdaptKind::Nuisance)
    };
    let error = few.fit(&cfg).unwrap_err().to_string();
    assert_eq!(
        error,
        "fit: the covariance is not positive definite at channel 3 with ridge 0, expected a larger ridge"
    );
    assert!(!FEW.fit_kind(AdaptKind::Nuisance).rank_deficient());
}

#[test]
fn the_bias_makes_a_linear_layer_of_it() {
    let adaptation = FEW.fit_kind(AdaptKind::NuisanceNeighbours);
    let (features, width) = (FEW.plain(), FEW.width);
    let outputs = adaptation.apply(&features).unwrap();
    let bias = adaptation.bias();
    for (row, output) in features.chunks(width).zip(outputs.chunks(width)) {
        for (at, weights) in adaptation.weight().chunks(width).enumerate() {
            let product = weights.iter().zip(row);
            let product: f64 = product.map(|(w, f)| f64::from(*w) * f64::from(*f)).sum();
            let layer = product + f64::from(bias[at]);
            assert!((layer - f64::from(output[at])).abs() < 1e-5);
        }
    }
}

#[test]
fn a_random_orthogonal_matrix_is_orthogonal_and_its_entries_are_spread_evenly() {
    for width in [1, 2, 33, 100] {
        let basis = random_orthogonal(width, 7).unwrap();
        for i in 0..width {
            for j in 0..width {
                let (a, b) = (&basis[i * width..][..width], &basis[j * width..][..width]);
                let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                let expected = f64::from(u8::from(i == j));
                assert!((product - expected).abs() < 1e-13, "{width}: {i}, {j}");
            }
        }
    }
    // Over seeds, each entry of a 2 x 2 matrix is a cosine of a uniform angle: mean 0, mean square 1/2; half of the
    // matrices are reflections.
    let draws = 2000;
    let (mut sum, mut square, mut reflections) = ([0.; 4], [0.; 4], 0);
    for seed in 0..draws {
        let q = random_orthogonal(2, seed).unwrap();
        for at in 0..4 {
            sum[at] += q[at] / draws as f64;
            square[at] += q[at] * q[at] / draws as f64;
        }
        reflections += usize::from(q[0] * q[3] - q[1] * q[2] < 0.);
    }
    assert!(sum.iter().all(|mean| mean.abs() < 0.07), "{sum:?}");
    assert!(square.iter().all(|s| (s - 0.5).abs() < 0.05), "{square:?}");
    assert!((850..1150).contains(&reflections), "{reflections}");
}
