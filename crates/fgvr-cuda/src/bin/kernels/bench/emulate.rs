//! Each case once, where there is no GPU.

use std::process::ExitCode;

use anyhow::Result;
use fgvr_cuda::bench::{Case, Inputs};
use fgvr_cuda::emulator::Emulator;

use crate::{complain, say};

pub(super) fn run(cases: &[Case]) -> Result<ExitCode> {
    let emulator = Emulator::new(&std::env::temp_dir().join("fgvr-kernels"))?;
    let mut inputs = Inputs::new(&emulator);
    let mut failed = 0;
    for case in cases {
        let ran = case.prepare(&mut inputs).and_then(|mut run| run(&emulator));
        say(&match &ran {
            Ok(()) => format!("ok    {}", case.work.name),
            Err(error) => format!("FAIL  {}\n{error}", case.work.name),
        })?;
        failed += usize::from(ran.is_err());
    }
    let all = cases.len();
    complain(&format!(
        "{} of {all} launch on the emulator; nothing was timed",
        all - failed
    ));
    Ok(ExitCode::from(u8::from(failed > 0)))
}
