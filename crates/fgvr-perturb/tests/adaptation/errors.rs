//! What is refused, in one line each.

use candle_core::{DType, Device, Tensor};
use fgvr_perturb::{
    AdaptConfig, AdaptError, AdaptKind, Adaptation, NuisanceCovariance, mutual_neighbours,
    neighbour_covariance, random_orthogonal,
};

use crate::{FEW, Photos};

#[track_caller]
fn refused<T>(result: Result<T, AdaptError>, expected: &str) {
    match result {
        Ok(_) => panic!("expected {expected:?}"),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}

fn empty(width: usize) -> NuisanceCovariance {
    NuisanceCovariance::new(width).unwrap()
}

#[test]
fn views_and_features_of_a_length_that_does_not_fit() {
    refused(
        empty(3).add_views(&[1.; 6], 1),
        "add_views: 1 view of each image, expected 2 or more",
    );
    refused(
        empty(3).add_views(&[1.; 7], 2),
        "add_views: views has 7 values, expected a multiple of 2 views x 3 channels, above 0",
    );
    refused(
        empty(3).add_views(&[], 2),
        "add_views: views has 0 values, expected a multiple of 2 views x 3 channels, above 0",
    );
    // No overflow of the product.
    assert!(empty(3).add_views(&[1.; 6], usize::MAX).is_err());
    refused(
        empty(3).add_plain(&[1.; 4]),
        "add_plain: features has 4 values, expected a multiple of 3 channels, above 0",
    );
    refused(
        FEW.fit_kind(AdaptKind::Nuisance).apply(&[1.; 11]),
        "apply: features has 11 values, expected a multiple of 10 channels, above 0",
    );
    refused(
        mutual_neighbours(&[1.; 4], 3, 1),
        "mutual_neighbours: features has 4 values, expected a multiple of 3 channels, above 0",
    );
    let features = FEW.plain();
    refused(
        Adaptation::fit(
            &FEW.statistics(),
            Some(&features[10..]),
            &AdaptConfig::default(),
        ),
        "fit: features has 590 values, expected 60 images x 10 channels, as were added",
    );
    refused(
        Adaptation::fit(&FEW.statistics(), None, &AdaptConfig::default()),
        "fit: the kind nuisance-neighbours searches neighbours, expected the plain features, found none",
    );
}

#[test]
fn a_width_or_a_number_of_neighbours_of_zero() {
    let width = "width is 0, expected at least 1 channel";
    refused(NuisanceCovariance::new(0), width);
    refused(mutual_neighbours(&[1.], 0, 1), width);
    refused(neighbour_covariance(&[1.], 0, &[(0, 0)]), width);
    refused(random_orthogonal(0, 1), width);
    refused(
        mutual_neighbours(&[1., 2.], 1, 0),
        "k is 0, expected at least 1",
    );
}

#[test]
fn values_that_are_not_finite_are_counted_and_the_first_is_named() {
    let mut views = FEW.augmented();
    views[(4 * 3 + 1) * 10 + 7] = f32::NAN;
    views[(5 * 3) * 10] = f32::INFINITY;
    let mut statistics = FEW.statistics();
    let before = statistics.within().unwrap();
    refused(
        statistics.add_views(&views, 3),
        "add_views: 2 of 1800 values of views are not finite, the first is NaN at image 4, view 1, channel 7",
    );
    let mut features = FEW.plain();
    features[123] = f32::NEG_INFINITY;
    let message =
        "1 of 600 values of features are not finite, the first is -inf at row 12, channel 3";
    refused(
        statistics.add_plain(&features),
        &format!("add_plain: {message}"),
    );
    // Nothing of the call was added.
    assert_eq!((statistics.images(), statistics.plain_images()), (60, 60));
    assert_eq!(statistics.within().unwrap(), before);
    let adaptation = FEW.fit_kind(AdaptKind::Nuisance);
    refused(adaptation.apply(&features), &format!("apply: {message}"));
    refused(
        mutual_neighbours(&features, 10, 3),
        &format!("mutual_neighbours: {message}"),
    );
    refused(
        Adaptation::fit(&statistics, Some(&features), &AdaptConfig::default()),
        &format!("fit: {message}"),
    );
}

#[test]
fn fewer_than_two_images() {
    let one = Photos { images: 1, ..FEW };
    let cfg = AdaptConfig::of(AdaptKind::Nuisance);
    refused(
        Adaptation::fit(&empty(10), None, &cfg),
        "fit: 0 images with plain features, expected 2 or more",
    );
    refused(
        one.fit(&cfg),
        "fit: 1 image with plain features, expected 2 or more",
    );
    let mut statistics = one.statistics();
    statistics.add_plain(&FEW.plain()).unwrap();
    refused(
        Adaptation::fit(&statistics, None, &cfg),
        "fit: 1 image with augmented views, expected 2 or more",
    );
    refused(
        empty(2).within(),
        "within: 0 images with augmented views, expected 2 or more",
    );
    refused(
        empty(2).mean_and_total(),
        "mean_and_total: 0 images with plain features, expected 2 or more",
    );
    refused(
        mutual_neighbours(&[1., 2.], 2, 1),
        "mutual_neighbours: 1 image with features, expected 2 or more",
    );
}

/// Statistics of 60 images: equal images unless `differ`, equal views unless `moved`.
fn statistics(differ: bool, moved: bool) -> (NuisanceCovariance, Vec<f32>) {
    let row = |seed: usize| -> Vec<f32> { (0..10).map(|c| 0.1 + (seed * 10 + c) as f32).collect() };
    let (mut statistics, mut features) = (empty(10), Vec::new());
    for i in 0..60 {
        let plain = row(if differ { i } else { 0 });
        let other = if moved { row(61 + i) } else { plain.clone() };
        statistics.add_plain(&plain).unwrap();
        statistics
            .add_views(&[&plain[..], &other].concat(), 2)
            .unwrap();
        features.extend(plain);
    }
    (statistics, features)
}

#[test]
fn images_views_or_neighbours_without_variance() {
    let fit = |(statistics, features): &(NuisanceCovariance, Vec<f32>), kind| {
        Adaptation::fit(statistics, Some(features), &AdaptConfig::of(kind))
    };
    let equal_images = statistics(false, true);
    for kind in AdaptKind::ALL {
        refused(
            fit(&equal_images, kind),
            "fit: no variance, the plain features of all 60 images are equal; expected images that differ",
        );
    }
    let equal_views = statistics(true, false);
    for kind in AdaptKind::ALL.into_iter().filter(|kind| kind.needs_views()) {
        refused(
            fit(&equal_views, kind),
            "fit: no variance, the views of each of 60 images are equal; expected views that are augmented at random",
        );
    }
    assert!(fit(&equal_views, AdaptKind::Total).is_ok());
    // Every photo stands twice, and a copy is nearest.
    let mut twice = FEW.statistics();
    twice.add_plain(&FEW.plain()).unwrap();
    let features = [FEW.plain(), FEW.plain()].concat();
    let cfg = AdaptConfig {
        neighbours: 1,
        ..AdaptConfig::default()
    };
    refused(
        Adaptation::fit(&twice, Some(&features), &cfg),
        "fit: no variance, all 60 pairs of neighbours have equal features; expected photos that are not copies of \
         each other",
    );
    // Views move by far more than images differ, in all directions.
    let mut wild = empty(1);
    wild.add_plain(&[1., 2.]).unwrap();
    wild.add_views(&[1., 100., 2., -100.], 2).unwrap();
    refused(
        Adaptation::fit(&wild, None, &AdaptConfig::of(AdaptKind::Between)),
        "fit: no variance, the views of an image vary more than the images in all directions; expected images that \
         differ by more than their views",
    );
}

#[test]
fn equal_features_of_any_size_are_without_variance_in_spite_of_rounding() {
    for scale in [1e-30f32, 0.1, 1e4, 1e20] {
        let row: Vec<f32> = (0..10).map(|c| scale * (c as f32 + 0.3)).collect();
        let mut statistics = empty(10);
        for _ in 0..1037 {
            statistics.add_plain(&row).unwrap();
        }
        let fit = Adaptation::fit(&statistics, None, &AdaptConfig::of(AdaptKind::Total));
        assert!(matches!(fit, Err(AdaptError::NoVariance { .. })), "{scale}");
    }
}

#[test]
fn parts_of_other_widths_and_no_parts() {
    refused(empty(3).merge(empty(4)), "merge: width 4, expected 3");
    refused(
        NuisanceCovariance::merge_in_order([empty(3), empty(3), empty(4)]),
        "merge: width 4, expected 3",
    );
    refused(
        NuisanceCovariance::merge_in_order([]),
        "merge_in_order: parts is empty, expected at least 1 entry",
    );
}

#[test]
fn pairs_that_are_none_or_of_rows_that_are_not_there() {
    refused(
        neighbour_covariance(&[1., 2.], 1, &[]),
        "neighbour_covariance: pairs is empty, expected at least 1 entry",
    );
    refused(
        neighbour_covariance(&[1., 2.], 1, &[(0, 1), (1, 2)]),
        "neighbour_covariance: pair (1, 2), expected two rows below 2",
    );
}

#[test]
fn tensors_of_other_shapes_and_those_that_fit_give_what_slices_give() {
    let cpu = &Device::Cpu;
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, cpu).unwrap();
    refused(
        empty(3).add_views_tensor(&tensor(&[2, 2, 4])),
        "add_views_tensor: views is [2, 2, 4], expected (N, V, 3)",
    );
    refused(
        empty(3).add_plain_tensor(&tensor(&[2, 2, 3])),
        "add_plain_tensor: features is [2, 2, 3], expected (N, 3)",
    );
    let adaptation = FEW.fit_kind(AdaptKind::default());
    refused(
        adaptation.apply_tensor(&tensor(&[3])),
        "apply_tensor: features is [3], expected (N, 10)",
    );
    let features = Tensor::from_vec(FEW.plain(), (60, 10), cpu).unwrap();
    let features = features.to_dtype(DType::F64).unwrap();
    let outputs = adaptation.apply_tensor(&features).unwrap();
    assert_eq!(
        (outputs.dims(), outputs.dtype()),
        (&[60, 10][..], DType::F32)
    );
    let outputs: Vec<f32> = outputs.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(outputs, adaptation.apply(&FEW.plain()).unwrap());
    let views = Tensor::from_vec(FEW.augmented(), (60, 3, 10), cpu).unwrap();
    let mut statistics = empty(10);
    statistics.add_plain_tensor(&features).unwrap();
    statistics.add_views_tensor(&views).unwrap();
    assert_eq!(
        statistics.within().unwrap(),
        FEW.statistics().within().unwrap()
    );
}
