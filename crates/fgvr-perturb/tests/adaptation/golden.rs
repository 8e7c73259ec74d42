//! Against NumPy (`tests/golden/adaptation.py`).

use candle_core::Tensor;
use fgvr_perturb::{
    AdaptConfig, AdaptKind, Adaptation, NuisanceCovariance, mutual_neighbours, neighbour_covariance,
};
use fgvr_testkit::{assert_close_values, golden};

fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn covariances_are_those_of_the_definition() {
    let golden = golden("adaptation.safetensors");
    let (features, views) = (golden.get("features"), golden.get("views"));
    let width = features.dim(1).unwrap();
    let mut statistics = NuisanceCovariance::new(width).unwrap();
    statistics.add_plain(&f32s(&features)).unwrap();
    statistics
        .add_views(&f32s(&views), views.dim(1).unwrap())
        .unwrap();
    let (mean, total) = statistics.mean_and_total().unwrap();
    let close = |name: &str, found: &[f64]| {
        assert_close_values(name, found, &f64s(&golden.get(name)), 1e-12);
    };
    close("mean", &mean);
    close("total", &total);
    close("within", &statistics.within().unwrap());
}

#[test]
fn mutual_neighbours_and_their_covariance_are_those_of_the_definition() {
    let golden = golden("adaptation.safetensors");
    let features = f32s(&golden.get("features"));
    let width = golden.get("mean").dim(0).unwrap();
    let whitened: Vec<f32> = f64s(&golden.get("nuisance_outputs"))
        .into_iter()
        .map(|value| value as f32)
        .collect();
    let pairs = mutual_neighbours(&whitened, width, 3).unwrap();
    let expected: Vec<(u32, u32)> = golden
        .get("pairs")
        .to_vec2::<i64>()
        .unwrap()
        .into_iter()
        .map(|pair| (pair[0] as u32, pair[1] as u32))
        .collect();
    assert_eq!(pairs, expected);
    let covariance = neighbour_covariance(&features, width, &pairs).unwrap();
    let expected = f64s(&golden.get("neighbour_covariance"));
    assert_close_values("neighbour_covariance", &covariance, &expected, 1e-12);
}

#[test]
fn every_kind_has_the_weight_and_the_outputs_of_the_definition() {
    let golden = golden("adaptation.safetensors");
    let (features, views) = (golden.get("features"), golden.get("views"));
    let mut statistics = NuisanceCovariance::new(features.dim(1).unwrap()).unwrap();
    statistics.add_plain_tensor(&features).unwrap();
    statistics.add_views_tensor(&views).unwrap();
    let features = f32s(&features);
    let mut compared = 0;
    for kind in AdaptKind::ALL {
        // NumPy does not draw the same basis; the test of the control stands beside it.
        if kind == AdaptKind::RandomBasis {
            continue;
        }
        let cfg = AdaptConfig {
            kind,
            neighbours: 3,
            ..AdaptConfig::default()
        };
        let adaptation = Adaptation::fit(&statistics, Some(&features), &cfg).unwrap();
        let expected = f64s(&golden.get(&format!("{kind}_weight")));
        // W is rounded to f32 once.
        assert_close_values(kind.name(), &wide(adaptation.weight()), &expected, 6e-8);
        let mean = f64s(&golden.get("mean"));
        assert_close_values("mean", &wide(adaptation.mean()), &mean, 6e-8);
        let outputs = adaptation.apply(&features).unwrap();
        let expected = f64s(&golden.get(&format!("{kind}_outputs")));
        assert_close_values(kind.name(), &wide(&outputs), &expected, 1e-6);
        let fitted = adaptation.fitted();
        assert!(fitted.rounding > 0. && fitted.rounding <= 2f64.powi(-24));
        if let Some(rank) = fitted.effective_rank {
            let expected = f64s(&golden.get("effective_rank"));
            assert_close_values("effective_rank", &[rank], &expected, 1e-12);
        }
        compared += 1;
    }
    assert_eq!(compared, 6);
}
