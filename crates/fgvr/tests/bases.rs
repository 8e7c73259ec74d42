//! Every base through the program: it trains, goes on with the same bits, and refuses what cannot be.

mod common;

use common::{Place, last_checkpoint};

/// Heads small enough for a test.
const SMALL: [&str; 5] = [
    "byol.hidden=16",
    "moco_v3.hidden=16",
    "dino.hidden=16",
    "dino.prototypes=32",
    "optimizer.steps=6",
];

fn arguments<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let all = SMALL.iter().chain(settings);
    all.flat_map(|setting| ["--set", *setting]).collect()
}

#[test]
fn every_base_trains_alone_and_with_what_it_carries() {
    let place = Place::new();
    for (base, kind) in [
        ("moco-v2", "sgd"),
        ("simsiam", "sgd"),
        ("byol", "lars"),
        ("moco-v3", "adamw"),
        ("dino", "adamw"),
        ("diet", "adamw"),
    ] {
        let base_setting = format!("base={base}");
        let kind_setting = format!("optimizer.kind={kind}");
        for arm in ["arm=base", "arm=full"] {
            let out = format!("{base}-{arm}");
            let set = arguments(&[&base_setting, &kind_setting, arm]);
            let run = place.pretrain(&[&["--out", &out][..], &set[..]].concat());
            if (base, arm) == ("dino", "arm=full") {
                place.refused(&run, &["synthpair does not run on dino", "arm=base"]);
                continue;
            }
            let stderr = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "{base} {arm}: {stderr}");
            let metrics = std::fs::read_to_string(place.join(&out).join("metrics.jsonl"));
            let last: serde_json::Value =
                serde_json::from_str(metrics.unwrap().lines().last().unwrap()).unwrap();
            assert!(last["loss"].is_number(), "{base} {arm}: {last}");
            let pairs = last["loss_pair"].is_number();
            assert_eq!(pairs, arm == "arm=full", "{base} {arm}: {last}");
        }
    }
}

#[test]
fn a_resumed_run_of_any_base_has_the_bits_of_one_that_never_stopped() {
    // Rates, a trunk's statistics and second views, as for pretrained weights.
    let careful = [
        "positives.kind=neighbours",
        "positives.share=0.7",
        "adapt.views=2",
        "optimizer.head_lr=0.01",
        "optimizer.head_steps=2",
        "optimizer.layer_decay=0.8",
        "optimizer.trunk_norm=running",
    ];
    let low_rank = [
        "optimizer.low_rank=2",
        "optimizer.freeze_layers=2",
        "synthpair.along=nuisance",
        "synthpair.bank_minimum=16",
        "synthpair.warm_up=0",
        "arm=feature-twin",
    ];
    let held = [
        "optimizer.anchor=1",
        "optimizer.freeze=[\"layer1.*\"]",
        "positives.kind=random",
        "adapt.views=2",
    ];
    for (base, kind, more) in [
        ("simsiam", "sgd", &held[..]),
        ("byol", "lars", &[]),
        ("dino", "adamw", &[]),
        (
            "diet",
            "adamw",
            &["positives.kind=neighbours", "adapt.views=2"],
        ),
        ("moco-v3", "adamw", &careful),
        ("moco-v3", "adamw", &low_rank),
    ] {
        let place = Place::new();
        let base = format!("base={base}");
        let kind = format!("optimizer.kind={kind}");
        let settings = [
            base.as_str(),
            kind.as_str(),
            "arm=base",
            "optimizer.steps=6",
            "dino.local_crops=2",
            "addons=[\"pretext\"]",
        ];
        let run = |out: &str, checkpoints: &[&str]| {
            let set = arguments(&[&settings[..], more, checkpoints].concat());
            let run = place.pretrain(&[&["--out", out][..], &set[..]].concat());
            assert!(
                run.status.success(),
                "{}",
                String::from_utf8_lossy(&run.stderr)
            );
        };
        run("whole", &["checkpoint.every=3"]);
        run("cut", &["checkpoint.every=3", "checkpoint.keep=5"]);
        // As if it had been stopped after three steps.
        let checkpoints = place.join("cut/checkpoints");
        std::fs::remove_dir_all(checkpoints.join("step-00000006")).unwrap();
        std::fs::write(checkpoints.join("last"), "step-00000003").unwrap();
        let resumed = place
            .fgvr(&["pretrain", "--resume", "cut"])
            .output()
            .unwrap();
        assert!(
            resumed.status.success(),
            "{}",
            String::from_utf8_lossy(&resumed.stderr)
        );
        assert!(
            last_checkpoint(&place.join("whole")) == last_checkpoint(&place.join("cut")),
            "{base}"
        );
    }
}

#[test]
fn a_resumed_run_with_lcr_has_the_bits_of_one_that_never_stopped_and_screened_figures() {
    let place = Place::new();
    let settings = ["arm=base", "addons=[\"lcr\"]", "checkpoint.every=3"];
    let run = |out: &str, more: &[&str]| {
        let set = arguments(&[&settings[..], more].concat());
        let run = place.pretrain(&[&["--out", out][..], &set[..]].concat());
        let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{stderr}");
        stderr + &String::from_utf8_lossy(&run.stdout)
    };
    let said = run("whole", &[]);
    run("cut", &["checkpoint.keep=5"]);
    let checkpoints = place.join("cut/checkpoints");
    std::fs::remove_dir_all(checkpoints.join("step-00000006")).unwrap();
    std::fs::write(checkpoints.join("last"), "step-00000003").unwrap();
    let resumed = (place.fgvr(&["pretrain", "--resume", "cut"]).output()).unwrap();
    let stderr = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{stderr}");
    let [whole, cut] = ["whole", "cut"].map(|run| last_checkpoint(&place.join(run)));
    assert!(whole == cut);
    assert!(whole.iter().any(|(name, _)| name.contains("lcr")), "saved");

    let [whole, cut] = ["whole", "cut"].map(|run| place.json(&format!("{run}/eval.json")));
    assert_eq!(whole, cut);
    for figure in [
        "/screened/knn/top1",
        "/screened/linear/top1",
        "/screened/retrieval/map",
    ] {
        let value = whole.pointer(figure).and_then(serde_json::Value::as_f64);
        assert!(value.is_some_and(|v| (0. ..=1.).contains(&v)), "{whole}");
    }
    assert_ne!(whole["screened"], whole["trained"]);
    let map = &whole["parts"]["maps"][0];
    assert_eq!(map["addon"], "lcr");
    for share in ["share", "shuffled", "area"] {
        let share = map[share].as_f64();
        assert!(share.is_some_and(|v| (0. ..=1.).contains(&v)), "{map}");
    }
    for words in ["screened", "maps of add-ons", "lcr"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let metrics = std::fs::read_to_string(place.join("whole/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    for key in ["loss_lcr", "lcr_entropy", "lcr_correlation"] {
        assert!(last[key].is_number(), "{key}: {last}");
    }
    assert!(place.join("whole/samples/epoch-0000-maps.png").is_file());
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let place = Place::new();
    for (settings, words) in [
        (&["base=mocov2"][..], &["base", "moco-v2"][..]),
        (
            &["base=diet", "diet.label_smoothing=1"],
            &["diet.label_smoothing", "found 1", "try 0.8"],
        ),
        (&["base=diet", "diet.temperature=0"], &["diet.temperature"]),
        (&["base=diet", "diet.images=4"], &["diet.images"]),
        (
            &["base=diet", "arm=base", "addons=[\"lodisc\"]"],
            &["addons", "lodisc does not run on diet", "use moco-v2"],
        ),
        (
            &["base=byol", "byol.momentum=1.5"],
            &["byol.momentum", "found 1.5"],
        ),
        (
            &["base=moco-v3", "moco_v3.temperature=0"],
            &["moco_v3.temperature", "found 0"],
        ),
        (&["moco.temperature=0"], &["moco.temperature"]),
        (&["moco.momentum=1"], &["moco.momentum"]),
        (&["moco.queue=4"], &["moco.queue", "16"]),
        (
            &[
                "base=dino",
                "arm=base",
                "dino.local_crops=2",
                "encoder.architecture=vit_tiny_patch16_224",
                "encoder.stem=imagenet",
                "encoder.width=64",
                "loader.crop_size=24",
            ],
            &[
                "loader.crop_size",
                "multiple of the patch size 16",
                "found 24",
            ],
        ),
        (
            &[
                "base=dino",
                "arm=base",
                "dino.local_crops=2",
                "loader.crop_size=4",
            ],
            &["loader.crop_size", "found 4"],
        ),
        (&["addons=[\"pretext\", \"pretext\"]"], &["addons", "twice"]),
        (&["addons=[\"synthpair\"]"], &["addons", "arm=full"]),
        (&["addons=[\"pretex\"]"], &["addons", "pretext"]),
        (
            &["addons=[\"pretext\"]", "pretext.weight=-1"],
            &["pretext.weight", "found -1"],
        ),
        (
            &["optimizer.weight_decay_end=0.4"],
            &["weight_decay_end", "adamw"],
        ),
        (&["optimizer.kind=adam"], &["optimizer.kind", "adamw"]),
        (
            &["addons=[\"lcr\"]", "lcr.temperature=0"],
            &["lcr.temperature", "found 0"],
        ),
        (
            &["addons=[\"lcr\"]", "lcr.form=released"],
            &["released-moco"],
        ),
        (
            &[
                "addons=[\"lcr\"]",
                "encoder.architecture=vit_tiny_patch16_224",
                "encoder.stem=imagenet",
                "encoder.width=64",
            ],
            &["addons", "class token", "take a ResNet"],
        ),
        (
            &["addons=[\"lcr\"]", "data.size=16", "encoder.stem=imagenet"],
            &["data.size", "a single one"],
        ),
        (
            &[
                "arm=base",
                "encoder.architecture=vit_tiny_patch16_224",
                "encoder.stem=imagenet",
                "encoder.width=64",
                "encoder.patch_size=7",
            ],
            &["encoder", "image_size is 32", "multiple of patch_size, 7"],
        ),
        (
            &[
                "synthpair.space=map",
                "encoder.architecture=vit_tiny_patch16_224",
                "encoder.stem=imagenet",
                "encoder.width=64",
            ],
            &["synthpair.space", "space=vector"],
        ),
        (
            &["addons=[\"patch-match\"]", "patch_match.temperature=0"],
            &["patch_match.temperature"],
        ),
        (
            &["addons=[\"lodisc\"]", "lodisc.regions=attention"],
            &["lodisc.regions", "grad-cam"],
        ),
        (
            &[
                "synthpair.curriculum.course=linear",
                "synthpair.curriculum.start=9",
            ],
            &["curriculum.start"],
        ),
    ] {
        let run = place.pretrain(&[&["--out", "never"][..], &arguments(settings)[..]].concat());
        place.refused(&run, words);
    }
    assert!(!place.join("never").exists());
}

#[test]
fn a_transformer_is_trained_on_small_crops() {
    let place = Place::new();
    let set = arguments(&[
        "base=dino",
        "arm=base",
        "dino.local_crops=2",
        "loader.crop_size=16",
        "encoder.architecture=vit_tiny_patch16_224",
        "encoder.stem=imagenet",
        "encoder.width=64",
        "encoder.patch_size=8",
        "optimizer.kind=adamw",
        "optimizer.lr=1e-3",
        "optimizer.steps=2",
        "monitor.pictures_every=0",
    ]);
    let run = place.pretrain(&[&["--out", "vit"][..], &set[..]].concat());
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{stderr}");
    let metrics = std::fs::read_to_string(place.join("vit/metrics.jsonl")).unwrap();
    for line in metrics.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["loss"].is_number() && row["gradient_norm"].as_f64() > Some(0.));
    }
}

/// The published head: its last norm keeps the standard deviation up while ever fewer dimensions are used,
/// so it is the effective rank that shows the collapse.
#[test]
fn simsiam_without_stop_gradient_raises_the_alarm_and_with_it_not() {
    let place = Place::new();
    let ranks = |stop_gradient: &str| {
        let set = [
            "base=simsiam",
            "arm=base",
            "simsiam.dim=64",
            "simsiam.predictor_hidden=16",
            "loader.batch=32",
            "optimizer.steps=100",
            "monitor.pictures_every=0",
            "checkpoint.every=1000",
            stop_gradient,
        ];
        let run = place.pretrain(&[&["--out", stop_gradient][..], &arguments(&set)[..]].concat());
        assert!(run.status.success());
        let folder = place.join(stop_gradient);
        let log = std::fs::read_to_string(folder.join("train.log")).unwrap();
        let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let rank = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["effective_rank"].as_f64()
        };
        let ranks: Vec<f64> = metrics.lines().filter_map(rank).collect();
        assert_eq!(ranks.len(), 5, "{ranks:?}");
        (ranks, log.contains("the features collapse"))
    };
    let (kept, silent) = ranks("simsiam.stop_gradient=true");
    assert!(!silent && kept.iter().all(|rank| *rank > 4.), "{kept:?}");
    let (lost, alarm) = ranks("simsiam.stop_gradient=false");
    assert!(alarm && lost[1..].iter().all(|rank| *rank < 2.), "{lost:?}");
}
