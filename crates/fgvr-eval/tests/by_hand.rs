//! Small cases worked out by hand, and what must be refused.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{DType, Device, Tensor};
use fgvr_eval::{
    Embeddings, Error, KnnConfig, RetrievalConfig, alignment, cross_retrieval,
    cross_retrieval_ranks, effective_rank, embedding_std, knn, knn_hits, label_fraction,
    neighbour_agreement, pair_ranks, part_hit, retrieval, uniformity,
};

fn tensor(rows: &[[f32; 2]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap()
}

fn set(rows: &[[f32; 2]], labels: &[u32]) -> Embeddings {
    Embeddings::new(tensor(rows), labels.to_vec()).unwrap()
}

/// A unit vector at an angle in degrees.
fn at(degrees: f32) -> [f32; 2] {
    [degrees.to_radians().cos(), degrees.to_radians().sin()]
}

fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-6,
        "{found}, expected {expected}"
    );
}

#[test]
fn embeddings_that_do_not_fit_are_refused() {
    let text = |features: Tensor, labels: &[u32]| {
        Embeddings::new(features, labels.to_vec())
            .unwrap_err()
            .to_string()
    };
    let two = || tensor(&[[1., 2.], [3., 4.]]);
    assert_eq!(
        text(two(), &[1]),
        "embeddings: 1 labels for 2 rows of features"
    );
    let found = text(tensor(&[[1., 2.], [3., f32::NAN]]), &[0, 1]);
    assert_eq!(found, "embeddings: features is NaN at row 1, column 1");
    assert!(text(two().flatten_all().unwrap(), &[0; 4]).contains("[4], expected (N, D)"));
    let empty = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(text(empty, &[]).contains("N and D above 0"));
}

#[test]
fn label_fractions_are_ceilings_by_class() {
    let rows: Vec<[f32; 2]> = (0..13).map(|i| [i as f32, 1.]).collect();
    let labels = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7];
    let whole = set(&rows, &labels);
    for (fraction, ten, three) in [(1., 10, 3), (0.5, 5, 2), (0.2, 2, 1), (0.01, 1, 1)] {
        let part = label_fraction(&whole, fraction, 3).unwrap();
        let count = |label| part.labels.iter().filter(|l| **l == label).count();
        assert_eq!((count(0), count(7)), (ten, three), "{fraction}");
        // A row keeps its label.
        for (row, label) in part
            .features
            .to_vec2::<f32>()
            .unwrap()
            .iter()
            .zip(&part.labels)
        {
            assert_eq!(labels[row[0] as usize], *label);
        }
    }
    let of = |seed| {
        label_fraction(&whole, 0.5, seed)
            .unwrap()
            .features
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert!(label_fraction(&whole, 0., 3).is_err());
}

#[test]
fn a_near_neighbour_outvotes_two_far_ones() {
    let train = set(&[at(0.), at(60.), at(60.)], &[5, 9, 9]);
    let test = set(&[at(10.)], &[5]);
    let report = |temperature| knn(&train, &test, &KnnConfig { k: 20, temperature }).unwrap();
    // cos 10 = 0.985, cos 50 = 0.643: at T = 0.07 the near one weighs e^4.9, at T = 10 it weighs e^0.03.
    assert_eq!((report(0.07).top1, report(0.07).k), (1., 3));
    assert_eq!((report(10.).top1, report(10.).top5), (0., 1.));
    // A temperature at which exp(s / T) itself is infinite.
    assert_eq!(report(1e-6).top1, 1.);
}

#[test]
fn equal_neighbours_go_by_index_and_equal_votes_by_class() {
    let train = set(&[at(30.), at(30.), at(30.)], &[8, 2, 2]);
    let test = set(&[at(0.)], &[8]);
    let top1 = |k| {
        knn(
            &train,
            &test,
            &KnnConfig {
                k,
                ..KnnConfig::default()
            },
        )
        .unwrap()
        .top1
    };
    assert_eq!(top1(1), 1.); // the first of three equals
    assert_eq!(top1(2), 0.); // one vote each: class 2 comes before 8
}

#[test]
fn knn_scale_of_features_does_not_matter() {
    let train = set(&[[1e30, 0.], [0., 1e-30]], &[0, 1]);
    let test = set(&[[1e-20, 1e-22], [1e10, 1e12]], &[0, 1]);
    assert_eq!(knn(&train, &test, &KnnConfig::default()).unwrap().top1, 1.);
}

#[test]
fn knn_counts_unseen_classes_as_wrong_and_refuses_what_does_not_fit() {
    let train = set(&[at(0.), at(90.)], &[0, 1]);
    let report = knn(
        &train,
        &set(&[at(0.), at(5.)], &[0, 3]),
        &KnnConfig::default(),
    )
    .unwrap();
    assert_eq!((report.top1, report.top5, report.unseen), (0.5, 0.5, 1));
    let none = KnnConfig {
        k: 0,
        ..KnnConfig::default()
    };
    assert!(
        knn(&train, &train, &none)
            .unwrap_err()
            .to_string()
            .contains("k is 0")
    );
    let cold = KnnConfig {
        temperature: 0.,
        ..KnnConfig::default()
    };
    assert!(
        knn(&train, &train, &cold)
            .unwrap_err()
            .to_string()
            .contains("temperature is 0")
    );
    let wide = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
    let wide = Embeddings::new(wide, vec![0]).unwrap();
    let text = knn(&train, &wide, &KnnConfig::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("test is [1, 3], expected (N, 2)"), "{text}");
}

#[test]
fn average_precision_by_hand() {
    let rows = [at(0.), at(10.), at(21.), at(33.), at(50.)];
    let report = retrieval(&set(&rows, &[1, 1, 2, 1, 2]), &RetrievalConfig::default()).unwrap();
    // item  finds    at ranks  AP                   MAP@R
    // 0     1 2 3 4  1, 3      (1 + 2/3)/2 = 5/6    1/2
    // 1     0 2 3 4  1, 3      5/6                  1/2
    // 2     1 3 0 4  4         1/4                  0
    // 3     2 4 1 0  3, 4      (1/3 + 2/4)/2 = 5/12 0
    // 4     3 2 1 0  2         1/2                  0
    assert_eq!((report.queries, report.left_out), (5, 0));
    close(report.rank1, 2. / 5.);
    close(report.rank5, 1.);
    close(report.map, (5. / 6. + 5. / 6. + 0.25 + 5. / 12. + 0.5) / 5.);
    close(report.map_at_r, 0.2);
    close(report.r_precision, 0.2);
    close(report.rank10, 1.);
}

#[test]
fn ties_go_by_index_and_loners_ask_nothing() {
    // All equal: item i sees the others in the order of their indices.
    let rows = [[1., 0.]; 4];
    let report = retrieval(&set(&rows, &[0, 1, 2, 0]), &RetrievalConfig::default()).unwrap();
    // Item 0 finds 3 at rank 3 (after 1, 2); item 3 finds 0 at rank 1.
    assert_eq!((report.queries, report.left_out), (2, 2));
    close(report.rank1, 0.5);
    close(report.rank5, 1.);
    close(report.map, (1. / 3. + 1.) / 2.);
    close(report.map_at_r, 0.5);
    close(report.r_precision, 0.5);
    let loners = retrieval(&set(&rows, &[0, 1, 2, 3]), &RetrievalConfig::default());
    assert!(matches!(loners, Err(Error::Nothing { .. })));
}

#[test]
fn retrieval_without_normalising_follows_length() {
    let rows = [[1., 0.], [0.5, 0.], [0., 0.1], [9., 9.]];
    let labels = [0, 0, 1, 1];
    let rank1 = |normalise| {
        retrieval(&set(&rows, &labels), &RetrievalConfig { normalise })
            .unwrap()
            .rank1
    };
    // Lengthwise everyone's first is item 3: right for item 2 only, and item 3's own first is item 0.
    close(rank1(false), 0.25);
    // By angle items 0 and 1 find each other, and 2 finds 3; 3 ties between all and takes item 0.
    close(rank1(true), 0.75);
}

#[test]
fn items_of_another_set_are_ranked_for_each_query_by_hand() {
    // Near 0 degrees: a, b, a, b; the query of class 7 finds its items at ranks 1 and 3, that of class 8 at 2 and 4.
    let database = set(&[at(1.), at(2.), at(3.), at(4.)], &[7, 8, 7, 8]);
    let queries = set(&[at(0.), at(0.), at(90.)], &[7, 8, 9]);
    let found = cross_retrieval(&database, &queries, &RetrievalConfig::default()).unwrap();
    let ranks = cross_retrieval_ranks(&database, &queries, &RetrievalConfig::default()).unwrap();
    let of = |query: usize| ranks[query].map(|ranked| ranked.average_precision);
    close(of(0).unwrap(), (1. + 2. / 3.) / 2.);
    close(of(1).unwrap(), (1. / 2. + 2. / 4.) / 2.);
    assert_eq!((of(2), found.left_out), (None, 1));
    close(found.map, (5. / 6. + 0.5) / 2.);
    close(found.rank1, 0.5);
    let none = set(&[at(0.)], &[9]);
    let error = cross_retrieval(&database, &none, &RetrievalConfig::default()).unwrap_err();
    assert!(error.to_string().contains("no class of the 1 queries"));
}

#[test]
fn hits_of_neighbours_are_those_that_the_report_counts() {
    let train = set(&[at(0.), at(10.), at(90.)], &[1, 1, 2]);
    let test = set(&[at(5.), at(85.), at(80.), at(0.)], &[1, 2, 1, 3]);
    let cfg = KnnConfig {
        k: 1,
        ..KnnConfig::default()
    };
    let hits = knn_hits(&train, &test, &cfg).unwrap();
    assert_eq!(hits, [true, true, false, false]);
    close(knn(&train, &test, &cfg).unwrap().top1, 0.5);
}

#[test]
fn a_view_finds_the_other_first_or_not() {
    let first = tensor(&[at(0.), at(40.), at(90.)]);
    let second = tensor(&[at(5.), at(80.), at(88.)]);
    // 0: 5 is first. 40: 5 is nearer than 80. 90: 88 is first.
    assert_eq!(pair_ranks(&first, &second).unwrap(), [1, 2, 1]);
    // Features that are all equal find nothing.
    let equal = tensor(&[at(3.), at(3.), at(3.)]);
    assert_eq!(pair_ranks(&equal, &equal).unwrap(), [3, 3, 3]);
    let other = pair_ranks(&first, &tensor(&[at(0.)])).unwrap_err();
    assert!(other.to_string().contains("expected (3, 2)"), "{other}");
}

#[test]
fn halves_agree_on_what_both_find() {
    let gallery = tensor(&[at(0.), at(10.), at(20.), at(90.), at(100.)]);
    let (left, right) = (tensor(&[at(2.), at(5.)]), tensor(&[at(16.), at(95.)]));
    // 0, 10 against 20, 10; 0, 10 against 90, 100.
    let found = neighbour_agreement(&left, &right, &gallery, 2).unwrap();
    assert_eq!(found, [0.5, 0.]);
    // All are neighbours of all.
    assert_eq!(
        neighbour_agreement(&left, &right, &gallery, 9).unwrap(),
        [1., 1.]
    );
    assert!(neighbour_agreement(&left, &right, &gallery, 0).is_err());
}

#[test]
fn effective_rank_counts_even_directions() {
    let cross = tensor(&[[1., 0.], [-1., 0.], [0., 1.], [0., -1.]]);
    close(effective_rank(&cross).unwrap(), 2.);
    close(effective_rank(&(cross * 1e15).unwrap()).unwrap(), 2.);
    close(
        effective_rank(&tensor(&[[1., 2.], [2., 4.], [4., 8.]])).unwrap(),
        1.,
    );
    // Variances 3 : 1: entropy of (3/4, 1/4).
    let oblong = tensor(&[[3f32.sqrt(), 0.], [-(3f32.sqrt()), 0.], [0., 1.], [0., -1.]]);
    let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
    close(effective_rank(&oblong).unwrap(), entropy.exp());
}

#[test]
fn collapsed_embeddings_have_no_rank_and_no_spread() {
    let collapsed = tensor(&[[0.1, 0.7]; 5]);
    assert_eq!(effective_rank(&collapsed).unwrap(), 0.);
    close(embedding_std(&collapsed).unwrap(), 0.);
    close(uniformity(&collapsed, 2.).unwrap(), 0.);
    close(alignment(&collapsed, &collapsed, 2.).unwrap(), 0.);
    let zeros = tensor(&[[0., 0.]; 3]);
    assert_eq!(effective_rank(&zeros).unwrap(), 0.);
    assert_eq!(embedding_std(&zeros).unwrap(), 0.);
}

#[test]
fn spread_on_the_circle_by_hand() {
    let cross = tensor(&[[5., 0.], [-1., 0.], [0., 2.], [0., -1.]]);
    close(embedding_std(&cross).unwrap(), 0.5f64.sqrt());
    // Of six pairs two are opposite (distance^2 4) and four at right angles (2).
    let mean = (2. * f64::exp(-8.) + 4. * f64::exp(-4.)) / 6.;
    close(uniformity(&cross, 2.).unwrap(), mean.ln());
    let turned = tensor(&[[0., 1.], [0., 1.], [1., 0.], [1., 0.]]);
    close(alignment(&cross, &turned, 2.).unwrap(), 2.);
    close(alignment(&cross, &turned, 1.).unwrap(), 2f64.sqrt());
    let one = cross.narrow(0, 0, 1).unwrap();
    assert!(
        uniformity(&one, 2.)
            .unwrap_err()
            .to_string()
            .contains("at least two rows")
    );
    assert!(
        alignment(&cross, &one, 2.)
            .unwrap_err()
            .to_string()
            .contains("y is [1, 2]")
    );
    assert!(
        uniformity(&cross, -1.)
            .unwrap_err()
            .to_string()
            .contains("t is -1")
    );
}

fn map() -> Tensor {
    // One image, three channels over 1x2 places: left, half and half, silent; and a fourth, right.
    Tensor::new(
        &[[[[4f32, 0.]], [[1., 1.]], [[0., 0.]], [[0., 3.]]]],
        &Device::Cpu,
    )
    .unwrap()
}

#[test]
fn part_hit_compares_kept_and_masked_channels() {
    let mask = Tensor::new(&[[0f32, 0., 1., 1.]], &Device::Cpu).unwrap();
    // The part covers the left half of 2x4 pixels.
    let parts = Tensor::new(&[[[1f32, 1., 0., 0.], [1., 1., 0., 0.]]], &Device::Cpu).unwrap();
    let hit = part_hit(&map(), &mask, &parts).unwrap();
    close(hit.kept, 0.75); // channels 0 and 1: 1 and 1/2
    close(hit.masked, 0.); // channel 3 only: channel 2 is silent
    close(hit.difference, 0.75);
    close(hit.area, 0.5);
    assert_eq!((hit.images, hit.left_out, hit.silent_channels), (1, 0, 1));
}

#[test]
fn parts_are_resized_by_the_mean_over_areas() {
    let mask = Tensor::new(&[[0f32, 0., 1., 1.]], &Device::Cpu).unwrap();
    // Three pixels over two places: the middle one falls half on each.
    let parts = Tensor::new(&[[[1f32, 0.3, 0.]]], &Device::Cpu).unwrap();
    let hit = part_hit(&map(), &mask, &parts).unwrap();
    let (left, right) = ((1. + 0.15) / 1.5, 0.15 / 1.5);
    close(hit.kept, (left + (left + right) / 2.) / 2.);
    close(hit.masked, right);
    // And enlarged: one pixel is both places.
    let hit = part_hit(
        &map(),
        &mask,
        &Tensor::new(&[[[0.5f32]]], &Device::Cpu).unwrap(),
    )
    .unwrap();
    close(hit.kept, 0.5);
    close(hit.difference, 0.);
}

#[test]
fn images_without_parts_or_with_one_side_only_are_left_out() {
    let three = Tensor::cat(&[map(), map(), map()], 0).unwrap();
    let mask = [[0f32, 0., 1., 1.], [0., 0., 1., 1.], [0., 0., 1., 0.]]; // image 2 masks the silent one only
    let mask = Tensor::new(&mask, &Device::Cpu).unwrap();
    let parts = Tensor::new(&[[[1f32, 0.]], [[0., 0.]], [[1., 0.]]], &Device::Cpu).unwrap();
    let hit = part_hit(&three, &mask, &parts).unwrap();
    assert_eq!((hit.images, hit.left_out, hit.silent_channels), (1, 2, 2));
    close(hit.difference, 0.75);
    let none = part_hit(&three, &mask, &parts.zeros_like().unwrap());
    assert!(matches!(none, Err(Error::Nothing { .. })));
}

#[test]
fn part_hit_names_what_does_not_fit() {
    let mask = Tensor::new(&[[0f32, 0., 1., 1.]], &Device::Cpu).unwrap();
    let parts = Tensor::new(&[[[1f32, 0.]]], &Device::Cpu).unwrap();
    let text = |map: &Tensor, mask: &Tensor, parts: &Tensor| {
        part_hit(map, mask, parts).unwrap_err().to_string()
    };
    assert!(text(&mask, &mask, &parts).contains("map is [1, 4], expected (N, C, h, w)"));
    let narrow = mask.narrow(1, 0, 3).unwrap();
    assert!(text(&map(), &narrow, &parts).contains("mask is [1, 3], expected (1, 4)"));
    assert!(text(&map(), &mask, &mask).contains("parts is [1, 4], expected (1, H, W)"));
    assert!(text(&map().neg().unwrap(), &mask, &parts).contains("map is -4, expected values >= 0"));
    let half = (&mask * 0.5).unwrap();
    assert!(text(&map(), &half, &parts).contains("mask is 0.5, expected 0 or 1"));
}
