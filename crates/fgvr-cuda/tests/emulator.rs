//! What the emulator finds that compiles.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod support;

use std::path::Path;

use fgvr_cuda::emulator::{Emulator, Order};
use fgvr_cuda::{Argument, Array, DType, File, Launch, Machine, Module, Real};

static PLANTED: File = File {
    name: "caught_when_run.cu",
    text: include_str!("planted/caught_when_run.cu"),
    reals: &[Real::F32],
};

const THREADS: usize = 64;

fn emulator() -> Option<Emulator> {
    match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => Some(emulator),
        Err(error) => {
            support::skipped(&error);
            None
        }
    }
}

fn launch(
    emulator: &Emulator,
    kernel: &'static str,
    arguments: &[Argument<'_>],
) -> Result<(), String> {
    let launch = Launch {
        module: Module {
            file: &PLANTED,
            real: Real::F32,
        },
        kernel,
        grid: [1, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments,
    };
    emulator.launch(&launch).map_err(|error| error.to_string())
}

fn finds(kernel: &'static str, what: &str) {
    let Some(emulator) = emulator() else { return };
    let x = Array::from_f32(&emulator, &[1.; THREADS]).unwrap();
    let error = launch(&emulator, kernel, &[Argument::Array(&x)]).unwrap_err();
    assert_eq!(error, format!("{kernel}_f32: {what}"));
}

#[test]
fn a_barrier_that_some_threads_miss() {
    finds(
        "barrier_missed",
        "a barrier of the block was not reached by all threads, in block (0, 0, 0)",
    );
}

#[test]
fn an_exchange_that_a_lane_misses() {
    finds(
        "lane_missing",
        "a warp's exchange was not reached by all lanes, in block (0, 0, 0)",
    );
}

#[test]
fn a_write_beyond_an_array() {
    finds("write_beyond", "a write 0 bytes beyond an array of 256");
}

#[test]
fn a_write_beyond_shared_memory() {
    finds(
        "shared_beyond",
        "a write beyond the shared array room, in block (0, 0, 0)",
    );
}

#[test]
fn a_result_that_depends_on_the_order_of_threads() {
    let Some(emulator) = emulator() else { return };
    let values: Vec<f32> = (0..THREADS).map(|i| i as f32).collect();
    let mut seen = Vec::new();
    for order in Order::ALL {
        emulator.set_order(*order);
        let x = Array::from_f32(&emulator, &values).unwrap();
        launch(&emulator, "barrier_left_out", &[Argument::Array(&x)]).unwrap();
        seen.push(x.to_f32(&emulator).unwrap());
    }
    assert!(
        seen.iter().any(|values| values.iter().any(|v| v.is_nan())),
        "shared memory starts as NaN"
    );
    assert!(
        seen[1..]
            .iter()
            .any(|values| format!("{values:?}") != format!("{:?}", seen[0]))
    );
}

#[test]
fn an_output_that_was_not_written() {
    let Some(emulator) = emulator() else { return };
    let x = Array::new(&emulator, DType::F32, THREADS).unwrap();
    launch(&emulator, "half_unwritten", &[Argument::Array(&x)]).unwrap();
    let values = x.to_f32(&emulator).unwrap();
    assert!(values[..32].iter().all(|v| *v == 1.) && values[32..].iter().all(|v| v.is_nan()));
}

#[test]
fn arguments_that_the_kernel_does_not_take() {
    let Some(emulator) = emulator() else { return };
    let error = launch(&emulator, "write_beyond", &[]).unwrap_err();
    assert_eq!(
        error,
        "write_beyond_f32: the kernel takes 1 arguments, 0 were given"
    );
    let error = launch(&emulator, "write_beyond", &[Argument::I32(3)]).unwrap_err();
    assert_eq!(
        error,
        "write_beyond_f32: argument 0 has 4 bytes, the kernel takes 8"
    );
    let error = launch(&emulator, "no_such_kernel", &[]).unwrap_err();
    assert_eq!(
        error,
        "no_such_kernel_f32: no such kernel in caught_when_run.cu for f32"
    );
}

#[test]
fn a_file_that_does_not_compile_has_its_line_in_the_error() {
    static WRONG: File = File {
        name: "undefined_name.cu",
        text: include_str!("planted/undefined_name.cu"),
        reals: &[Real::F32],
    };
    let Some(emulator) = emulator() else { return };
    let module = Module {
        file: &WRONG,
        real: Real::F32,
    };
    let error = emulator
        .launch(&Launch {
            module,
            kernel: "undefined_name",
            grid: [1, 1, 1],
            block: [1, 1, 1],
            shared: 0,
            arguments: &[],
        })
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("undefined_name.cu:5: "), "{error}");
    assert!(error.contains("scale_of_nothing"), "{error}");
}
