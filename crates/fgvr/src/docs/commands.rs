//! Every command that a page or a help text shows can be given as it stands.

use clap::Parser as _;
use clap::error::ErrorKind;
use fgvr_train::config::Layers;
use fgvr_train::study::{Elsewhere, StudyConfig};

use super::{Page, pages};
use crate::args::{Cli, Command, Settings, Study};

/// The commands of xtask that are the program's.
const OURS: [&str; 10] = [
    "pretrain",
    "adapt",
    "eval",
    "plan",
    "embed",
    "export",
    "publish",
    "study",
    "weights",
    "calibrate",
];

#[test]
fn commands_of_pages_and_help_texts_can_be_given() {
    let mut texts = pages();
    texts.push(Page::read("CHANGELOG.md"));
    texts.push(Page::read("crates/fgvr/src/args.rs"));
    texts.push(Page::read("crates/fgvr/src/adapt_args.rs"));
    texts.push(Page::read("xtask/src/help.rs"));
    let mut wrong = Vec::new();
    let mut shown = 0;
    for page in &texts {
        for command in commands(&page.text) {
            shown += 1;
            if let Err(problem) = given(&command) {
                wrong.push(format!("{}: {}\n  {problem}", page.name, command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(shown > 60, "{shown} commands were found");
}

#[test]
fn commands_that_cannot_be_given_are_found() {
    let problem = |text: &str| {
        let commands = commands(text);
        assert_eq!(commands.len(), 1, "{commands:?}");
        given(&commands[0]).err()
    };
    for right in [
        "    fgvr pretrain --data photos/ --set arm=base     and this is said of it\n",
        "```sh\ncargo xtask study --preset seeds --arm lcr \\\n  --set optimizer.steps=9 --out x   # ten\n```",
        "so `fgvr eval` does, alone",
        "`cargo xtask pretrain --set 'addons=[\"lcr\"]' --set lcr.weight=W`",
    ] {
        assert_eq!(problem(right), None, "{right}");
    }
    for (wrong, what) in [
        ("`fgvr pretrian`", "unrecognized subcommand"),
        ("    fgvr plan --date x\n", "--date"),
        ("`cargo xtask eval --run R --size 3`", "--size"),
        ("    fgvr pretrain --preset lean\n", "lean"),
        ("    fgvr pretrain --set armm=base\n", "armm"),
        ("    fgvr pretrain --set lcr.wait=W\n", "wait"),
        ("    fgvr pretrain --set arm=bas\n", "bas"),
        ("    fgvr study --preset seeds --arm lrc --out x\n", "lrc"),
        ("    fgvr export --run x\n", "--to"),
    ] {
        let found = problem(wrong).unwrap_or_default();
        assert!(found.contains(what), "{wrong}: {found:?}");
    }
}

/// The words after `fgvr` of each command in `text`; after `cargo xtask`, of those that are the program's.
fn commands(text: &str) -> Vec<Vec<String>> {
    // A command goes on after a backslash at the end of its line.
    let parts = text.split("\\\n").enumerate();
    let text: String = parts
        .map(|(number, part)| if number == 0 { part } else { part.trim_start() })
        .collect();
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        for call in ["fgvr ", "cargo xtask "] {
            for (at, _) in line.match_indices(call) {
                let first = words(&line[at + call.len()..]);
                let before = line[..at].chars().next_back();
                // At the start of a span of code or of a line of code, or behind a variable.
                let indent = line[..at].trim();
                let code = fenced || line.starts_with("  ");
                let begins = before.is_some_and(|c| "`\"".contains(c))
                    || code && (indent.is_empty() || indent.starts_with("HF_TOKEN="));
                let name = first.first().map(String::as_str).unwrap_or_default();
                let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
                if begins && plain && (call == "fgvr " || OURS.contains(&name)) {
                    found.push(first);
                }
            }
        }
    }
    found
}

/// The words of a command as a shell splits them, up to the end of the code or to a remark.
fn words(rest: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut gap = 0;
    for c in rest.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'') => quote = Some(c),
            (None, '`' | '"' | '#' | '\\') => break,
            (None, ' ') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                gap += 1;
                // Help texts set remarks apart by spaces alone.
                if gap == 3 {
                    break;
                }
                continue;
            }
            (None, c) => word.push(c),
        }
        gap = 0;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What stands against giving this command, the data and weights it names apart.
fn given(command: &[String]) -> Result<(), String> {
    let words = std::iter::once("fgvr").chain(command.iter().map(String::as_str));
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let is_mention = command.iter().all(|word| !word.starts_with('-'));
            return match error.kind() {
                // Prose names a command without what it needs.
                ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand if is_mention => {
                    Ok(())
                }
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if is_mention => Ok(()),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
                // Letters stand for numbers.
                ErrorKind::ValueValidation => Ok(()),
                _ => Err(error.to_string()),
            };
        }
    };
    match cli.command {
        Command::Pretrain(args) => settings(&args.settings),
        Command::Plan(args) => settings(&args.settings),
        Command::Calibrate(args) => settings(&args.settings),
        Command::Study(args) => study(&args),
        Command::Adapt(args) => {
            let settings = fgvr_train::AdaptOptions::split(&args.set);
            settings.map(drop).map_err(|error| error.to_string())
        }
        Command::Eval(_)
        | Command::Compare(_)
        | Command::Embed(_)
        | Command::Export(_)
        | Command::Publish(_)
        | Command::Weights(_)
        | Command::Data(_) => Ok(()),
    }
}

fn settings(args: &Settings) -> Result<(), String> {
    let mut layers = Layers::default();
    let usual = match args.data.is_some() {
        true => "photos",
        false => "demo",
    };
    let preset = args.preset.as_deref().unwrap_or(usual);
    layers.preset(preset).map_err(|e| e.to_string())?;
    for setting in &args.set {
        super::settings::accepted(&mut layers, setting)?;
    }
    Ok(())
}

fn study(args: &Study) -> Result<(), String> {
    let Some(name) = &args.preset else {
        return Ok(());
    };
    let study = StudyConfig::preset(name).map_err(|e| e.to_string())?;
    let study = study.with(&Elsewhere {
        set: args.set.clone(),
        arms: args.arm.clone(),
        ..Elsewhere::default()
    });
    study.map(drop).map_err(|e| e.to_string())
}
