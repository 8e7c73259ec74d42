//! A process that prepares a case and repeats it when told to: ours, or PyTorch.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Last lines of a log that an error shows.
const LINES: usize = 6;

/// A running process and what it said at the start.
pub(crate) struct Server {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
    /// Version, threads, memory before anything was prepared.
    pub(crate) hello: Value,
}

/// The answer to [`Server::run`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Turn {
    /// Seconds of each repetition.
    pub(crate) seconds: Vec<f64>,
    /// Page faults of all of them together, where the system counts them.
    pub(crate) faults: Option<u64>,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) peak: u64,
}

impl Server {
    /// Starts `command`, whose complaints go to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().context("no standard output")?;
        let mut server = Self {
            child,
            requests,
            answers: BufReader::new(answers),
            log: log.to_path_buf(),
            hello: Value::Null,
        };
        server.hello = server.answer()?;
        ensure!(
            server.hello.get("hello").is_some(),
            "it said {} instead of hello",
            server.hello
        );
        Ok(server)
    }

    /// Prepares a case; the answer has `images` and, for some, `operations`.
    pub(crate) fn prepare(&mut self, case: &str) -> Result<Value> {
        let answer = self.ask(&format!("case {case}"))?;
        ensure!(answer["ready"] == case, "it said {answer} instead of ready");
        Ok(answer)
    }

    /// Repeats what is prepared.
    pub(crate) fn run(&mut self, count: usize) -> Result<Turn> {
        self.say(&format!("run {count}"))?;
        let mut turn = Turn::default();
        loop {
            let answer = self.answer()?;
            if let Some(seconds) = answer["seconds"].as_f64() {
                turn.seconds.push(seconds);
            } else if answer["done"] == count && turn.seconds.len() == count {
                turn.faults = answer["faults"].as_u64();
                return Ok(turn);
            } else {
                bail!("it said {answer} among the seconds");
            }
        }
    }

    pub(crate) fn memory(&mut self) -> Result<Memory> {
        let answer = self.ask("memory")?;
        let peak = answer["peak"].as_u64().context("no peak")?;
        Ok(Memory { peak })
    }

    /// A request of one answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Value> {
        self.say(request)?;
        self.answer()
    }

    fn say(&mut self, request: &str) -> Result<()> {
        let requests = self.requests.as_mut().context("it is told to end")?;
        let said = writeln!(requests, "{request}").and_then(|()| requests.flush());
        if said.is_err() {
            bail!("{}", self.ended());
        }
        Ok(())
    }

    /// The next answer; an error where it is one, and where the process has ended.
    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self
            .answers
            .read_line(&mut line)
            .context("cannot read what it says")?;
        if length == 0 {
            bail!("{}", self.ended());
        }
        parse(&line)
    }

    fn ended(&mut self) -> String {
        let status = self
            .child
            .wait()
            .map_or("without status".into(), |s| s.to_string());
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!(
            "it ended ({status}); {} ends with: {}",
            self.log.display(),
            tail(&log)
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends it; what comes too late is not waited for.
        self.requests = None;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::time::Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, or the error that it tells of.
fn parse(line: &str) -> Result<Value> {
    let answer: Value = serde_json::from_str(line)
        .with_context(|| format!("expected an answer in JSON, found {:?}", line.trim_end()))?;
    match answer["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(answer),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => "nothing".to_string(),
        n => lines[n.saturating_sub(LINES)..].join("\n    "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_and_an_error_becomes_one() {
        assert_eq!(parse("{\"seconds\": 0.5}\n").unwrap()["seconds"], 0.5);
        let error = parse("{\"error\": \"no compiler\"}").unwrap_err();
        assert_eq!(error.to_string(), "no compiler");
        assert!(
            parse("Segmentation fault")
                .unwrap_err()
                .to_string()
                .contains("Segmentation")
        );
    }

    #[test]
    fn a_log_is_shown_from_its_end() {
        assert_eq!(tail("\n"), "nothing");
        let log: String = (0..9).map(|i| format!("{i}\n")).collect();
        assert!(tail(&log).starts_with('3') && tail(&log).ends_with('8'));
    }

    /// A server in the shell, which answers as the real ones do.
    #[cfg(unix)]
    fn shell(script: &str) -> Result<Server> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = std::env::temp_dir().join(format!("fgvr-bench-test-{}.log", script.len()));
        Server::start(command, &log)
    }

    #[cfg(unix)]
    #[test]
    fn a_turn_is_the_seconds_between_request_and_done() {
        let mut server = shell(
            "echo '{\"hello\": \"sh\"}'; read line; echo '{\"ready\": \"a\", \"images\": 3}'; \
             read line; echo '{\"seconds\": 1.5}'; echo '{\"seconds\": 2}'; \
             echo '{\"done\": 2, \"faults\": 7}'",
        )
        .unwrap();
        assert_eq!(server.prepare("a").unwrap()["images"], 3);
        let turn = server.run(2).unwrap();
        assert_eq!((turn.seconds, turn.faults), (vec![1.5, 2.], Some(7)));
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_ends_is_an_error_with_its_last_words() {
        let mut server =
            shell("echo '{\"hello\": 1}'; read line; echo 'out of memory' >&2").unwrap();
        let error = server.prepare("b").unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
}
