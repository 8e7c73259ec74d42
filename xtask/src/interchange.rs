//! `cargo xtask interchange`: weights go from fgvr to timm, torchvision and transformers, and back.
//!
//! Three networks are trained for two steps, exported, and built from the export by the other programs,
//! strictly (tests/interchange/roundtrip.py); their features of the same photographs must be ours. Then
//! timm's random weights come to fgvr, with the same check; and networks are adapted, and give the adapted features
//! there by a plain forward pass.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::command::executable;
use crate::nearest::nearest;
use crate::output::{print, show};
use crate::scratch::Folder;
use crate::{python, workspace};

pub(crate) const USAGE: &str = "\
usage: cargo xtask interchange [--require]

Trains a residual network, an EfficientNet-Lite and a vision transformer for two steps, exports them, builds them from the export
in timm and torchvision (strictly) and in transformers, and compares features: they must agree within 1e-4.
Then the other way, with random weights that timm saved. At last networks are adapted: timm, torchvision and
transformers must give the adapted features by their plain forward pass.

  --require    fail where Python or its packages cannot be had, rather than skip

Python's side runs from a virtual environment that is made in target/venv at the first use (some
gigabytes; PIP_EXTRA_INDEX_URL can name an index with the smaller CPU builds). FGVR_PYTHON names an
interpreter that has the packages of benches/torch/requirements.txt to use instead.
";

const SCRIPT: &str = "tests/interchange/roundtrip.py";

/// Side of the images.
const SIZE: usize = 64;

/// A network that makes the journey.
struct Network {
    name: &'static str,
    /// Whether it is made for images of one size.
    sized: bool,
    /// Whether transformers has a network of its own for it.
    native: bool,
}

const NETWORKS: [Network; 3] = [
    Network {
        name: "resnet18",
        sized: false,
        native: false,
    },
    Network {
        name: "tf_efficientnet_lite0",
        sized: false,
        native: false,
    },
    Network {
        name: "vit_tiny_patch16_224",
        sized: true,
        native: true,
    },
];

/// A network that is adapted, and goes out so.
struct Adapted {
    name: &'static str,
    /// Side of the images.
    size: usize,
    /// Whether transformers has a network of its own for it.
    native: bool,
}

const fn adapted(name: &'static str, size: usize, native: bool) -> Adapted {
    Adapted { name, size, native }
}

const ADAPTED: [Adapted; 6] = [
    adapted("resnet18", 64, true),
    adapted("resnet50", 64, true),
    adapted("tf_efficientnet_lite0", 64, false),
    adapted("vit_tiny_patch16_224", 64, true),
    adapted("vit_small_patch14_dinov2", 56, true),
    adapted("vit_small_patch14_reg4_dinov2", 56, true),
];

/// Settings of two steps on a few pictures.
const SETTINGS: &str = "\
source = \"builtin:lookalikes\"
arm = \"base\"
[data]
size = 64
[data.lookalikes]
families = 2
species_per_family = 2
train_images = 32
val_images = 16
test_images = 32
[loader]
batch = 8
[moco]
hidden = 16
dim = 8
queue = 32
pair_queue = 32
[optimizer]
steps = 2
[monitor]
knn_every = 0
pictures_every = 0
[evaluate]
part_images = 4
";

/// Runs the command, or says why it cannot.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut require = false;
    for arg in args {
        match arg.as_str() {
            "--help" | "-h" => {
                print(USAGE)?;
                return Ok(ExitCode::SUCCESS);
            }
            "--require" => require = true,
            other => {
                let hint = nearest(other, ["--require", "--help"])
                    .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
                bail!("interchange: `{other}` is no option{hint}\n\n{USAGE}");
            }
        }
    }
    let root = workspace::root()?;
    match round_trips(&root)? {
        None => Ok(ExitCode::SUCCESS),
        Some(reason) if require => bail!("{reason}"),
        Some(reason) => {
            say!("SKIPPED: {reason}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// All round trips; a reason where Python or its packages cannot be had.
pub(crate) fn round_trips(root: &Path) -> Result<Option<String>> {
    let python = match python_with_packages(root) {
        Ok(python) => python,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    let folder = Folder::new("fgvr-interchange")?;
    let programs = Programs {
        fgvr: executable(root, &["-p", "fgvr"], "fgvr")?,
        python,
        script: root.join(SCRIPT),
    };
    for network in NETWORKS {
        let folder = folder.path().join(network.name);
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        programs
            .out(&network, &folder)
            .with_context(|| format!("{} from fgvr to the others", network.name))?;
        programs
            .back(&network, &folder)
            .with_context(|| format!("{} from timm to fgvr", network.name))?;
        say!("{}: there and back within 1e-4", network.name);
    }
    for network in ADAPTED {
        let folder = folder.path().join(format!("adapted-{}", network.name));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        programs
            .adapted(&network, &folder)
            .with_context(|| format!("{}, adapted, from fgvr to the others", network.name))?;
        say!("{}: adapted features within 1e-4", network.name);
    }
    Ok(None)
}

/// An interpreter that can import what the script needs.
fn python_with_packages(root: &Path) -> Result<PathBuf> {
    let python = python::interpreter(root)?;
    let imports = "import numpy, PIL, safetensors, timm, torch, torchvision, transformers";
    let output = Command::new(&python)
        .args(["-c", imports])
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it says nothing").to_string();
        bail!("{} lacks packages: {last}", python.display());
    }
    Ok(python)
}

struct Programs {
    fgvr: PathBuf,
    python: PathBuf,
    script: PathBuf,
}

impl Programs {
    /// Trained by fgvr, read by the others.
    fn out(&self, network: &Network, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("settings.toml"), settings(network))
            .with_context(|| folder.display().to_string())?;
        self.fgvr(folder, "pretrain --config settings.toml --out run")?;
        self.fgvr(folder, "export --run run --to export")?;
        self.fgvr(folder, "weights inspect export")?;
        self.script(folder, "photos export photos")?;
        let mut others = String::from("--transformers");
        if network.native {
            self.fgvr(folder, "export --run run --to native --format transformers")?;
            others.push_str(" --native native");
        }
        // The run itself, and what it exported.
        for (source, features) in [
            ("--run run", "run.safetensors"),
            ("--weights export", "export.safetensors"),
        ] {
            self.fgvr(
                folder,
                &format!("embed {source} --data photos --out {features}"),
            )?;
            self.script(folder, &format!("check export photos {features} {others}"))?;
        }
        Ok(())
    }

    /// Saved by timm, read by fgvr.
    fn back(&self, network: &Network, folder: &Path) -> Result<()> {
        let sized = match network.sized {
            true => format!(" --image-size {SIZE}"),
            false => String::new(),
        };
        self.script(folder, &format!("make {} made{sized}", network.name))?;
        self.script(folder, "photos made made-photos")?;
        self.fgvr(folder, "weights inspect made")?;
        self.fgvr(
            folder,
            "embed --weights made --data made-photos --out made.npz",
        )?;
        self.script(folder, "check made made-photos made.npz")
    }

    /// Adapted by fgvr, read by the others.
    fn adapted(&self, network: &Adapted, folder: &Path) -> Result<()> {
        let Adapted { name, size, native } = network;
        self.script(folder, &format!("make {name} made --image-size {size}"))?;
        self.script(folder, "photos made photos")?;
        // So few photos tell nothing of what it is worth, and without labels nobody asks.
        let adapt =
            "adapt --weights made --data photos --set data.labels=none --if-unsure --views 2 --out";
        self.fgvr(folder, &format!("{adapt} adapted"))?;
        let embed = "embed --weights adapted --data photos --out";
        self.fgvr(folder, &format!("{embed} adapted.safetensors"))?;
        self.fgvr(folder, &format!("{embed} plain.npz --plain"))?;
        let mut check = String::from("adapted adapted photos adapted.safetensors plain.npz");
        if *native {
            // The same bits again, under other names.
            self.fgvr(folder, &format!("{adapt} native --format transformers"))?;
            check.push_str(" --native native");
        }
        self.script(folder, &check)
    }

    fn fgvr(&self, folder: &Path, args: &str) -> Result<()> {
        call(Command::new(&self.fgvr), folder, "fgvr", args)
    }

    fn script(&self, folder: &Path, args: &str) -> Result<()> {
        let mut command = Command::new(&self.python);
        command
            .arg(&self.script)
            .env("CUDA_VISIBLE_DEVICES", "")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        call(command, folder, SCRIPT, args)
    }
}

/// Runs `command` with `args`, words between blanks, in `folder`; what it says is shown where it fails.
fn call(mut command: Command, folder: &Path, name: &str, args: &str) -> Result<()> {
    say!("    {name} {args}");
    let output = command
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{name} {args}` failed ({}):\n{said}{complaint}",
            output.status
        );
    }
    if name == SCRIPT {
        show(&said);
    }
    Ok(())
}

fn settings(network: &Network) -> String {
    let mut settings = format!("{SETTINGS}[encoder]\narchitecture = \"{}\"\n", network.name);
    if network.sized {
        settings.push_str(&format!("image_size = {SIZE}\n"));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_network_and_its_size() {
        for network in NETWORKS {
            let settings: toml::Table = settings(&network).parse().unwrap();
            let encoder = &settings["encoder"];
            assert_eq!(encoder["architecture"].as_str(), Some(network.name));
            assert_eq!(encoder.get("image_size").is_some(), network.sized);
            assert_eq!(settings["data"]["size"].as_integer(), Some(SIZE as i64));
        }
    }

    #[test]
    fn wrong_arguments_say_what_is_right() {
        let error = run(&["--requrie".into()]).unwrap_err().to_string();
        assert!(error.contains("did you mean `--require`?"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_fails_is_shown_with_what_it_said() {
        let folder = std::env::temp_dir();
        let failed = call(Command::new("ls"), &folder, "ls", "--no-such-option");
        let error = failed.unwrap_err().to_string();
        assert!(error.starts_with("`ls --no-such-option` failed"), "{error}");
        call(Command::new("ls"), &folder, "ls", "-d .").unwrap();
    }
}
