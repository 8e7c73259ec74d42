//! What the emulator keeps of a file is not taken for another version of it.

mod support;

use std::path::Path;

use fgvr_cuda::emulator::Emulator;
use fgvr_cuda::{Argument, Array, DType, File, Launch, Machine, Module, Real};

static BEFORE: File = File {
    name: "changed.cu",
    text: "#include \"common.cuh\"\nKERNEL(answer)(float* y) { y[0] = 1.0f; }\n",
    reals: &[Real::F32],
};
static AFTER: File = File {
    name: "changed.cu",
    text: "#include \"common.cuh\"\nKERNEL(answer)(float* y) { y[0] = 2.0f; }\n",
    reals: &[Real::F32],
};

#[test]
fn a_changed_kernel_is_compiled_again() {
    let emulator = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => emulator,
        Err(error) => return support::skipped(&error),
    };
    for (file, expected) in [(&BEFORE, 1.), (&AFTER, 2.)] {
        let y = Array::new(&emulator, DType::F32, 1).unwrap();
        let launch = Launch {
            module: Module {
                file,
                real: Real::F32,
            },
            kernel: "answer",
            grid: [1; 3],
            block: [1; 3],
            shared: 0,
            arguments: &[Argument::Array(&y)],
        };
        emulator.launch(&launch).unwrap();
        assert_eq!(y.to_f32(&emulator).unwrap(), [expected]);
    }
}
