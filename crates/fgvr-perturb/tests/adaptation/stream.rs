//! What comes in parts.

use fgvr_perturb::NuisanceCovariance;
use fgvr_testkit::assert_close_values;

use crate::Photos;

/// More images than are added at once, by far.
const MANY: Photos = Photos {
    images: 1300,
    views: 2,
    width: 20,
};

/// What was gathered: Σ_w, then μ, then the total covariance.
fn values(statistics: &NuisanceCovariance) -> Vec<f64> {
    let (mean, total) = statistics.mean_and_total().unwrap();
    [statistics.within().unwrap(), mean, total].concat()
}

fn bits(statistics: &NuisanceCovariance) -> Vec<u64> {
    values(statistics).into_iter().map(f64::to_bits).collect()
}

/// The statistics of all images, in calls of `images` images.
fn in_calls(photos: &Photos, images: usize) -> NuisanceCovariance {
    let mut statistics = NuisanceCovariance::new(photos.width).unwrap();
    for part in photos.plain().chunks(images * photos.width) {
        statistics.add_plain(part).unwrap();
    }
    let views = photos.augmented();
    for part in views.chunks(images * photos.views * photos.width) {
        statistics.add_views(part, photos.views).unwrap();
    }
    statistics
}

/// Statistics of consecutive parts of the images.
fn parts(photos: &Photos, count: usize) -> Vec<NuisanceCovariance> {
    let each = photos.images.div_ceil(count);
    let (plain, views) = (photos.plain(), photos.augmented());
    let plain = plain.chunks(each * photos.width);
    let views = views.chunks(each * photos.views * photos.width);
    plain
        .zip(views)
        .map(|(plain, views)| {
            let mut part = NuisanceCovariance::new(photos.width).unwrap();
            part.add_plain(plain).unwrap();
            part.add_views(views, photos.views).unwrap();
            part
        })
        .collect()
}

#[test]
fn how_a_stream_is_cut_into_calls_changes_no_bit() {
    let whole = in_calls(&MANY, MANY.images);
    assert_eq!((whole.images(), whole.plain_images()), (1300, 1300));
    assert_eq!(whole.views(), 2600);
    for images in [1, 7, 512, 1299] {
        assert_eq!(bits(&in_calls(&MANY, images)), bits(&whole), "{images}");
    }
}

#[test]
fn merged_parts_are_the_whole_to_rounding() {
    let whole = values(&in_calls(&MANY, MANY.images));
    for count in [1, 2, 3, 7, 1300] {
        let merged = NuisanceCovariance::merge_in_order(parts(&MANY, count)).unwrap();
        assert_eq!((merged.images(), merged.plain_images()), (1300, 1300));
        assert_close_values("merged", &values(&merged), &whole, 1e-12);
    }
}

#[test]
fn merging_in_order_gives_the_same_bits_each_time_and_an_empty_part_changes_none() {
    let merged = || NuisanceCovariance::merge_in_order(parts(&MANY, 5)).unwrap();
    assert_eq!(bits(&merged()), bits(&merged()));
    let mut with_empty = merged();
    with_empty
        .merge(NuisanceCovariance::new(MANY.width).unwrap())
        .unwrap();
    assert_eq!(bits(&with_empty), bits(&merged()));
    let mut from_empty = NuisanceCovariance::new(MANY.width).unwrap();
    from_empty.merge(merged()).unwrap();
    assert_eq!(bits(&from_empty), bits(&merged()));
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    let near = Photos {
        images: 600,
        ..MANY
    };
    // Whole numbers, so that the shift is exact in f32.
    let whole: Vec<f32> = near.plain().iter().map(|v| (8. * v).round()).collect();
    let shifted: Vec<f32> = whole.iter().map(|v| v + 1_000_000.).collect();
    let total = |features: &[f32]| {
        let mut statistics = NuisanceCovariance::new(near.width).unwrap();
        statistics.add_plain(features).unwrap();
        statistics.mean_and_total().unwrap().1
    };
    assert_close_values("total", &total(&shifted), &total(&whole), 1e-9);
}

#[test]
fn images_count_alike_however_many_views_they_have() {
    // One channel: variances 2 of (1, 3) and 1 of (1, 2, 3).
    let mut statistics = NuisanceCovariance::new(1).unwrap();
    statistics.add_views(&[1., 3.], 2).unwrap();
    statistics.add_views(&[1., 2., 3.], 3).unwrap();
    assert_close_values("mean", &statistics.within().unwrap(), &[1.5], 1e-15);
    assert_eq!((statistics.images(), statistics.views()), (2, 5));
}
