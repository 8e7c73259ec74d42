//! Local discrimination through the program: a small transformer and a residual network.

mod common;

use common::{Place, last_checkpoint};

const VIT: [&str; 9] = [
    "encoder.architecture=vit_tiny_patch16_224",
    "encoder.stem=imagenet",
    "encoder.width=64",
    "encoder.patch_size=8",
    "encoder.image_size=32",
    "base=moco-v3",
    "moco_v3.hidden=16",
    "optimizer.kind=adamw",
    "optimizer.lr=1e-3",
];

/// The setting list of the released form.
const RELEASED: [&str; 6] = [
    "moco_v3.projector_layers=0",
    "moco_v3.updates_per_step=4",
    "moco_v3.predictor_dropout=0.2",
    "moco_v3.momentum=0.99",
    "optimizer.weight_decay=0.5",
    "optimizer.warm_up=0",
];

fn arguments<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let all = ["addons=[\"lodisc\"]", "arm=base"].into_iter();
    let all = all.chain(settings.iter().copied());
    all.flat_map(|setting| ["--set", setting]).collect()
}

/// A run of `steps` and one cut in the middle and resumed: same bits, and a local loss at every step.
fn resumes(settings: &[&str], steps: u64) {
    let place = Place::new();
    let (length, every) = (
        format!("optimizer.steps={steps}"),
        format!("checkpoint.every={}", steps / 2),
    );
    let more = [
        length.as_str(),
        &every,
        "checkpoint.keep=5",
        "monitor.pictures_every=0",
    ];
    for out in ["whole", "cut"] {
        let set = arguments(&[settings, &more].concat());
        let run = place.pretrain(&[&["--out", out][..], &set].concat());
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{stderr}");
    }
    let metrics = std::fs::read_to_string(place.join("whole/metrics.jsonl")).expect("metrics");
    for line in metrics.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a row");
        let [total, global, local] = ["loss", "loss_contrastive", "loss_local"].map(|name| {
            row[name]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}: {row}"))
        });
        assert!((total - global - local).abs() < 1e-6, "{row}");
    }
    // As if it had been stopped half way.
    let checkpoints = place.join("cut/checkpoints");
    std::fs::remove_dir_all(checkpoints.join(format!("step-{steps:08}"))).expect("the last one");
    let half = format!("step-{:08}", steps / 2);
    std::fs::write(checkpoints.join("last"), half).expect("last");
    let resumed = place
        .fgvr(&["pretrain", "--resume", "cut"])
        .output()
        .expect("fgvr starts");
    let stderr = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{stderr}");
    let same = last_checkpoint(&place.join("whole")) == last_checkpoint(&place.join("cut"));
    assert!(same, "{settings:?}");
}

#[test]
fn a_transformer_on_moco_v3_resumes_with_the_same_bits() {
    resumes(&VIT, 2);
}

#[test]
fn the_released_form_resumes_with_the_same_bits() {
    resumes(&[&VIT[..], &RELEASED].concat(), 2);
}

#[test]
fn a_residual_network_on_moco_v2_resumes_with_the_same_bits() {
    resumes(&["base=moco-v2"], 6);
}

#[test]
fn the_queue_of_whole_images_of_before_resumes_with_the_same_bits() {
    resumes(&["base=moco-v2", "lodisc.negatives=whole"], 2);
}

/// A run's settings name which negatives it has, and without the name they are those of before.
#[test]
fn new_runs_have_masked_negatives_and_settings_that_do_not_say_so_have_whole_ones() {
    let place = Place::new();
    let new = place.config(&["base=moco-v2", "arm=base", "addons=[\"lodisc\"]"]);
    let text = new.to_toml().expect("settings as text");
    let named = "negatives = \"masked\"\n";
    assert!(text.contains(named), "{text}");
    let old = toml::from_str::<fgvr_train::PretrainConfig>(&text.replace(named, ""));
    let old = old.expect("settings without it").methods;
    let old = old.get::<fgvr_ssl::LoDiscConfig>();
    assert_eq!(old.negatives, fgvr_ssl::LocalNegatives::Whole);
}

#[test]
fn a_transformer_that_pools_its_patches_carries_what_reads_places() {
    let mean = [
        "encoder.pooling=patch-mean",
        "synthpair.bank_minimum=16",
        "synthpair.warm_up=0",
    ];
    let more: [&[&str]; 3] = [
        &["addons=[\"lcr\", \"lodisc\"]"],
        &["lodisc.regions=grad-cam", "base=moco-v2"],
        &[
            "addons=[]",
            "arm=full",
            "synthpair.space=map",
            "decoder.channels=8",
        ],
    ];
    for settings in more {
        let place = Place::new();
        let all = [&VIT[..], &mean, settings, &["optimizer.steps=2"]].concat();
        let run = place.pretrain(&[&["--out", "run"][..], &arguments(&all)].concat());
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{settings:?}: {stderr}");
        let metrics = std::fs::read_to_string(place.join("run/metrics.jsonl")).expect("metrics");
        let last: serde_json::Value =
            serde_json::from_str(metrics.lines().last().expect("a row")).expect("JSON");
        let has = |name: &str| last[name].is_number();
        let wanted: &[&str] = match settings[0] {
            "addons=[]" => &["loss_reconstruction", "loss_pair"],
            "lodisc.regions=grad-cam" => &["loss_local"],
            _ => &["loss_lcr", "lcr_correlation", "loss_local"],
        };
        assert!(wanted.iter().all(|name| has(name)), "{settings:?}: {last}");
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let place = Place::new();
    let vit = |more: &[&'static str]| [&VIT[..], more].concat();
    for (settings, words) in [
        (vec!["lodisc.weight=-1"], &["lodisc.weight", "found -1"][..]),
        (vec!["lodisc.fraction=0"], &["lodisc.fraction", "found 0"]),
        (
            vec!["lodisc.fraction=0.1"],
            &["lodisc.fraction", "keeps 0 of 4 cells"],
        ),
        (
            vec!["lodisc.regions=attention"],
            &["lodisc.regions", "grad-cam", "resnet10"],
        ),
        (vec!["data.size=16"], &["lodisc", "the map has 1 cell"]),
        (
            vec!["data.size=50"],
            &["lodisc", "multiples of the map's side 4"],
        ),
        (
            vit(&["lodisc.regions=grad-cam"]),
            &["lodisc.regions", "expected attention"],
        ),
        (
            vit(&["lodisc.regions=product"]),
            &["lodisc.regions", "auto-by-encoder"],
        ),
        (
            vit(&["data.size=36"]),
            &["data.size", "multiple of the patch size 8"],
        ),
        (
            vit(&["encoder.image_size=36"]),
            &["image_size is 36", "patch_size, 8"],
        ),
        (
            vec!["moco_v3.predictor_dropout=1", "base=moco-v3"],
            &["moco_v3.predictor_dropout", "found 1"],
        ),
    ] {
        let run = place.pretrain(&[&["--out", "never"][..], &arguments(&settings)].concat());
        place.refused(&run, words);
    }
    assert!(!place.join("never").exists());
}
