use super::*;
use crate::Silent;

/// 20 classes of 6 training and 4 test rows; `noise` says how far rows are from their class.
fn table(noise: f32, seed: usize) -> EmbeddingTable {
    let width = 16;
    let value = |i: usize| ((i * 7919 + seed * 104_729 + 13) % 1009) as f32 / 504.5 - 1.;
    let centre = |class: usize, d: usize| ((class * 31 + d * 17 + class * d) % 11) as f32 / 5. - 1.;
    let mut table = EmbeddingTable {
        features: Vec::new(),
        width,
        paths: Vec::new(),
        splits: Vec::new(),
        labels: Vec::new(),
        classes: (0..20).map(|class| format!("c{class}")).collect(),
        device: "cpu".to_owned(),
        adaptation: None,
    };
    for row in 0..200 {
        let class = row % 20;
        for d in 0..width {
            table
                .features
                .push(centre(class, d) + noise * value(row * width + d));
        }
        let split = if row < 120 { "train" } else { "test" };
        table.paths.push(format!("{split}/{row}.jpg"));
        table.splits.push(split);
        table.labels.push(class as i64);
    }
    table
}

fn side(name: &str, tables: Vec<EmbeddingTable>) -> Side {
    Side {
        name: name.to_owned(),
        tables,
    }
}

fn options(figures: &[CompareFigure]) -> CompareOptions {
    CompareOptions {
        figures: figures.to_vec(),
        ..CompareOptions::default()
    }
}

#[test]
fn clearer_features_are_better_and_the_same_are_not_told_apart() {
    let sides = [
        side("noisy", vec![table(3., 1)]),
        side("clear", vec![table(0.5, 2)]),
        side("again", vec![table(3., 1)]),
    ];
    let figures = [CompareFigure::Knn, CompareFigure::Map];
    let found = compare(&sides, &options(&figures), &mut Silent).unwrap();
    assert_eq!(
        (found.images, found.classes, found.comparisons.len()),
        (80, 20, 4)
    );
    for comparison in &found.comparisons {
        let (clear, mean) = (comparison.name == "clear", comparison.difference.mean);
        assert!((comparison.value - comparison.reference - mean).abs() < 1e-9);
        assert!(comparison.p_corrected >= comparison.p);
        let expected = if clear {
            "better"
        } else {
            "no difference shown"
        };
        assert_eq!(comparison.verdict, expected, "{comparison:?}");
        assert_eq!(comparison.p == 1., !clear);
        assert_eq!(comparison.over_seeds, None);
    }
    let turned = [sides[1].clone(), sides[0].clone()];
    let found = compare(&turned, &options(&figures), &mut Silent).unwrap();
    assert!(
        found
            .comparisons
            .iter()
            .all(|comparison| comparison.verdict == "worse")
    );
}

#[test]
fn rows_are_paired_by_name_and_seeds_in_their_order() {
    let mut shuffled = table(2., 3);
    for (a, b) in [(120, 199), (130, 150)] {
        shuffled.paths.swap(a, b);
        shuffled.labels.swap(a, b);
        for d in 0..shuffled.width {
            shuffled.features.swap(a * 16 + d, b * 16 + d);
        }
    }
    let sides = [
        side("a", vec![table(2., 3), table(2., 4)]),
        side("b", vec![shuffled, table(2., 4)]),
    ];
    let found = compare(&sides, &options(&[CompareFigure::Map]), &mut Silent).unwrap();
    let comparison = &found.comparisons[0];
    assert_eq!((comparison.difference.mean, comparison.p), (0., 1.));
    assert_eq!(comparison.over_seeds, Some(0.));
}

#[test]
fn sides_of_other_images_or_classes_are_refused_by_name() {
    let mut other = table(1., 1);
    other.paths[130] = "test/new.jpg".to_owned();
    let sides = [side("a", vec![table(1., 1)]), side("b", vec![other])];
    let knn = options(&[CompareFigure::Knn]);
    let error = compare(&sides, &knn, &mut Silent).unwrap_err().to_string();
    assert!(
        error.contains("1 are only there and 1 only here, such as test/130.jpg"),
        "{error}"
    );
    let common = CompareOptions {
        common: true,
        ..knn.clone()
    };
    assert_eq!(compare(&sides, &common, &mut Silent).unwrap().images, 79);
    let mut other = table(1., 1);
    other.labels[130] = 3;
    let sides = [side("a", vec![table(1., 1)]), side("b", vec![other])];
    let error = compare(&sides, &knn, &mut Silent).unwrap_err().to_string();
    assert!(
        error.contains("test/130.jpg is of class c3, and a says c10"),
        "{error}"
    );
    assert!(compare(&sides[..1], &knn, &mut Silent).is_err());
    let wide = CompareOptions { alpha: 1., ..knn };
    assert!(compare(&sides, &wide, &mut Silent).is_err());
}
