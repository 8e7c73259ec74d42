//! Saving and loading.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{
    Error, LoadOptions, LoadReport, Overwrite, ResNet, ResNetConfig, Stem, Weights, save,
};
use fgvr_nn::Parameters;

fn parameters(seed: u64, depth: usize) -> Parameters {
    let config = ResNetConfig {
        depth,
        width: 4,
        stem: Stem::Small,
        ..ResNetConfig::default()
    };
    let parameters = Parameters::new(seed);
    ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    parameters
}

fn load(parameters: &Parameters, file: impl AsRef<Path>) -> Result<LoadReport, Error> {
    let weights = Weights::open_file(file)?;
    fgvr_encoder::load(parameters, &weights, &LoadOptions::default())
}

fn bits(parameters: &Parameters) -> BTreeMap<String, Vec<u32>> {
    let values = |var: &Tensor| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    parameters
        .all()
        .into_iter()
        .map(|(name, var)| (name, values(&var).into_iter().map(f32::to_bits).collect()))
        .collect()
}

fn notes() -> BTreeMap<String, String> {
    [
        ("arch", "resnet10"),
        ("format", "pt"),
        ("quote", "a \"b\"\n"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The tensors of a file, changed, in another file.
fn rewrite(from: &Path, to: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(from, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, to).unwrap();
}

#[test]
fn a_round_trip_restores_every_bit_and_the_notes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let (from, to) = (parameters(1, 10), parameters(2, 10));
    assert_ne!(bits(&from), bits(&to));
    save(&file, &from, &notes(), Overwrite::Never).unwrap();
    let report = load(&to, &file).unwrap().strict().unwrap();
    assert_eq!(bits(&from), bits(&to));
    assert_eq!(report.metadata, notes());
    assert_eq!(report.loaded.len(), from.all().len());
    assert!(
        report
            .loaded
            .iter()
            .any(|name| name == "layer2.0.downsample.1.running_var")
    );
    // Nothing else is left in the folder, and the same call writes the same bytes.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let first = fs::read(&file).unwrap();
    save(&file, &from, &notes(), Overwrite::Replace).unwrap();
    assert_eq!(first, fs::read(&file).unwrap());
}

#[test]
fn an_existing_file_is_kept_unless_replacing_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    fs::write(&file, "precious").unwrap();
    let model = parameters(1, 10);
    let error = save(&file, &model, &notes(), Overwrite::Never).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    save(&file, &model, &notes(), Overwrite::Replace).unwrap();
    load(&model, &file).unwrap().strict().unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none").join("model.safetensors");
    let error = save(&file, &parameters(1, 10), &notes(), Overwrite::Never).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("model.safetensors"));
    assert!(matches!(
        load(&parameters(1, 10), &file),
        Err(Error::Io { .. })
    ));
}

#[test]
fn a_truncated_file_says_so_wherever_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let model = parameters(1, 10);
    save(&file, &model, &notes(), Overwrite::Never).unwrap();
    let whole = fs::read(&file).unwrap();
    let before = bits(&model);
    fs::write(&file, []).unwrap();
    let error = load(&model, &file).unwrap_err();
    assert!(matches!(error, Error::NotWeights { .. }), "{error}");
    assert!(error.to_string().contains("an empty file"), "{error}");
    for length in [5, 8, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        match load(&model, &file).unwrap_err() {
            Error::Length {
                expected, found, ..
            } => {
                assert_eq!(found, length as u64);
                assert!(expected > found, "cut to {length}: expected {expected}");
            }
            error => panic!("cut to {length}: {error}"),
        }
    }
    fs::write(&file, [&whole[..], &b"more"[..]].concat()).unwrap();
    let error = load(&model, &file).unwrap_err();
    assert!(
        matches!(error, Error::Length { expected, .. } if expected == whole.len() as u64),
        "{error}"
    );
    assert_eq!(before, bits(&model));
}

#[test]
fn a_file_of_another_format_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pth");
    fs::write(&file, "PK\x03\x04 a zip archive, as torch.save writes").unwrap();
    let error = load(&parameters(1, 10), &file).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn the_classifier_and_the_batch_counter_are_ignored_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (file, torch) = (folder.path().join("a"), folder.path().join("b"));
    let (from, to) = (parameters(1, 10), parameters(2, 10));
    save(&file, &from, &notes(), Overwrite::Never).unwrap();
    rewrite(&file, &torch, |tensors| {
        let one = Tensor::new(&[1i64], &Device::Cpu).unwrap();
        tensors.insert("bn1.num_batches_tracked".into(), one);
        let fc = Tensor::zeros((1000, 32), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("fc.weight".into(), fc);
    });
    let report = load(&to, &torch).unwrap().strict().unwrap();
    let ignored: Vec<&str> = report.ignored.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(ignored, ["bn1.num_batches_tracked", "fc.weight"]);
    assert_eq!(bits(&from), bits(&to));
}

#[test]
fn missing_weights_are_an_error_unless_allowed_and_strict_refuses_them_still() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a"), folder.path().join("b"));
    let model = parameters(1, 10);
    save(&file, &model, &notes(), Overwrite::Never).unwrap();
    rewrite(&file, &other, |tensors| {
        let weight = tensors.remove("conv1.weight").unwrap();
        tensors.insert("conv9.weight".into(), weight);
    });
    let error = load(&model, &other).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("it lacks conv1.weight; it has conv9.weight"),
        "{text}"
    );
    let allowed = LoadOptions {
        allow_missing: vec!["conv1.weight".into()],
        allow_mismatch: vec!["conv9.weight".into()],
        ..LoadOptions::default()
    };
    let weights = Weights::open_file(&other).unwrap();
    let report = fgvr_encoder::load(&model, &weights, &allowed).unwrap();
    assert_eq!(report.missing, ["conv1.weight"]);
    assert_eq!(report.unexpected, ["conv9.weight"]);
    let error = report.strict().unwrap_err().to_string();
    assert!(
        error.contains(r#"missing ["conv1.weight"]; unexpected ["conv9.weight"]"#),
        "{error}"
    );
}

#[test]
fn any_prefix_is_found_and_names_of_no_network_load_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a"), folder.path().join("b"));
    let model = parameters(1, 10);
    save(&file, &model, &notes(), Overwrite::Never).unwrap();
    let renamed = |rename: &dyn Fn(String) -> String| {
        rewrite(&file, &other, |tensors| {
            let renamed = tensors.drain().map(|(name, t)| (rename(name), t));
            *tensors = renamed.collect();
        });
    };
    for prefix in [
        "module.",
        "_orig_mod.",
        "net.encoder.",
        "my own.timm_model.",
    ] {
        renamed(&|name| format!("{prefix}{name}"));
        let to = parameters(2, 10);
        let report = load(&to, &other).unwrap().strict().unwrap();
        assert_eq!(report.prefix, prefix);
        assert_eq!(bits(&model), bits(&to));
    }
    renamed(&|name| name.replace(['1', '2', '3', '4'], "x"));
    let error = load(&parameters(2, 10), &other).unwrap_err();
    assert!(matches!(error, Error::NothingLoaded { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(r#"expected names like "bn1.bias""#),
        "{error}"
    );
}

#[test]
fn another_depth_names_both_networks_and_sets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resnet14.safetensors");
    save(&file, &parameters(1, 14), &notes(), Overwrite::Never).unwrap();
    let model = parameters(2, 10);
    let before = bits(&model);
    let error = load(&model, &file).unwrap_err();
    assert!(matches!(error, Error::Architecture { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("holds a ResNet of 1, 1, 1 and 1 bottlenecks")
            && error.contains("expected a ResNet of 1, 1, 1 and 1 basic blocks"),
        "{error}"
    );
    assert_eq!(before, bits(&model));
}

#[test]
fn half_precision_loads_and_other_types_and_nan_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a"), folder.path().join("b"));
    let model = parameters(1, 10);
    save(&file, &model, &notes(), Overwrite::Never).unwrap();
    let replace = |value: Tensor| {
        rewrite(&file, &other, |tensors| {
            tensors.insert("bn1.bias".into(), value);
        });
        load(&parameters(2, 10), &other)
    };
    let half = Tensor::full(0.5f32, 4, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F16)
        .unwrap();
    replace(half).unwrap().strict().unwrap();
    let integers = replace(Tensor::zeros(4, DType::I64, &Device::Cpu).unwrap()).unwrap_err();
    assert!(matches!(integers, Error::DataType { .. }), "{integers}");
    let nan = replace(Tensor::full(f32::NAN, 4, &Device::Cpu).unwrap()).unwrap_err();
    assert!(
        nan.to_string()
            .ends_with("bn1.bias holds a value that is not finite"),
        "{nan}"
    );
}
