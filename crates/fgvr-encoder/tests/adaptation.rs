//! An adaptation as a classifier layer: what an export holds, what is read back, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::export::{Export, Format};
use fgvr_encoder::weights::{LoadOptions, Preprocessing, Weights, load};
use fgvr_encoder::{
    AdaptationLayer, Architecture, Backbone, EncoderConfig, Error, Overwrite, Pooling, Stem,
};
use fgvr_nn::{Encoder as _, NormMode, Parameters};
use fgvr_testkit::normal_values;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A ResNet-10 of 8 channels: 64 features.
fn resnet() -> EncoderConfig {
    EncoderConfig {
        width: 8,
        ..EncoderConfig::from(Architecture::ResNet10)
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A file with `weight` and `mean` of these shapes.
fn file(weight: &[usize], mean: &[usize], values: impl Fn(usize) -> Vec<f32>) -> Vec<u8> {
    let [weights, means] = [weight, mean].map(|shape| bytes_of(&values(shape.iter().product())));
    let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
    let tensors = [
        ("weight", view(weight, &weights)),
        ("mean", view(mean, &means)),
    ];
    let notes = BTreeMap::from([("kind", "nuisance"), ("images", "99")]);
    let notes = notes.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
    safetensors::serialize(tensors, Some(notes.collect())).unwrap()
}

fn layer(c: usize) -> AdaptationLayer {
    let bytes = file(&[c, c], &[c], |count| normal_values(count as u64, count));
    AdaptationLayer::from_bytes(bytes).unwrap()
}

fn variables(encoder: &EncoderConfig) -> (Parameters, Backbone) {
    let parameters = Parameters::new(7);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let network = Backbone::new(encoder, vb).unwrap();
    (parameters, network)
}

fn export(encoder: &EncoderConfig, format: Format) -> Export {
    let (parameters, _) = variables(encoder);
    Export::new(format, encoder, &parameters, &Preprocessing::imagenet()).unwrap()
}

/// An adapted export in a folder.
fn saved(encoder: &EncoderConfig, format: Format) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let c = encoder.out_channels().unwrap();
    let export = export(encoder, format).adapted(&layer(c)).unwrap();
    let directory = folder.path().join("export");
    export
        .save(directory, "# card\n", Overwrite::Never)
        .unwrap();
    folder
}

fn open(folder: &TempDir) -> Weights {
    Weights::open_file(folder.path().join("export")).unwrap()
}

/// Changes `config.json` of an export.
fn change(folder: &TempDir, how: impl FnOnce(&mut Value)) {
    let path = folder.path().join("export/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    how(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// Changes the tensors of an export.
fn retouch(folder: &TempDir, how: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.path().join("export/model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    how(&mut tensors);
    fs::write(path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
}

#[test]
fn the_layer_gives_w_of_f_less_the_mean() {
    let encoder = resnet();
    let (_, network) = variables(&encoder);
    let images = fgvr_testkit::normal(3, (2, 3, 32, 32));
    let f = network.features(&images, NormMode::Eval).unwrap().pooled;
    let adaptation = layer(64);
    let export = export(&encoder, Format::Timm).adapted(&adaptation).unwrap();
    let (w, b) = (&export.tensors()["fc.weight"], &export.tensors()["fc.bias"]);
    let folded = f.matmul(&w.t().unwrap()).unwrap().broadcast_add(b).unwrap();
    let centred = f.broadcast_sub(adaptation.mean()).unwrap();
    let direct = centred.matmul(&adaptation.weight().t().unwrap()).unwrap();
    let off = (&folded - &direct)
        .unwrap()
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap();
    let size = direct.sqr().unwrap().sum_all().unwrap();
    let error = (off / size).unwrap().to_scalar::<f32>().unwrap().sqrt();
    assert!(error < 1e-5, "{error}");
}

#[test]
fn every_format_says_what_the_layer_is_and_gives_it_back_to_the_bit() {
    let dino = EncoderConfig {
        image_size: Some(28),
        ..EncoderConfig::from(Architecture::VitSmallPatch14Dinov2)
    };
    let vit = EncoderConfig {
        image_size: Some(32),
        ..EncoderConfig::from(Architecture::VitTinyPatch16)
    };
    let published = EncoderConfig::from(Architecture::ResNet10);
    let of_patches = EncoderConfig {
        pooling: Pooling::PatchMean,
        ..dino.clone()
    };
    let lite = EncoderConfig::from(Architecture::TfEfficientNetLite0);
    let cases = [
        (lite, Format::Timm, "classifier"),
        (of_patches, Format::Transformers, "classifier"),
        (resnet(), Format::Timm, "fc"),
        (vit.clone(), Format::Timm, "head"),
        (published, Format::Transformers, "classifier.1"),
        (vit, Format::Transformers, "classifier"),
        (dino, Format::Transformers, "classifier"),
    ];
    for (encoder, format, name) in cases {
        let c = encoder.out_channels().unwrap();
        let folder = saved(&encoder, format);
        let weights = open(&folder);
        let read = weights.adaptation().unwrap().unwrap();
        let bits = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let written = layer(c);
        assert!(bits(read.weight()) == bits(written.weight()), "{encoder:?}");
        assert!(bits(read.mean()) == bits(written.mean()), "{encoder:?}");
        assert_eq!(read.notes(), written.notes());
        assert_eq!((read.width(), read.kind()), (c, "nuisance"));
        // The trunk is what it was, and the layer no part of it.
        let (parameters, _) = variables(&encoder);
        let options = LoadOptions {
            encoder: Some(encoder.clone()),
            ..LoadOptions::default()
        };
        let report = load(&parameters, &weights, &options).unwrap();
        assert!(
            report.missing.is_empty() && report.unexpected.is_empty(),
            "{report}"
        );
        assert!(
            report.notes.iter().any(|note| note.contains("adaptation")),
            "{report}"
        );
        assert_eq!(report.not_looked_at, [""; 0]);
        let told = weights.summary().to_string();
        assert!(
            told.contains("nuisance of") && told.contains("99 images"),
            "{told}"
        );
        let config: Value = serde_json::from_str(weights.config().unwrap()).unwrap();
        let mark = &config["fgvr"]["adaptation"];
        assert_eq!(
            (mark["layer"].as_str(), mark["features"].as_u64()),
            (Some(name), Some(c as u64))
        );
        let outputs = [&config["num_classes"], &config["num_labels"]];
        assert!(outputs.contains(&&json!(c)), "{config}");
        let shape = weights.tensors()[&format!("{name}.weight")].shape.clone();
        let wide = if name == "classifier" && c == 384 {
            2 * c
        } else {
            c
        };
        assert_eq!(shape, [c, wide]);
    }
}

#[test]
fn a_class_head_is_no_adaptation_and_a_mark_that_nothing_bears_out_is_refused() {
    let problem = |folder: &TempDir| open(folder).adaptation().unwrap_err().to_string();
    let fresh = || saved(&resnet(), Format::Timm);
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();

    // As many classes as features, and even the file beside it: without the mark it is a head.
    let folder = fresh();
    change(&folder, |config| {
        config["fgvr"].as_object_mut().unwrap().remove("adaptation");
    });
    assert!(open(&folder).adaptation().unwrap().is_none());
    assert!(open(&folder).summary().adaptation.is_none());

    let folder = fresh();
    fs::remove_file(folder.path().join("export/adaptation.safetensors")).unwrap();
    assert!(problem(&folder).contains("adaptation.safetensors is not beside it"));
    // The trunk can be used all the same.
    let (parameters, _) = variables(&resnet());
    load(&parameters, &open(&folder), &LoadOptions::default()).unwrap();

    for (name, what) in [
        ("fc.weight", "no tensor fc.weight"),
        ("fc.bias", "no tensor fc.bias"),
    ] {
        let folder = fresh();
        retouch(&folder, |tensors| drop(tensors.remove(name)));
        assert!(problem(&folder).contains(what), "{}", problem(&folder));
    }
    // A head over 1000 classes, one over as many classes as features, one bias of another fit.
    for (name, shape, what) in [
        (
            "fc.weight",
            &[1000, 64][..],
            "[1000, 64], expected [64, 64]",
        ),
        ("fc.weight", &[64, 64], "do not belong together"),
        ("fc.bias", &[64], "do not belong together"),
        ("fc.bias", &[65], "expected [64]"),
    ] {
        let folder = fresh();
        retouch(&folder, |tensors| {
            drop(tensors.insert(name.to_owned(), ones(shape)))
        });
        let problem = problem(&folder);
        assert!(problem.contains(what), "{problem}");
        let told = open(&folder).summary();
        assert!(
            told.adaptation.is_none() && told.notes.contains(&problem),
            "{told}"
        );
    }
    // Of another network.
    let folder = fresh();
    let path = folder.path().join("export/adaptation.safetensors");
    fs::write(&path, layer(32).bytes()).unwrap();
    assert!(
        problem(&folder).contains("32 features"),
        "{}",
        problem(&folder)
    );
    let folder = fresh();
    change(&folder, |config| {
        config["fgvr"]["adaptation"] = json!({ "kind": "nuisance" })
    });
    assert!(problem(&folder).contains("names no layer"));
    let folder = fresh();
    change(&folder, |config| {
        config["fgvr"]["adaptation"] = json!("yes")
    });
    assert!(problem(&folder).contains("config.json"));
}

#[test]
fn files_that_hold_no_adaptation_are_refused() {
    let refused = |bytes: Vec<u8>| AdaptationLayer::from_bytes(bytes).unwrap_err().to_string();
    let ones = |count| vec![1.; count];
    assert!(refused(file(&[4, 4], &[3], ones)).contains("[C] and [C, C]"));
    assert!(refused(file(&[4, 3], &[4], ones)).contains("[C] and [C, C]"));
    assert!(refused(file(&[4, 4], &[2, 2], ones)).contains("[C] and [C, C]"));
    assert!(refused(file(&[0, 0], &[0], ones)).contains("[C] and [C, C]"));
    let nan = |count| vec![f32::NAN; count];
    assert!(refused(file(&[4, 4], &[4], nan)).contains("not finite"));
    let whole = file(&[4, 4], &[4], ones);
    assert!(refused(whole[..whole.len() - 1].to_vec()).contains("truncated"));
    let other = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    let other = safetensors::serialize([("mean", &other)], None).unwrap();
    assert!(refused(other).contains("found mean"));
    assert!(refused(b"PK".to_vec()).contains("adaptation.safetensors"));
}

#[test]
fn what_has_no_place_for_it_says_so() {
    let error = |result: Result<Export, Error>| result.err().unwrap().to_string();
    let narrow = export(&resnet(), Format::Timm).adapted(&layer(32));
    assert!(error(narrow).contains("of 32 features, and the network gives 64"));
    let once = export(&resnet(), Format::Timm).adapted(&layer(64)).unwrap();
    assert!(error(once.adapted(&layer(64))).contains("already"));
    // A small stem stays an obstacle for timm, and the layer is there for whoever puts it in place.
    let small = EncoderConfig {
        stem: Stem::Small,
        ..resnet()
    };
    let adapted = export(&small, Format::Timm).adapted(&layer(64)).unwrap();
    assert!(adapted.obstacle().is_some() && adapted.tensors().contains_key("fc.bias"));
    // transformers' ViT has its classifier behind the class token.
    let patches = EncoderConfig {
        image_size: Some(32),
        pooling: Pooling::PatchMean,
        ..EncoderConfig::from(Architecture::VitTinyPatch16)
    };
    let error = error(export(&patches, Format::Transformers).adapted(&layer(192)));
    assert!(
        error.contains("patch-mean") && error.contains("--format timm"),
        "{error}"
    );
}

#[test]
fn a_folder_with_weights_and_an_adaptation_has_one_set_of_weights() {
    let folder = saved(&resnet(), Format::Timm);
    let at = |name: &str| folder.path().join("export").join(name);
    fs::rename(at("model.safetensors"), at("mine.safetensors")).unwrap();
    assert!(open(&folder).adaptation().unwrap().is_some());
    fs::remove_file(at("mine.safetensors")).unwrap();
    let error = Weights::open_file(Path::new(&at(""))).err().unwrap();
    assert!(matches!(error, Error::Directory { .. }), "{error}");
}
