//! What the targets share: a bound on memory, and what is done with weights that open.

use fgvr_encoder::weights::{LoadOptions, Weights};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What a reader may take whatever the input: buffers for hashing, and the allowance for small
/// files.
const CONSTANT: usize = 8 << 20;

/// Calls `read` on `input` and fails if it ever took more than ten times the input and a constant.
pub fn bounded<T>(input: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = read(input);
    let peak = HEAP.peak_usage().saturating_sub(before);
    assert!(
        peak <= 10 * input.len() + CONSTANT,
        "{peak} bytes of memory for {} bytes of input",
        input.len()
    );
    result
}

/// Opens `bytes` as a file of weights and does with it all that can be done.
pub fn open(bytes: &[u8]) {
    let weights = match Weights::from_bytes("input", bytes.to_vec()) {
        Ok(weights) => weights,
        Err(error) => {
            error.to_string();
            return;
        }
    };
    for name in weights.tensors().keys() {
        match weights.read(name) {
            Ok(tensor) => assert_eq!(tensor.dims(), weights.tensors()[name].shape),
            Err(error) => drop(error.to_string()),
        }
    }
    let summary = weights.summary().to_string();
    assert!(summary.lines().all(|line| line.chars().count() <= 100));
    let parameters = parameters();
    if let Ok(report) = fgvr_encoder::load(&parameters, &weights, &LoadOptions::default()) {
        assert!(
            report
                .to_string()
                .lines()
                .all(|line| line.chars().count() <= 100)
        );
    }
}

/// The variables of a small network.
fn parameters() -> fgvr_nn::Parameters {
    use candle_core::{DType, Device};
    let parameters = fgvr_nn::Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    for (name, shape) in [
        ("conv1.weight", vec![2, 3]),
        ("cls_token", vec![1, 1, 2]),
        ("pos_embed", vec![1, 5, 2]),
    ] {
        vb.get_with_hints(shape, name, candle_nn::Init::Const(0.))
            .expect("a new variable");
    }
    parameters
}
