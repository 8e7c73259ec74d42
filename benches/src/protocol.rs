//! What is said on standard input and output: a request a line, answers as JSON, one a line.
//!
//! | Request | Answer |
//! |---|---|
//! | (start) | `{"hello": "fgvr", "version", "simd", "threads", "processor", "device", "resident"}` |
//! | `list` | `{"cases": [...]}`, the cases of `micro` |
//! | `peak` | `{"peak": {"1": GFLOP/s, "<threads>": GFLOP/s}}` |
//! | `case NAME` | `{"ready": NAME, "images", "operations"}`, once it is prepared |
//! | `run K` | `{"seconds": s}` for each of K repetitions, then `{"done": K, "faults": n}` |
//! | `memory` | `{"resident", "peak"}`, bytes; of a device also `"device_reserved"`, `"device_peak"` |
//! | `reset` | `{"reset": true}`: the peak of memory, a device's where there is one, is counted anew |
//! | `gradients SIZE FILE` | `{"gradients": SIZE, "parameters", "loss"}`, once FILE is written |
//! | `parity NETWORK IMAGES FILE` | `{"parity": NETWORK, "tensors", "seconds"}`, once FILE is written |
//! | `preprocess SIZE CROP_PCT INTERPOLATION FILE PHOTO` | `{"photo": PHOTO}`, once FILE is written |
//!
//! What goes wrong is answered by `{"error": text}`, and the next request is read. The end of the input
//! ends the program. The scripts in `torch/` speak the same; they answer `gradients`, `parity`
//! and `preprocess` with the errors of what stands in FILE.
//!
//! A repetition ends when a device has done all of it. `device_peak` is what arrays held at most, `device_reserved`
//! what the process has taken from the card for them, what it keeps for the next included.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fgvr_nn::kernels::simd;
use serde_json::{Value, json};

use crate::case::{Case, Size, prepare};
use crate::parity::{self, Subject};
use crate::place::Place;
use crate::preprocess::Order;
use crate::{gradients, micro, peak, process};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Request {
    List,
    Peak,
    Case(String),
    Run(usize),
    Memory,
    Reset,
    Gradients(String, PathBuf),
    Parity(Subject, PathBuf),
    Preprocess(Order),
}

impl Request {
    fn parse(line: &str) -> Result<Self> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match (word, rest.trim()) {
            ("list", "") => Ok(Self::List),
            ("peak", "") => Ok(Self::Peak),
            ("memory", "") => Ok(Self::Memory),
            ("reset", "") => Ok(Self::Reset),
            ("case", name) if !name.is_empty() => Ok(Self::Case(name.to_owned())),
            ("gradients", rest) => match rest.split_once(' ') {
                Some((size, file)) => Ok(Self::Gradients(size.to_owned(), file.trim().into())),
                None => bail!("gradients: expected a size and a file, found `{rest}`"),
            },
            ("parity", rest) => match rest.splitn(3, ' ').collect::<Vec<_>>()[..] {
                [network, images, file] => Ok(Self::Parity(
                    Subject::parse(network, images)?,
                    file.trim().into(),
                )),
                _ => bail!("parity: expected a network, images and a file, found `{rest}`"),
            },
            ("preprocess", rest) => Ok(Self::Preprocess(Order::parse(rest)?)),
            ("run", count) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Run(count)),
                _ => bail!("run: expected a number of repetitions, found `{count}`"),
            },
            _ => bail!(
                "`{line}`: expected list, peak, memory, reset, case NAME, run K or gradients SIZE FILE"
            ),
        }
    }
}

/// Answers requests until there are no more.
pub(crate) fn serve(
    requests: impl Iterator<Item = std::io::Result<String>>,
    mut out: impl Write,
    threads: usize,
    place: &Place,
) -> Result<()> {
    say(&mut out, &hello(threads, place)?)?;
    let mut case: Option<Box<dyn Case>> = None;
    for line in requests {
        let line = line.context("cannot read a request")?;
        if let Err(error) = answer(&line, &mut case, &mut out, threads, place) {
            say(&mut out, &json!({ "error": format!("{error:#}") }))?;
        }
    }
    Ok(())
}

fn answer(
    line: &str,
    case: &mut Option<Box<dyn Case>>,
    out: &mut impl Write,
    threads: usize,
    place: &Place,
) -> Result<()> {
    match Request::parse(line)? {
        Request::List => {
            let names: Vec<String> = micro::names()?
                .iter()
                .map(|name| format!("micro/{name}"))
                .collect();
            say(out, &json!({ "cases": names }))
        }
        Request::Peak => {
            let one = peak::gigaflops(1);
            let mut found = serde_json::Map::from_iter([("1".to_owned(), json!(one))]);
            if threads > 1 {
                found.insert(threads.to_string(), json!(peak::gigaflops(threads)));
            }
            say(out, &json!({ "peak": found }))
        }
        Request::Case(name) => {
            // The one before goes first, so that two never share the memory.
            *case = None;
            let prepared = case.insert(prepare(&name, place)?);
            say(
                out,
                &json!({
                    "ready": name,
                    "images": prepared.images(),
                    "operations": prepared.operations(),
                }),
            )
        }
        Request::Run(count) => {
            let case = case.as_mut().context("run: no case was prepared")?;
            let before = process::minor_faults().ok();
            for _ in 0..count {
                let start = Instant::now();
                case.step()?;
                place.wait()?;
                let seconds = start.elapsed().as_secs_f64();
                say(out, &json!({ "seconds": seconds }))?;
            }
            let after = process::minor_faults().ok();
            let faults = after.zip(before).map(|(after, before)| after - before);
            say(out, &json!({ "done": count, "faults": faults }))
        }
        Request::Memory => {
            let memory = process::memory()?;
            let mut answer = json!({ "resident": memory.resident, "peak": memory.peak });
            if let Some(device) = place.compute.device() {
                let held = device.memory()?;
                answer["device_reserved"] = json!(held.reserved);
                answer["device_peak"] = json!(held.peak);
            }
            say(out, &answer)
        }
        Request::Reset => {
            match place.compute.device() {
                Some(device) => device.reset_peak(),
                None => process::reset_peak()?,
            }
            say(out, &json!({ "reset": true }))
        }
        Request::Gradients(size, file) => {
            // What was prepared goes first here too.
            *case = None;
            say(out, &written(&size, &file)?)
        }
        Request::Preprocess(order) => {
            order.write()?;
            say(out, &json!({ "photo": order.photo }))
        }
        Request::Parity(subject, file) => {
            *case = None;
            let written = parity::write(&subject, &file)?;
            say(
                out,
                &json!({
                    "parity": subject.architecture.name(),
                    "tensors": written.tensors,
                    "seconds": written.seconds,
                }),
            )
        }
    }
}

fn written(size: &str, file: &Path) -> Result<Value> {
    let written = gradients::write(Size::parse(size)?, file)?;
    Ok(json!({
        "gradients": size,
        "parameters": written.parameters,
        "loss": written.loss,
    }))
}

fn hello(threads: usize, place: &Place) -> Result<Value> {
    let here = fgvr_train::Environment::here(place.compute.name());
    Ok(json!({
        "hello": "fgvr",
        "version": here.version,
        "simd": simd::level().name(),
        "threads": threads,
        "processor": here.processor,
        "device": here.device,
        "resident": process::memory().ok().map(|memory| memory.resident),
    }))
}

fn say(out: &mut impl Write, answer: &Value) -> Result<()> {
    writeln!(out, "{answer}")
        .and_then(|()| out.flush())
        .context("cannot answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(requests: &[&str]) -> Vec<Value> {
        let mut out = Vec::new();
        let lines = requests.iter().map(|line| Ok((*line).to_owned()));
        serve(lines, &mut out, 1, &Place::cpu()).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn requests_are_read_and_wrong_ones_named() {
        let parse = |line: &str| Request::parse(line).ok();
        assert_eq!(parse("run 3"), Some(Request::Run(3)));
        assert_eq!(parse(" case a/b "), Some(Request::Case("a/b".into())));
        assert_eq!(parse("memory"), Some(Request::Memory));
        assert_eq!(
            parse("gradients resnet18-64-b16 a folder/file"),
            Some(Request::Gradients(
                "resnet18-64-b16".into(),
                "a folder/file".into()
            ))
        );
        assert_eq!(
            parse("parity resnet18 2x32x48 a folder/file"),
            Some(Request::Parity(
                Subject::parse("resnet18", "2x32x48").unwrap(),
                "a folder/file".into()
            ))
        );
        for wrong in [
            "",
            "parity resnet18 2x32x48",
            "case",
            "run",
            "run 0",
            "run x",
            "list 3",
            "stop",
            "gradients x",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_case_is_prepared_and_each_repetition_answered() {
        let answers = answers(&[
            "case micro/n1-h5-i3-o4-k3-s1-p1/forward",
            "run 2",
            "memory",
            "reset",
        ]);
        assert_eq!(answers[0]["hello"], "fgvr");
        assert_eq!(answers[0]["device"], "cpu");
        assert_eq!(answers[1]["images"], 1);
        assert_eq!(answers[1]["operations"], 5400.);
        for repetition in &answers[2..4] {
            assert!(repetition["seconds"].as_f64().unwrap() >= 0.);
        }
        assert_eq!(answers[4]["done"], 2);
        assert!(answers[5]["peak"].as_u64() >= answers[5]["resident"].as_u64());
        assert_eq!(answers[5].get("device_peak"), None);
        assert_eq!(answers[6]["reset"], true);
    }

    #[test]
    fn an_error_is_an_answer_and_the_next_request_is_read() {
        let answers = answers(&["run 1", "case x", "list"]);
        assert!(answers[1]["error"].as_str().unwrap().contains("no case"));
        assert!(answers[2]["error"].as_str().unwrap().contains("train/"));
        assert!(answers[3]["cases"].as_array().unwrap().len() > 100);
    }
}
