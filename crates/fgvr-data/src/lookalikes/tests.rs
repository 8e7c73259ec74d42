use super::*;

fn set(nuisance: f64, size: usize) -> Lookalikes {
    let cfg = LookalikesConfig {
        nuisance,
        ..LookalikesConfig::default()
    };
    Lookalikes::new(&cfg, size, Split::Train).expect("a valid configuration")
}

fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    let total: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    total as f64 / a.len() as f64
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let (a, b) = (set(1., 48), set(1., 48));
    // in another order, and from another instance
    let first: Vec<Image> = (0..20).map(|i| a.load(i).unwrap()).collect();
    let again: Vec<Image> = (0..20).rev().map(|i| b.load(i).unwrap()).collect();
    assert!(first.iter().eq(again.iter().rev()));
    for i in 1..20 {
        assert_ne!(first[0], first[i]);
    }
    let cfg = LookalikesConfig::default();
    let other = LookalikesConfig {
        seed: 1,
        ..cfg.clone()
    };
    let test = Lookalikes::new(&cfg, 48, Split::Test).unwrap();
    let seeded = Lookalikes::new(&other, 48, Split::Train).unwrap();
    assert_ne!(test.load(0).unwrap(), first[0]);
    assert_ne!(seeded.load(0).unwrap(), first[0]);
    assert_eq!(test.classes(), seeded.classes());
}

#[test]
fn what_is_kept_is_what_was_drawn_and_a_large_set_is_not_kept() {
    let (kept, large) = (set(1., 48), set(1., 512));
    assert_eq!(kept.load(3).unwrap(), kept.load(3).unwrap());
    assert_eq!(kept.load(3).unwrap(), kept.draw(3));
    assert_eq!(large.load(3).unwrap(), large.draw(3));
    assert_eq!((kept.drawn.len(), large.drawn.len()), (kept.len(), 0));
}

#[test]
fn a_larger_image_shows_the_same_scene() {
    let (small, large) = (set(1., 48), set(1., 192));
    for index in 0..24 {
        let (small_image, large_image) = (small.load(index).unwrap(), large.load(index).unwrap());
        let mut averaged = Vec::new();
        for y in 0..48 {
            for x in 0..48 {
                for c in 0..3 {
                    let total: u32 = (0..16)
                        .map(|k| {
                            let (px, py) = (4 * x + k % 4, 4 * y + k / 4);
                            u32::from(large_image.pixels[3 * (py * 192 + px) + c])
                        })
                        .sum();
                    averaged.push((total / 16) as u8);
                }
            }
        }
        let same = mean_difference(&small_image.pixels, &averaged);
        let other = mean_difference(&small.load(index + 1).unwrap().pixels, &averaged);
        // the sensor's noise differs, by 2.4 % of 255 on average at most
        assert!(same < 8. && same < other / 2., "{index}: {same} {other}");
    }
}

#[test]
fn every_run_of_all_classes_has_each_once_in_an_order_of_its_own() {
    let set = set(1., 16);
    let runs: Vec<Vec<u32>> = (0..10)
        .map(|run| (0..24).map(|i| set.label(24 * run + i).unwrap()).collect())
        .collect();
    for run in &runs {
        let mut sorted = run.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..24));
    }
    assert!(runs.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn species_of_a_family_differ_only_inside_their_masks() {
    let set = set(1., 96);
    for index in 0..12 {
        let mut scene = set.scene(index);
        // a blur would carry differences over the edge of the masks
        scene.blur = 0.;
        for family in 0..6 {
            let drawn: Vec<Canvas> = (0..4).map(|s| set.canvas(4 * family + s, &scene)).collect();
            for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
                let (a, b) = (&drawn[a], &drawn[b]);
                let mut inside = 0;
                for i in 0..96 * 96 {
                    let differs = a.pixels[i] != b.pixels[i];
                    let telling = a.parts[i] > 0. || b.parts[i] > 0.;
                    assert!(telling || !differs, "family {family}, scene {index}");
                    inside += usize::from(differs && telling);
                }
                assert!(
                    inside > 20,
                    "family {family}, scene {index}: {inside} pixels"
                );
            }
        }
    }
}

#[test]
fn masks_are_seldom_empty_and_never_most_of_the_image() {
    let set = set(1., 64);
    let mut seen = 0;
    for index in 0..120 {
        let mask = set.part_mask(index).unwrap().expect("a mask");
        assert_eq!(
            (mask.width, mask.height, mask.values.len()),
            (64, 64, 64 * 64)
        );
        assert!(mask.values.iter().all(|v| (0. ..=1.).contains(v)));
        let area: f32 = mask.values.iter().sum();
        assert!(area < 0.25 * 64. * 64., "{index}: {area}");
        seen += usize::from(area > 12.);
    }
    assert!(seen >= 115, "{seen} of 120");
}

#[test]
fn masks_lie_where_the_bird_is() {
    let set = set(1., 64);
    for index in 0..24 {
        let scene = set.scene(index);
        let family = set.class(index) / 4;
        // anything drawn over the background, occluders included
        let background = scene.background.canvas(64, scene.light);
        let mut drawn = vec![false; 64 * 64];
        for species in 0..4 {
            let mut still = set.scene(index);
            still.blur = 0.;
            let canvas = set.canvas(4 * family + species, &still);
            for (i, drawn) in drawn.iter_mut().enumerate() {
                *drawn |= canvas.pixels[i] != background.pixels[i];
            }
        }
        let mask = set.part_mask(index).unwrap().expect("a mask");
        assert!(
            mask.values
                .iter()
                .zip(&drawn)
                .all(|(&v, &drawn)| v == 0. || drawn)
        );
    }
}

#[test]
fn without_nuisance_a_class_is_one_picture() {
    let set = set(0., 48);
    let of_class = |class: u32| (0..200).filter(move |&i| set.label(i) == Some(class));
    let set = self::set(0., 48);
    let first: Vec<Image> = of_class(3).take(5).map(|i| set.load(i).unwrap()).collect();
    for image in &first[1..] {
        let difference = mean_difference(&first[0].pixels, &image.pixels);
        assert!(difference < 1., "{difference}");
    }
    // and nuisance moves it
    let moved = self::set(1., 48);
    let index = (0..200).find(|&i| moved.label(i) == Some(3)).unwrap();
    assert!(mean_difference(&first[0].pixels, &moved.load(index).unwrap().pixels) > 10.);
}

#[test]
fn an_index_past_the_end_is_an_error() {
    let set = set(1., 16);
    let end = set.len();
    for result in [set.load(end).map(|_| ()), set.part_mask(end).map(|_| ())] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::IndexOutOfRange { index, len: 4096, .. } if index == end));
    }
    assert_eq!(set.label(end), None);
}

#[test]
fn settings_outside_their_range_are_errors() {
    let cfg = LookalikesConfig::default();
    let bad = [
        (
            LookalikesConfig {
                families: 0,
                ..cfg.clone()
            },
            64,
            "families",
        ),
        (
            LookalikesConfig {
                species_per_family: 65,
                ..cfg.clone()
            },
            64,
            "species_per_family",
        ),
        (
            LookalikesConfig {
                species_per_family: 0,
                ..cfg.clone()
            },
            64,
            "species_per_family",
        ),
        (
            LookalikesConfig {
                nuisance: f64::NAN,
                ..cfg.clone()
            },
            64,
            "nuisance",
        ),
        (
            LookalikesConfig {
                nuisance: 1.6,
                ..cfg.clone()
            },
            64,
            "nuisance",
        ),
        (cfg, 4, "size"),
    ];
    for (cfg, size, name) in bad {
        let error = Lookalikes::new(&cfg, size, Split::Train)
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(error, Error::Setting { setting, .. } if setting == name),
            "{error}"
        );
    }
}

#[test]
fn any_number_of_families_and_species_has_its_own_names_and_pictures() {
    let cfg = LookalikesConfig {
        families: 20,
        species_per_family: 17,
        nuisance: 0.,
        ..LookalikesConfig::default()
    };
    let set = Lookalikes::new(&cfg, 48, Split::Train).unwrap();
    let mut names = set.classes().to_vec();
    assert_eq!(names.len(), 340);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 340);
    let scene = set.scene(0);
    let drawn: Vec<Canvas> = (0..340).map(|class| set.canvas(class, &scene)).collect();
    for (a, first) in drawn.iter().enumerate() {
        for (b, second) in drawn.iter().enumerate().skip(a + 1) {
            assert!(
                first.pixels != second.pixels,
                "{} {}",
                set.classes()[a],
                set.classes()[b]
            );
        }
    }
}

#[test]
fn a_species_alone_has_an_empty_mask() {
    let cfg = LookalikesConfig {
        species_per_family: 1,
        ..LookalikesConfig::default()
    };
    let set = Lookalikes::new(&cfg, 32, Split::Val).unwrap();
    let mask = set.part_mask(0).unwrap().expect("a mask");
    assert!(mask.values.iter().all(|&v| v == 0.));
    assert_eq!(set.id(7), "lookalikes/val/000007");
    assert_eq!(set.classes()[1], "heron-1");
}
