use super::in_set::{SAMPLE, bounds};
use super::*;

/// Rows of which every fourth or so is far from the others, in one direction: just those that a sample takes.
fn rows(n: usize, d: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + 13) % 104_729) as f32 / 52_364. - 1.;
    let mut values: Vec<f32> = (0..n * d).map(value).collect();
    for picked in (0..SAMPLE).map(|i| i * n / SAMPLE) {
        values[picked * d] += 9.;
    }
    values
}

#[test]
fn a_bound_from_a_sample_loses_no_neighbour() {
    let (n, d, k) = (4300, 6, 60);
    let values = rows(n, d);
    for similarity in [Similarity::Cosine, Similarity::InnerProduct] {
        let set = Side::of(&values, d, similarity);
        let blocks: Vec<_> = pieces(n, BLOCK).map(|block| set.left(&block)).collect();
        let blocks: Vec<_> = blocks.iter().collect();
        let least = bounds(&set, &blocks, k);
        assert!(least.iter().flatten().all(|bound| bound.is_finite()));
        let found = in_set(&set, k).unwrap();
        let whole = from_gallery(&set, &set, n).unwrap();
        let bounds: Vec<f32> = least.into_iter().flatten().collect();
        let mut short = 0;
        for (row, bound) in bounds.iter().enumerate() {
            let others = || whole.of(row).filter(|(other, _)| *other != row);
            short += usize::from(others().filter(|(_, s)| s >= bound).count() < k);
            let expected: Vec<_> = whole
                .of(row)
                .filter(|(other, _)| *other != row)
                .take(k)
                .collect();
            assert_eq!(
                found.of(row).collect::<Vec<_>>(),
                expected,
                "{similarity:?}, {row}"
            );
        }
        assert!(
            short > 0,
            "no row's bound was too high, so nothing was searched again"
        );
    }
}

#[test]
fn a_query_finds_the_same_alone_and_among_others_and_spans_are_merged() {
    let (n, d, k) = (2 * SPAN + 5, 3, 7);
    let values = rows(n, d);
    let gallery = Side::of(&values, d, Similarity::Cosine);
    let queries = &values[d * 20_000..d * 20_009];
    let found = from_gallery(&Side::of(queries, d, Similarity::Cosine), &gallery, k).unwrap();
    for (at, query) in queries.chunks_exact(d).enumerate() {
        let alone = from_gallery(&Side::of(query, d, Similarity::Cosine), &gallery, k).unwrap();
        assert!(alone.of(0).eq(found.of(at)), "{at}");
        assert!((found.of(at).next().unwrap().1 - 1.).abs() < 1e-6);
    }
    assert_eq!(found.of(9).len(), 0);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let side = |values: &'static [f32], d| Side::of(values, d, Similarity::Cosine);
    let said = |error: Result<Nearest, Error>| error.unwrap_err().to_string();
    assert!(said(in_set(&side(&[1., 0.], 2), 3)).contains("no other row"));
    assert!(said(in_set(&side(&[1., 0.], 1), 0)).contains("k is 0"));
    assert!(said(from_gallery(&side(&[1.], 1), &side(&[1., 2.], 2), 1)).contains("(N, 2)"));
    // As many as there are.
    assert_eq!(in_set(&side(&[1., 2., 3.], 1), 9).unwrap().k, 2);
}
