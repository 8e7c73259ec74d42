//! The model card: what a stranger needs to know before using the weights.

use std::fmt::Write;
use std::fs;

use fgvr_encoder::export::{Export, Format};
use fgvr_encoder::weights::Preprocessing;
use fgvr_encoder::{
    AdaptationLayer, EncoderConfig, NetworkConfig, Pooling, Positions, Stem, VitConfig,
};
use serde_json::Value;

use super::{ExportOptions, Of};
use crate::checkpoint::Which;
use crate::config::PretrainConfig;
use crate::judged_on::JudgedOn;
use crate::{Result, RunFolder};

/// The card as Markdown with the Hub's front matter.
///
/// # Errors
/// An encoder configuration without a network.
pub(super) fn card(
    run: &RunFolder,
    config: &PretrainConfig,
    export: &Export,
    view: &Preprocessing,
    of: Of,
    options: &ExportOptions,
) -> Result<String> {
    let mut text = front_matter(export, options.license.as_deref());
    let name = run.path().file_name();
    let name = name.map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
    let _ = writeln!(text, "# {name}\n");
    notice(&mut text, run, of);
    if let Some(share) = options.toward_start {
        let _ = writeln!(
            text,
            "**These weights lie between two networks: {share} of the start's and {} of what was trained, running statistics of \
             norms too. Figures below are of what was trained.**\n",
            1. - share
        );
    }
    let what = match of {
        Of::Trained { .. } => "that fgvr trained to tell look-alikes apart, from unlabelled photos",
        Of::Start => "with the pretrained weights that a run of fgvr started from",
    };
    let _ = writeln!(
        text,
        "A {} {what}. It turns an image of {} x {} px into {} features.\n",
        config.encoder.architecture,
        view.size[0],
        view.size[1],
        config.encoder.out_channels()?,
    );
    hidden(&mut text, &config.encoder)?;
    usage(&mut text, &config.encoder, export);
    training(&mut text, run, config, of, options);
    figures(&mut text, run);
    last(&mut text, view, options.license.as_deref());
    Ok(text)
}

/// A short card of an encoder that is of no run of ours.
///
/// # Errors
/// An encoder configuration without a network.
pub(super) fn adapted(
    name: &str,
    encoder: &EncoderConfig,
    export: &Export,
    view: &Preprocessing,
) -> Result<String> {
    let mut text = front_matter(export, None);
    let _ = writeln!(text, "# {name}\n");
    let adapted = match export.adaptation() {
        Some(_) => ", adapted by fgvr to a set of unlabelled photos",
        None => "",
    };
    let _ = writeln!(
        text,
        "A {}{adapted}. It turns an image of {} x {} px into {} features.\n",
        encoder.architecture,
        view.size[0],
        view.size[1],
        encoder.out_channels()?,
    );
    if export.adaptation().is_some() {
        let _ = writeln!(
            text,
            "Its classifier layer is no head over classes: its outputs are the features f transformed to W (f - μ), in \
             which what augmented views of one photo differ by counts less. Compare them by cosine. W and μ lie in \
             `{}` by name.\n",
            AdaptationLayer::FILE
        );
    }
    hidden(&mut text, encoder)?;
    usage(&mut text, encoder, export);
    last(&mut text, view, None);
    Ok(text)
}

/// What the tensors of a transformer do not show.
fn hidden(text: &mut String, encoder: &EncoderConfig) -> Result<()> {
    if let NetworkConfig::Vit(vit) = encoder.network()? {
        let positions = match vit.positions {
            Positions::Learned => "learned",
            Positions::Sincos => "fixed, of sines and cosines",
        };
        let _ = writeln!(
            text,
            "Its tensors do not show this: attention has {} heads, norms an epsilon of {:e}, and the position \
             embedding was {positions}.\n",
            vit.heads, vit.norm_eps,
        );
    }
    Ok(())
}

fn last(text: &mut String, view: &Preprocessing, license: Option<&str>) {
    let _ = writeln!(text, "## Preprocessing\n\nImages: {view}.\n");
    let license = license.unwrap_or("not stated; ask whoever trained it");
    let _ = writeln!(
        text,
        "## Licence\n\n{license}. The photos and the weights it started from have licences of their \
         own.",
    );
}

/// What has to be known before anything else: that the run was better before it was trained.
fn notice(text: &mut String, run: &RunFolder, of: Of) {
    let against = json(run, "eval.json").map(|evaluation| evaluation["against_start"].clone());
    let Some(against) = against.filter(|against| against["is_below"] == true) else {
        return;
    };
    let which = match of {
        Of::Trained { .. } => "These are the weights that were trained",
        Of::Start => "These are the weights of the start, not what was trained",
    };
    let line = against["line"].as_str().unwrap_or("ended below its start");
    let _ = writeln!(text, "**{which}: {line}.**\n");
}

fn json(run: &RunFolder, file: &str) -> Option<Value> {
    serde_json::from_slice(&fs::read(run.join(file)).ok()?).ok()
}

fn front_matter(export: &Export, license: Option<&str>) -> String {
    let library = match (export.format(), export.obstacle()) {
        (Format::Transformers, _) => "transformers",
        (Format::Timm, None) => "timm",
        (Format::Timm, Some(_)) => "fgvr",
    };
    let license = license.unwrap_or("other");
    format!(
        "---\nlibrary_name: {library}\nlicense: {license}\npipeline_tag: image-feature-extraction\n\
         tags:\n- fgvr\n- {library}\n- self-supervised\n- fine-grained\n---\n\n"
    )
}

/// The section on how to load an export.
pub(super) fn usage_of(encoder: &EncoderConfig, export: &Export) -> String {
    let mut text = String::new();
    usage(&mut text, encoder, export);
    text
}

fn usage(text: &mut String, encoder: &EncoderConfig, export: &Export) {
    let adapted = export.adaptation().map(AdaptationLayer::width);
    text.push_str("## Use\n\nWith `DIR` for the directory of this file:\n\n");
    text.push_str("```sh\nfgvr embed --weights DIR --data photos/ --out photos.npz\n```\n\n");
    match (export.format(), export.obstacle()) {
        (Format::Transformers, _) if adapted.is_some() => {
            text.push_str(
                "```python\nfrom transformers import AutoModelForImageClassification\n\
                 model = AutoModelForImageClassification.from_pretrained(\"DIR\")\n\
                 features = model(pixel_values=images).logits\n```\n\n",
            );
        }
        (Format::Transformers, _) => {
            // A ViTModel would add a layer that nobody trained.
            let bare = match export.config()["model_type"].as_str() {
                Some("vit") => ", add_pooling_layer=False",
                _ => "",
            };
            let _ = write!(
                text,
                "```python\nfrom transformers import AutoModel\n\
                 model = AutoModel.from_pretrained(\"DIR\"{bare})\n```\n\n"
            );
        }
        (Format::Timm, None) => {
            text.push_str(
                "```python\nimport timm\nmodel = timm.create_model(\"local-dir:DIR\", pretrained=True).eval()\n```\n\n",
            );
            if adapted.is_some() {
                text.push_str(
                    "`model(images)` gives the adapted features; with `num_classes=0` timm leaves the adaptation off.\n\n",
                );
            }
            torchvision(text, encoder, adapted);
        }
        (Format::Timm, Some(obstacle)) => {
            let _ = writeln!(
                text,
                "Names are timm's and torchvision's, but {obstacle}.{}\n",
                glue(encoder, adapted)
            );
        }
    }
}

/// How torchvision loads it, or that it has no such network.
fn torchvision(text: &mut String, encoder: &EncoderConfig, adapted: Option<usize>) {
    let name = encoder.architecture.name();
    let architecture = encoder.architecture;
    if architecture.is_vit()
        || architecture.is_efficientnet()
        || matches!(name, "resnet10" | "resnet14")
    {
        if adapted.is_some() {
            let also = match architecture.is_efficientnet() {
                true => "; nor has transformers",
                false => "",
            };
            let _ = writeln!(
                text,
                "torchvision has no network whose tensors have these names{also}.\n"
            );
        }
        return;
    }
    let built = match adapted {
        Some(width) => format!("model = torchvision.models.{name}(num_classes={width})"),
        None => {
            format!("model = torchvision.models.{name}()\nmodel.fc = torch.nn.Identity()")
        }
    };
    let _ = write!(
        text,
        "```python\nimport torch, torchvision\nfrom safetensors.torch import load_file\n\
         {built}\nmodel.load_state_dict(load_file(\"DIR/model.safetensors\"), strict=True)\n```\n\n"
    );
}

/// How PyTorch gets the pooling that timm has not: both halves, one behind the other.
fn both(encoder: &EncoderConfig, vit: &VitConfig, adapted: Option<usize>) -> String {
    // timm has no place for a layer of that width.
    let (layer, end) = match adapted {
        Some(_) => (
            "weight, bias = state.pop(\"head.weight\"), state.pop(\"head.bias\")\n",
            "\nfeatures = torch.nn.functional.linear(features, weight, bias)",
        ),
        None => ("", ""),
    };
    format!(
        " With the two put side by side the features are the same:\n\n```python\nimport timm, torch\n\
         from safetensors.torch import load_file\n\
         model = timm.create_model(\"{}\", num_classes=0, img_size={}, patch_size={}, num_heads={}).eval()\n\
         state = load_file(\"DIR/model.safetensors\")\n{layer}\
         model.load_state_dict(state, strict=True)\n\
         tokens = model.forward_features(images)\n\
         patches = tokens[:, model.num_prefix_tokens:].mean(1)\n\
         features = torch.cat([tokens[:, 0], patches], 1){end}\n```",
        encoder.architecture, vit.image_size, vit.patch_size, vit.heads,
    )
}

/// How PyTorch gets the small stem, or the pooling that timm has not.
fn glue(encoder: &EncoderConfig, adapted: Option<usize>) -> String {
    if let Ok(NetworkConfig::Vit(vit)) = encoder.network()
        && vit.pooling == Pooling::Both
        && vit.norm_eps <= 1e-6
    {
        return both(encoder, &vit, adapted);
    }
    if encoder.width != 64 || encoder.stem != Stem::Small {
        return String::new();
    }
    let name = encoder.architecture.name();
    if matches!(name, "resnet10" | "resnet14") {
        return String::new();
    }
    let (outputs, end) = match adapted {
        Some(width) => (
            format!("num_classes={width}"),
            "model.maxpool = torch.nn.Identity()",
        ),
        None => (
            String::new(),
            "model.maxpool = model.fc = torch.nn.Identity()",
        ),
    };
    format!(
        " With its stem put in place they load strictly:\n\n```python\nimport torch, torchvision\n\
         from safetensors.torch import load_file\nmodel = torchvision.models.{name}({outputs})\n\
         model.conv1 = torch.nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)\n\
         {end}\n\
         model.load_state_dict(load_file(\"DIR/model.safetensors\"), strict=True)\n```"
    )
}

fn training(
    text: &mut String,
    run: &RunFolder,
    config: &PretrainConfig,
    of: Of,
    options: &ExportOptions,
) {
    let json = |file: &str| json(run, file);
    let step = match of {
        Of::Trained { step } => step,
        Of::Start => 0,
    };
    let mut rows = vec![
        ("method", config.method()),
        ("start", start(config, json("weights.json").as_ref())),
        ("optimiser", config.recipe()),
        ("data", config.source.clone()),
        ("optimiser steps", step.to_string()),
        ("images a step", config.loader.batch.to_string()),
        ("seed", config.seed.to_string()),
        (
            "checkpoint",
            match options.which {
                Which::Last => "the last".to_owned(),
                Which::BestVal => "the best by kNN on held-out training images".to_owned(),
            },
        ),
    ];
    if let Some(evaluation) = json("eval.json") {
        rows.push(("training images", evaluation["train_images"].to_string()));
        let (name, key, _) = judged(&evaluation);
        rows.push((name, evaluation[key].to_string()));
    }
    // Rows, not lines: a name may hold the end of one.
    let aside = csv::Reader::from_path(run.join("quarantine.csv"));
    let aside = aside.map_or(0, |mut table| table.byte_records().count());
    rows.push(("unreadable images set aside", aside.to_string()));
    if let Some(environment) = json("env.json") {
        let text = |key: &str| environment[key].as_str().unwrap_or("unknown").to_owned();
        rows.push((
            "machine",
            format!(
                "{} ({}, {} threads)",
                text("processor"),
                text("platform"),
                environment["threads"]
            ),
        ));
        rows.push(("fgvr", text("version")));
    }
    text.push_str("## Training\n\n| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push('\n');
}

/// What the weights were before training.
fn start(config: &PretrainConfig, report: Option<&Value>) -> String {
    if config.weights.source.is_empty() {
        return "random weights".to_owned();
    }
    let files = report.and_then(|report| report["files"].as_array());
    let files = files.into_iter().flatten().map(|file| {
        let text = |key: &str| file[key].as_str().unwrap_or("unknown");
        format!(
            "{} (SHA-256 {})",
            text("path").rsplit('/').next().unwrap_or_default(),
            text("sha256")
        )
    });
    let files: Vec<String> = files.collect();
    format!("{}: {}", config.weights.source, files.join(", "))
}

/// How images that figures are of are called, where `eval.json` counts them, and what to know of them.
fn judged(evaluation: &Value) -> (&'static str, &'static str, &'static str) {
    let on = evaluation["judged_on"].as_str();
    if on == Some(JudgedOn::Validation.name()) {
        (
            "validation images",
            "validation_images",
            ", since there were no test images with labels: training has not seen them, and the checkpoint \
             `best-val` is chosen by them",
        )
    } else if on == Some(JudgedOn::Test.name()) {
        ("test images", "test_images", "; nothing was chosen on them")
    } else {
        // A version that did not say which wrote it.
        (
            "held-out images",
            "test_images",
            "; training has not seen them",
        )
    }
}

/// The last evaluation, and the best validation figure beside it.
fn figures(text: &mut String, run: &RunFolder) {
    let Some(evaluation) = fs::read(run.join("eval.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
    else {
        return;
    };
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or("-".to_owned(), |v| format!("{:.1}", 100. * v))
    };
    let (judged, _, about) = judged(&evaluation);
    let _ = write!(
        text,
        "## Figures\n\nFrozen features of the last checkpoint, in percent of the {judged}{about}.\n\n\
         | features | kNN | linear | rank 1 | mAP |\n|---|---|---|---|---|\n",
    );
    for kind in ["trained", "screened", "start", "untrained", "pixels"] {
        let of = &evaluation[kind];
        if of.is_null() {
            continue;
        }
        let cells = [
            &of["knn"]["top1"],
            &of["linear"]["top1"],
            &of["retrieval"]["rank1"],
            &of["retrieval"]["map"],
        ];
        let _ = writeln!(text, "| {kind} | {} |", cells.map(percent).join(" | "));
    }
    text.push('\n');
}
