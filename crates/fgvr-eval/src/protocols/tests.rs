use super::*;
use crate::{LbfgsConfig, Scaling, SgdConfig, Solver, knn, retrieval};

/// Rows round a centre for each class.
fn set(classes: u32, of_class: u32, first: u32) -> Embeddings {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for row in first..first + classes * of_class {
        let class = row % classes;
        let noise = |d: u32| ((row * 7919 + d * 104_729) % 1009) as f32 / 1009. - 0.5;
        let centre = |d: u32| ((class * 31 + d * 17) % 7) as f32 / 7.;
        values.extend((0..8).map(|d| centre(d) + 1.6 * noise(d)));
        labels.push(class);
    }
    Embeddings::from_slice(&values, 8, labels).unwrap()
}

fn quick() -> ProtocolConfig {
    ProtocolConfig {
        sgd: ProbeConfig {
            scaling: Scaling::L2Normalise,
            weight_decays: vec![0.],
            solver: Solver::Sgd(SgdConfig {
                epochs: 4,
                ..SgdConfig::default()
            }),
            ..ProbeConfig::default()
        },
        linear: ProbeConfig {
            solver: Solver::Lbfgs(LbfgsConfig {
                iterations: 30,
                ..LbfgsConfig::default()
            }),
            ..ProbeConfig::default()
        },
        seeds: 2,
        bootstrap: crate::BootstrapConfig {
            draws: 50,
            ..crate::BootstrapConfig::default()
        },
        ..ProtocolConfig::default()
    }
}

fn run(sets: JudgeSets<'_>, cfg: &ProtocolConfig) -> Judged {
    judge(sets, &Protocol::ALL, cfg, |_| {}).unwrap()
}

#[test]
fn every_protocol_gives_its_figures_with_intervals() {
    let (train, validation, test) = (set(6, 30, 0), set(6, 5, 3000), set(6, 10, 9000));
    let sets = JudgeSets {
        train: &train,
        validation: Some(&validation),
        test: &test,
    };
    let cfg = quick();
    let found = run(sets, &cfg);
    assert_eq!(found.left_out, Vec::<String>::new());
    let measures = &found.measures;
    let names: Vec<&str> = measures.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names.len(), 2 + 1 + 1 + 4 + 6 + 6 + 3, "{names:?}");
    assert_eq!(found.seconds.len(), Protocol::ALL.len());
    let value = |name: &str| {
        let measure = measures.iter().find(|m| m.name.starts_with(name));
        measure.unwrap_or_else(|| panic!("{name} in {names:?}"))
    };
    assert_eq!(
        value("kNN, k = 20").value,
        knn(&train, &test, &cfg.knn).unwrap().top1
    );
    assert_eq!(
        value("mAP, inside").value,
        retrieval(&test, &cfg.retrieval).unwrap().map
    );
    assert!(value("kNN, k = ").value > 1. / 6.);
    // 1 % of 30 rows a class is one.
    assert_eq!(
        value("linear probe, 1 %").name,
        "linear probe, 1 % of labels (6)"
    );
    assert_eq!(value("linear probe, 50 %").seeds.len(), 2);
    for measure in measures {
        let interval = measure.over_classes.unwrap();
        assert!(
            interval.low <= measure.value && measure.value <= interval.high,
            "{measure:?}"
        );
        assert!((interval.mean - measure.value).abs() < 1e-12, "{measure:?}");
        let mean = measure.seeds.iter().sum::<f64>() / measure.seeds.len() as f64;
        assert!((mean - measure.value).abs() < 1e-12);
        // The best of epochs on the test rows stands beside the figure of one protocol alone.
        assert_eq!(
            measure.best_on_test.is_some(),
            measure.protocol == Protocol::Sgd
        );
    }
    let sgd = value("linear probe, SGD");
    assert!(sgd.best_on_test.unwrap() >= sgd.value);
    assert_eq!(
        found,
        Judged {
            seconds: found.seconds.clone(),
            ..run(sets, &cfg)
        }
    );
}

#[test]
fn what_is_chosen_does_not_depend_on_the_test_rows() {
    let (train, validation) = (set(6, 30, 0), set(6, 5, 3000));
    let names = |test: &Embeddings, validation| {
        let sets = JudgeSets {
            train: &train,
            validation,
            test,
        };
        let found = judge(sets, &[Protocol::Knn], &quick(), |_| {}).unwrap();
        found.measures[1].name.clone()
    };
    for validation in [Some(&validation), None] {
        let first = names(&set(6, 10, 9000), validation);
        assert!(first.ends_with("chosen on validation"), "{first}");
        assert_eq!(first, names(&set(3, 20, 7777), validation));
    }
}

#[test]
fn figures_that_the_sets_do_not_allow_are_left_out_with_the_reason() {
    let one = set(1, 30, 0);
    let sets = JudgeSets {
        train: &one,
        validation: None,
        test: &set(1, 9, 500),
    };
    let found = run(sets, &quick());
    assert!(found.measures.iter().all(|m| !m.name.contains("probe")));
    assert_eq!(found.left_out.len(), 6, "{:?}", found.left_out);
    assert!(
        found.left_out[0].starts_with("linear probe: "),
        "{:?}",
        found.left_out
    );
    // With one row of each class there is none to choose by, unless validation rows are given.
    let few = set(6, 1, 0);
    let test = set(6, 9, 500);
    let mut sets = JudgeSets {
        train: &few,
        validation: None,
        test: &test,
    };
    let found = run(sets, &quick());
    let left = |name: &str| found.left_out.iter().any(|left| left.starts_with(name));
    assert!(
        left("linear probe: ") && left("linear probe, a share"),
        "{found:?}"
    );
    assert!(left("kNN, k chosen"), "{found:?}");
    let validation = set(6, 5, 3000);
    sets.validation = Some(&validation);
    let found = run(sets, &quick());
    assert_eq!(found.left_out, Vec::<String>::new());
    // Without validation rows some of ten are held out, and one of each class is 1 % of the rest.
    let ten = set(6, 10, 0);
    sets = JudgeSets {
        train: &ten,
        validation: None,
        test: &test,
    };
    let found = run(sets, &quick());
    let names: Vec<&str> = found.measures.iter().map(|m| m.name.as_str()).collect();
    assert!(
        names.contains(&"linear probe, 1 % of labels (6)"),
        "{names:?}"
    );
    assert!(
        names.contains(&"linear probe, 50 % of labels (30)"),
        "{names:?}"
    );
    let wrong = ProtocolConfig {
        seeds: 0,
        ..quick()
    };
    assert!(judge(sets, &[], &wrong, |_| {}).is_err());
}

#[test]
fn protocols_are_parsed_by_name() {
    for protocol in Protocol::ALL {
        assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
    }
    let error = "kn".parse::<Protocol>().unwrap_err().to_string();
    assert!(error.contains("knn, linear"), "{error}");
}
