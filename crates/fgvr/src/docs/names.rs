//! Lists of names on pages and in help texts are whole.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use fgvr_encoder::{Architecture, EncoderConfig};
use fgvr_ssl::{AddonKind, Arm, BaseKind};
use fgvr_train::config::PRESETS;
use fgvr_train::study::STUDIES;

use super::{Page, words};
use crate::args::Cli;

/// Those of `names` that `text` does not have as words.
fn missing<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let told: BTreeSet<&str> = words(text).collect();
    let names = names.into_iter();
    names.filter(|name| !told.contains(name)).collect()
}

/// What the help says of an option of a command.
fn help(command: &str, option: &str) -> String {
    let cli = Cli::command();
    let command = cli.find_subcommand(command).expect("a command");
    let mut options = command.get_arguments();
    let option = options.find(|arg| arg.get_long() == Some(option));
    option
        .and_then(|arg| arg.get_help())
        .expect("its help")
        .to_string()
}

#[test]
fn a_name_that_is_left_out_is_found() {
    assert_eq!(missing("`a`, `b-c`: d", ["a", "b-c", "b", "e"]), ["b", "e"]);
}

#[test]
fn the_help_lists_every_preset_and_every_study() {
    let none: [&str; 0] = [];
    let presets = PRESETS.iter().map(|(name, ..)| *name);
    assert_eq!(missing(&help("pretrain", "preset"), presets), none);
    let studies = STUDIES.iter().map(|(name, ..)| *name);
    assert_eq!(missing(&help("study", "preset"), studies), none);
}

#[test]
fn the_pages_list_every_preset_base_arm_and_addon() {
    let none: [&str; 0] = [];
    let methods = Page::read("docs/methods.md").text;
    let presets = PRESETS.iter().map(|(name, ..)| *name);
    assert_eq!(missing(&methods, presets), none);
    assert_eq!(missing(&methods, BaseKind::ALL.map(BaseKind::name)), none);
    assert_eq!(missing(&methods, AddonKind::ALL.map(AddonKind::name)), none);
    assert_eq!(missing(&methods, Arm::ALL.map(Arm::name)), none);
    let readme = Page::read("README.md").text;
    assert_eq!(missing(&readme, Arm::ALL.map(Arm::name)), none);
}

#[test]
fn the_table_of_architectures_has_every_one_with_its_features() {
    let page = Page::read("docs/weights.md");
    let mut told = BTreeSet::new();
    for row in page.table("| name | features | notes |") {
        let names = words(row[0]);
        let features = row[1].split(", ").cycle();
        let features = features.map(|text| text.parse::<usize>().expect("a number"));
        told.extend(names.map(str::to_owned).zip(features));
    }
    let width = |architecture: Architecture| {
        let width = EncoderConfig::from(architecture).out_channels();
        (architecture.name().to_owned(), width.expect("a width"))
    };
    let there: BTreeSet<(String, usize)> = Architecture::ALL.map(width).into();
    assert_eq!(told, there);
}
