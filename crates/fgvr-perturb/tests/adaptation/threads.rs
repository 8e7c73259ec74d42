//! The same bits on any number of threads.

use std::process::Command;

use fgvr_perturb::{AdaptConfig, AdaptKind, Adaptation, NuisanceCovariance};

use crate::Photos;

/// Wider than a tile, and more images than a block.
const WIDE: Photos = Photos {
    images: 600,
    views: 2,
    width: 300,
};

/// Asks this test, in a process of its own, to print the hash of its bits.
const PRINT: &str = "FGVR_TEST_PRINT_BITS";

/// A hash of all weights, outputs and covariances.
fn hash() -> u64 {
    let (plain, half) = (WIDE.plain(), WIDE.images / 2 * WIDE.width);
    let mut statistics = WIDE.statistics();
    let mut part = NuisanceCovariance::new(WIDE.width).unwrap();
    part.add_plain(&plain[..half]).unwrap();
    statistics.merge(part).unwrap();
    let all = [&plain[..], &plain[..half]].concat();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bits: u64| hash = (hash ^ bits).wrapping_mul(0x0100_0000_01b3);
    for value in statistics.within().unwrap() {
        take(value.to_bits());
    }
    for kind in AdaptKind::ALL {
        let adaptation = Adaptation::fit(&statistics, Some(&all), &AdaptConfig::of(kind)).unwrap();
        let outputs = adaptation.apply(&plain).unwrap();
        for value in adaptation.weight().iter().chain(&outputs) {
            take(u64::from(value.to_bits()));
        }
    }
    hash
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let expected = hash();
    if std::env::var_os(PRINT).is_some() {
        println!("\nbits {expected:016x}");
        return;
    }
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let found = pool.build().unwrap().install(hash);
        assert_eq!(found, expected, "a pool of {threads} threads");
    }
    // The products of matrices ask the environment how many threads there are.
    for threads in ["1", "3"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "threads::bits_do_not_depend_on_the_number_of_threads",
                "--exact",
            ])
            .arg("--nocapture")
            .env(PRINT, "1")
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(&format!("bits {expected:016x}")),
            "RAYON_NUM_THREADS={threads}: expected {expected:016x} in\n{text}"
        );
    }
}
