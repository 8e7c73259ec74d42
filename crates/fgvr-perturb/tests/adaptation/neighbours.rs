//! Which rows are mutual neighbours.

use fgvr_perturb::mutual_neighbours;

#[test]
fn a_pair_is_mutual_stands_once_and_is_not_continued_through_a_third() {
    // Angles in degrees: 0 and 10 are each other's nearest, as are 60 and 75; 25 is nearest to 10 alone.
    let rows: Vec<f32> = [0f32, 10., 25., 60., 75.]
        .iter()
        .flat_map(|degrees| [degrees.to_radians().cos(), degrees.to_radians().sin()])
        .collect();
    assert_eq!(mutual_neighbours(&rows, 2, 1).unwrap(), [(0, 1), (3, 4)]);
    // With two each, (0, 1), (0, 2) and (1, 2) are mutual; 3 has 4 and 2, but 2 has 1 and 0.
    assert_eq!(
        mutual_neighbours(&rows, 2, 2).unwrap(),
        [(0, 1), (0, 2), (1, 2), (3, 4)]
    );
}

#[test]
fn length_does_not_matter_and_equally_similar_rows_are_taken_by_index() {
    // Four rows along one line and one across: all similarities along it are 1.
    let rows = [1f32, 0., 2., 0., 0.5, 0., 4., 0., 0., 1.];
    assert_eq!(mutual_neighbours(&rows, 2, 1).unwrap(), [(0, 1)]);
    assert_eq!(
        mutual_neighbours(&rows, 2, 2).unwrap(),
        [(0, 1), (0, 2), (1, 2)]
    );
    // A row of zeros is at similarity 0 to all, which is more than that of opposites.
    let rows = [1f32, 0., -1., 0., 0., 0.];
    assert_eq!(mutual_neighbours(&rows, 2, 1).unwrap(), [(0, 2)]);
}

#[test]
fn of_equally_similar_rows_the_first_stays_when_a_nearer_one_comes_later() {
    // Row 0 is as near to 1 as to 2, both at 30 degrees, and nearer to 3, at 5 degrees on the side of 1.
    let degrees = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
    let ([x, y], [near, up]) = (degrees(30.), degrees(5.));
    let rows = [1., 0., x, y, x, -y, near, up];
    assert_eq!(
        mutual_neighbours(&rows, 2, 2).unwrap(),
        [(0, 1), (0, 3), (1, 3)]
    );
}

#[test]
fn more_neighbours_than_rows_make_pairs_of_all() {
    let rows = [1f32, 0., 0., 1., 1., 1.];
    for k in [2, 3, 100] {
        assert_eq!(
            mutual_neighbours(&rows, 2, k).unwrap(),
            [(0, 1), (0, 2), (1, 2)]
        );
    }
}

#[test]
fn a_search_over_several_blocks_finds_each_row_its_twin() {
    // More rows than are asked, and than are looked at, at once. Row g and row g + half are almost equal, all others
    // are random in 16 dimensions.
    let (half, width) = (8_250usize, 16);
    let random = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let row = |i: usize| {
        let twin = i % half;
        (0..width).map(move |c| {
            let own = 1e-4 * random((1_000_000 + i * width + c) as u64);
            random((1 + twin * width + c) as u64) + own
        })
    };
    let rows: Vec<f32> = (0..2 * half).flat_map(row).collect();
    let expected: Vec<(u32, u32)> = (0..half as u32).map(|i| (i, i + half as u32)).collect();
    assert_eq!(mutual_neighbours(&rows, width, 1).unwrap(), expected);
}
