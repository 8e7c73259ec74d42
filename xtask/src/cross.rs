//! Whether the kernels compile for a processor without x86's vector instructions.

use crate::command::Cargo;
use crate::toolchain::{Nightly, has_target};

/// The other architecture.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The check, or why it cannot be made and what to install.
pub(crate) fn check() -> Result<Cargo, String> {
    choose(has_target(TARGET), Nightly::installed)
}

fn choose(target: bool, nightly: impl Fn() -> Option<Nightly>) -> Result<Cargo, String> {
    let cargo = Cargo::new(["check", "-p", "fgvr-nn", "--target", TARGET]);
    if target {
        return Ok(cargo);
    }
    if nightly().is_some_and(|nightly| nightly.source) {
        let own = ["-Zbuild-std", "--target-dir", "target/cross"].map(String::from);
        return Ok(cargo.args(&own).nightly());
    }
    Err(format!(
        "the standard library for {TARGET} is not installed; `rustup target add {TARGET}` adds it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly(source: bool) -> Nightly {
        Nightly {
            host: "h".into(),
            source,
        }
    }

    #[test]
    fn the_installed_target_comes_first_and_nightly_second() {
        let installed = choose(true, || None).unwrap().to_string();
        assert_eq!(
            installed,
            format!("cargo check -p fgvr-nn --target {TARGET}")
        );
        let built = choose(false, || Some(nightly(true))).unwrap().to_string();
        assert!(built.starts_with("cargo +nightly check") && built.contains("-Zbuild-std"));
    }

    #[test]
    fn without_either_it_says_what_to_install() {
        for found in [None, Some(nightly(false))] {
            let reason = choose(false, || found.clone()).unwrap_err();
            assert!(reason.contains("rustup target add"), "{reason}");
        }
    }
}
