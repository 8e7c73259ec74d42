//! The measurement: both sides prepare and warm up once, then take turns.

use anyhow::{Context, Result};

use super::case::{Case, Group, Mode};
use super::effort::{Effort, unit};
use super::outcome::{Figures, Outcome};
use super::programs::Programs;
use super::statistics::Summary;
use crate::progress::Progress;
use crate::server::{Server, Turn};

/// Steps of a fresh process after which its peak memory is read.
const STEPS: usize = 3;

/// One of PyTorch's modes and its process, or why there is none.
pub(super) struct TorchSide {
    mode: Mode,
    server: Result<Server, String>,
}

/// PyTorch in all modes of `case`, started at once, since that takes a while and nothing is timed
/// meanwhile; none if it was not asked for.
pub(super) fn torch_sides(programs: &Programs, case: &Case) -> Vec<TorchSide> {
    let modes = if programs.python.is_some() {
        case.modes(programs.target)
    } else {
        Vec::new()
    };
    let start = |mode: &Mode| programs.start_torch(case.group, mode).map_err(reason);
    std::thread::scope(|scope| {
        let starts: Vec<_> = modes
            .iter()
            .map(|mode| (*mode, scope.spawn(|| start(mode))))
            .collect();
        let sides = starts.into_iter().map(|(mode, start)| TorchSide {
            mode,
            server: match start.join() {
                Ok(server) => server,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        });
        sides.collect()
    })
}

/// Repetitions that do not count; the seconds of the last.
fn warm(server: &mut Server, effort: Effort) -> Result<f64> {
    let mut last = server.run(1)?;
    for _ in 0..effort.warms_up_more(last.seconds[0]) {
        last = server.run(1)?;
    }
    Ok(last.seconds[0])
}

fn reason(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// Repetitions so far of one side.
#[derive(Default)]
struct Record {
    seconds: Vec<f64>,
    /// `None` as soon as a turn did not count them.
    faults: Option<u64>,
}

impl Record {
    fn new() -> Self {
        Self {
            seconds: Vec::new(),
            faults: Some(0),
        }
    }

    fn add(&mut self, turn: Turn) {
        self.seconds.extend(turn.seconds);
        self.faults = self.faults.zip(turn.faults).map(|(sum, new)| sum + new);
    }

    fn figures(&self) -> Option<Figures> {
        let count = self.seconds.len() as f64;
        Some(Figures {
            summary: Summary::of(&self.seconds)?,
            faults: self.faults.map(|faults| faults as f64 / count),
            allocated: None,
        })
    }
}

/// Times `case` on both sides. What fails on ours is an error, what fails on PyTorch's is written down.
pub(super) fn timed(
    case: &Case,
    ours: &mut Server,
    torch: &mut [TorchSide],
    effort: Effort,
    progress: &mut Progress,
) -> Result<Outcome> {
    let name = case.name();
    progress.now(&name, "preparing");
    let ready = ours.prepare(&name)?;
    let counts_memory = case.group == Group::Judge;
    if counts_memory {
        // What it takes to make the features does not count.
        ours.ask("reset")?;
    }
    let repetitions = effort.repetitions(case.group, warm(ours, effort)?);
    progress.step(unit(case.group));

    let mut ours_record = Record::new();
    let mut sides: Vec<(&mut TorchSide, Result<Record, String>)> = Vec::new();
    for side in torch {
        progress.now(&name, &format!("preparing torch {}", side.mode.name));
        let warmed = match &mut side.server {
            Ok(server) => server
                .prepare(&name)
                .and_then(|_| match counts_memory {
                    true => server.ask("reset").map(drop),
                    false => Ok(()),
                })
                .and_then(|()| warm(server, effort))
                .map(|_| Record::new())
                .map_err(reason),
            Err(reason) => Err(reason.clone()),
        };
        progress.step(unit(case.group));
        if let Err(reason) = &warmed {
            progress.note(&format!(
                "{name}: torch {} failed: {reason}",
                side.mode.name
            ));
            progress.skip(effort.rounds * unit(case.group));
        }
        sides.push((side, warmed));
    }
    for round in 1..=effort.rounds {
        let turn = |who: &str| format!("{who}, turn {round} of {}", effort.rounds);
        progress.now(&name, &turn("fgvr"));
        ours_record.add(ours.run(repetitions)?);
        progress.step(unit(case.group));
        for (side, record) in &mut sides {
            let (Ok(server), Ok(sum)) = (&mut side.server, &mut *record) else {
                continue;
            };
            progress.now(&name, &turn(&format!("torch {}", side.mode.name)));
            match server.run(repetitions) {
                Ok(turn) => sum.add(turn),
                Err(error) => *record = Err(reason(error)),
            }
            progress.step(unit(case.group));
        }
    }
    let no_figures = || "a repetition took no finite time".to_string();
    let with_memory = |server: &mut Server, mut figures: Figures| -> Result<Figures> {
        if counts_memory {
            figures.allocated = Some(server.memory()?.peak as f64);
        }
        Ok(figures)
    };
    let figures = ours_record.figures().with_context(no_figures)?;
    Ok(Outcome {
        case: case.clone(),
        images: ready["images"].as_u64().context("no number of images")?,
        operations: ready["operations"].as_f64(),
        ours: with_memory(ours, figures)?,
        modes: sides
            .into_iter()
            .map(|(side, record)| {
                let figures = record.and_then(|record| record.figures().ok_or_else(no_figures));
                let figures = match &mut side.server {
                    Ok(server) => {
                        figures.and_then(|figures| with_memory(server, figures).map_err(reason))
                    }
                    Err(_) => figures,
                };
                (side.mode.name, figures)
            })
            .collect(),
    })
}

/// Peak memory of a training run of three steps, and page faults of a step: on the CPU net of the process just
/// started, on a device what was taken from it. Each side has the machine to itself.
pub(super) fn memory(case: &Case, programs: &Programs, progress: &mut Progress) -> Result<Outcome> {
    let name = case.name();
    progress.now(&name, "preparing");
    let peak = match programs.target.is_device() {
        true => device_peak,
        false => peak,
    };
    let (ours, images) = peak(programs.start_ours()?, case)?;
    progress.step(unit(case.group));
    let modes = if programs.python.is_some() {
        case.modes(programs.target)
    } else {
        Vec::new()
    };
    let mut outcomes = Vec::new();
    for mode in &modes {
        progress.now(&name, &format!("torch {}", mode.name));
        let figures = programs
            .start_torch(case.group, mode)
            .and_then(|server| peak(server, case))
            .map(|(figures, _)| figures)
            .map_err(reason);
        if let Err(reason) = &figures {
            progress.note(&format!("{name}: torch {} failed: {reason}", mode.name));
        }
        outcomes.push((mode.name, figures));
        progress.step(unit(case.group));
    }
    Ok(Outcome {
        case: case.clone(),
        images,
        operations: None,
        ours,
        modes: outcomes,
    })
}

fn peak(mut server: Server, case: &Case) -> Result<(Figures, u64)> {
    let before = server.hello["resident"]
        .as_u64()
        .context("memory can be measured on Linux only")?;
    let ready = server.prepare(&format!("{}/{}", Group::Train.name(), case.size))?;
    server.run(1)?;
    let rest = server.run(STEPS - 1)?;
    let memory = server.memory()?;
    let net = memory.peak.saturating_sub(before);
    let figures = Figures {
        summary: Summary::exactly(net as f64),
        faults: rest.faults.map(|faults| faults as f64 / (STEPS - 1) as f64),
        allocated: None,
    };
    Ok((
        figures,
        ready["images"].as_u64().context("no number of images")?,
    ))
}

/// Without the first step, in which libraries try algorithms.
fn device_peak(mut server: Server, case: &Case) -> Result<(Figures, u64)> {
    let ready = server.prepare(&format!("{}/{}", Group::Train.name(), case.size))?;
    server.run(1)?;
    server.ask("reset")?;
    server.run(STEPS - 1)?;
    let memory = server.ask("memory")?;
    let bytes = |field: &str| {
        let value = memory[field].as_u64();
        value.context("it counts no memory of a device")
    };
    let figures = Figures {
        summary: Summary::exactly(bytes("device_reserved")? as f64),
        faults: None,
        allocated: Some(bytes("device_peak")? as f64),
    };
    Ok((
        figures,
        ready["images"].as_u64().context("no number of images")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::case::Goals;
    use super::*;

    #[test]
    fn faults_are_per_repetition_and_none_where_a_turn_did_not_count_them() {
        let mut record = Record::new();
        let turn = |faults| Turn {
            seconds: vec![1., 3.],
            faults,
        };
        record.add(turn(Some(8)));
        assert_eq!(record.figures().unwrap().faults, Some(4.));
        record.add(turn(None));
        let figures = record.figures().unwrap();
        assert_eq!((figures.faults, figures.summary.median), (None, 2.));
        assert!(Record::new().figures().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn memory_of_a_device_is_what_was_taken_from_it_and_one_must_be_counted() {
        let figures = |memory: &str| {
            let turn = "read l; echo '{\"seconds\": 1}';";
            let script = format!(
                "echo '{{\"hello\": 1}}'; read l; echo '{{\"ready\": \"train/x\", \"images\": 2}}'; \
                 {turn} echo '{{\"done\": 1}}'; read l; echo '{{\"reset\": true}}'; \
                 {turn} echo '{{\"seconds\": 1}}'; echo '{{\"done\": 2}}'; read l; echo '{memory}'"
            );
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script]);
            let log = format!("fgvr-bench-test-device-{}.log", memory.len());
            let server = Server::start(command, &std::env::temp_dir().join(log)).unwrap();
            let case = Case {
                group: Group::Memory,
                size: "x".into(),
                goals: Goals::Each(&[]),
            };
            device_peak(server, &case)
        };
        let found = figures(r#"{"device_reserved": 300, "device_peak": 200, "peak": 9}"#);
        let (found, images) = found.unwrap();
        assert_eq!((found.summary.median, found.allocated), (300., Some(200.)));
        assert_eq!(images, 2);
        let error = figures(r#"{"peak": 9}"#).unwrap_err().to_string();
        assert!(error.contains("no memory of a device"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_mode_that_fails_is_written_down_and_the_others_go_on() {
        let server = |answers: &str| {
            let script = format!("echo '{{\"hello\": 1}}'; {answers}");
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script]);
            let log = format!("fgvr-bench-test-measure-{}.log", answers.len());
            Server::start(command, &std::env::temp_dir().join(log)).unwrap()
        };
        let good = |seconds: &str| {
            let turn = format!(
                "read l; echo '{{\"seconds\": {seconds}}}'; echo '{{\"done\": 1, \"faults\": 4}}';"
            );
            format!("read l; echo '{{\"ready\": \"train/x\", \"images\": 2}}'; {turn}{turn}{turn}")
        };
        let side = |name, server| TorchSide {
            mode: Mode {
                name,
                script: name,
                tuned: true,
            },
            server,
        };
        let mut torch = [
            side("a", Ok(server(&good("3.5")))),
            side(
                "b",
                Ok(server("read l; echo '{\"error\": \"no compiler\"}';")),
            ),
            side("c", Err("no python".to_string())),
        ];
        let case = Case {
            group: Group::Train,
            size: "x".into(),
            goals: Goals::Best(None),
        };
        let effort = Effort {
            rounds: 2,
            quick: true,
            device: false,
        };
        let mut ours = server(&good("1.0"));
        let outcome = timed(&case, &mut ours, &mut torch, effort, &mut Progress::new(9)).unwrap();
        assert_eq!(outcome.ours.summary.count, 2);
        assert_eq!(outcome.best().unwrap().0, "a");
        assert_eq!(outcome.ratio(), Some(3.5));
        assert_eq!(outcome.modes[1].1, Err("no compiler".to_string()));
        assert_eq!(outcome.modes[2].1, Err("no python".to_string()));
    }
}
