//! What `kernels bench` times: operations at the shapes of real training.
//!
//! One list, at two [`Scale`]s: that of training, and one so small that the emulator runs it in seconds and
//! shows that every case launches. The shapes are those of MoCo v2 (arXiv:2003.04297) with a ResNet-50 and of a
//! ViT-S/16, on images of 224 px, 256 a batch, in bf16.

mod convolution;
mod inputs;
mod loss;
mod norm;
mod pair;
mod perturb;
mod places;
mod update;
mod vit;

use crate::ops::{elementwise, layout};
use crate::{Array, DType, Machine, Product, Real, Result};

pub use inputs::Inputs;

/// How large the operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As in training.
    Training,
    /// As small as shows that all launches.
    Small,
}

impl Scale {
    /// The size at this scale.
    #[must_use]
    pub fn size(self, training: usize, small: usize) -> usize {
        match self {
            Self::Training => training,
            Self::Small => small,
        }
    }
}

/// What computes, and so which of the GPU's ceilings a case cannot pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// f32 outside of matrix products.
    Vector,
    /// A library's products of factors of this type, or tensor cores.
    Product(Real),
}

/// One call of a prepared case; it waits for nothing.
pub type Run = Box<dyn FnMut(&dyn Machine) -> Result<()>>;

type Prepare = dyn Fn(&mut Inputs<'_>) -> Result<Run>;

/// What an operation at one shape takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Its group, a colon, what it is.
    pub name: String,
    /// Bytes that must move, each operand once: what a kernel that keeps nothing back could not do without.
    pub bytes: usize,
    /// Floating-point operations; a function such as exp counts as one.
    pub operations: usize,
    /// What does them.
    pub arithmetic: Arithmetic,
}

/// An operation at one shape.
pub struct Case {
    /// What it takes.
    pub work: Work,
    prepare: Box<Prepare>,
}

impl Case {
    fn new<F>(
        name: &str,
        (bytes, operations): (usize, usize),
        prepare: impl Fn(&mut Inputs<'_>) -> Result<F> + 'static,
    ) -> Self
    where
        F: FnMut(&dyn Machine) -> Result<()> + 'static,
    {
        Self {
            work: Work {
                name: name.to_owned(),
                bytes,
                operations,
                arithmetic: Arithmetic::Vector,
            },
            prepare: Box::new(move |inputs| Ok(Box::new(prepare(inputs)?))),
        }
    }

    fn on(mut self, arithmetic: Arithmetic) -> Self {
        self.work.arithmetic = arithmetic;
        self
    }

    /// The product c = a b of factors of `real`, with c of `out`.
    fn product(name: &str, product: Product, real: Real, out: DType) -> Self {
        let Product { m, n, k, .. } = product;
        let factors = DType::from(real).bytes() * (m * k + k * n);
        let work = (factors + out.bytes() * m * n, 2 * m * n * k);
        Self::new(name, work, move |inputs| {
            let (a, b) = (inputs.reals(real, m * k)?, inputs.reals(real, k * n)?);
            Ok(move |machine: &dyn Machine| {
                let c = Array::new(machine, out, m * n)?;
                machine.multiply(&product, [&a, &b, &c], false)
            })
        })
        .on(Arithmetic::Product(real))
    }

    /// Makes its operands, random, on the machine of `inputs`.
    ///
    /// # Errors
    /// What the machine says.
    pub fn prepare(&self, inputs: &mut Inputs<'_>) -> Result<Run> {
        inputs.next_case();
        (self.prepare)(inputs)
    }
}

/// All cases, in the order of a table.
#[must_use]
pub fn cases(scale: Scale) -> Vec<Case> {
    let groups = [
        convolution::cases,
        norm::cases,
        places::cases,
        vit::cases,
        loss::cases,
        update::cases,
        perturb::cases,
        pair::cases,
    ];
    groups.iter().flat_map(|group| group(scale)).collect()
}

/// What shows how fast the GPU can move bytes, by kernels that do nothing else.
#[must_use]
pub fn memory_ceilings(scale: Scale) -> Vec<Case> {
    let len = scale.size(1 << 28, 1 << 12);
    let f32s = |count: usize| count * len * 4;
    vec![
        Case::new(
            "ceiling: cast f32 to bf16",
            (f32s(1) + 2 * len, 0),
            move |inputs| {
                let x = inputs.reals(Real::F32, len)?;
                Ok(move |machine: &dyn Machine| layout::cast(machine, &x, DType::Bf16).map(drop))
            },
        ),
        Case::new("ceiling: add f32", (f32s(3), len), move |inputs| {
            let (y, x) = (inputs.own(Real::F32, len)?, inputs.reals(Real::F32, len)?);
            Ok(move |machine: &dyn Machine| elementwise::add_to(machine, &y, &x))
        }),
    ]
}

/// What shows how fast the GPU can multiply matrices of `real`.
#[must_use]
pub fn product_ceiling(scale: Scale, real: Real) -> Case {
    let side = scale.size(8192, 8);
    let product = Product {
        m: side,
        n: side,
        k: side,
        a_transposed: false,
        b_transposed: false,
    };
    let name = format!("ceiling: {} product", real.name());
    Case::product(&name, product, real, real.into())
}

/// Bytes of so many values of bf16.
fn bf16(values: usize) -> usize {
    2 * values
}

/// Bytes of so many values of f32.
fn f32s(values: usize) -> usize {
    4 * values
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::emulator::Emulator;

    #[test]
    fn every_case_launches_on_the_emulator() {
        // Where the other tests keep what they have compiled: target/tmp.
        let program = std::env::current_exe().unwrap();
        let tmp = program.ancestors().nth(3).unwrap().join("tmp");
        let emulator = match Emulator::new(&tmp) {
            Ok(emulator) => emulator,
            Err(error) => {
                use std::io::Write as _;
                // Not `eprintln!`, which the test harness keeps to itself where a test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
                return;
            }
        };
        let mut inputs = Inputs::new(&emulator);
        let products = Real::ALL
            .iter()
            .map(|real| product_ceiling(Scale::Small, *real));
        let ceilings = memory_ceilings(Scale::Small).into_iter().chain(products);
        for case in cases(Scale::Small).into_iter().chain(ceilings) {
            let ran = case
                .prepare(&mut inputs)
                // Twice: a case may write its own operands.
                .and_then(|mut run| run(&emulator).and_then(|()| run(&emulator)));
            assert!(ran.is_ok(), "{}: {}", case.work.name, ran.unwrap_err());
        }
    }

    #[test]
    fn both_scales_have_the_same_cases_under_names_of_their_own() {
        let names =
            |scale| -> Vec<String> { cases(scale).into_iter().map(|c| c.work.name).collect() };
        let training = names(Scale::Training);
        assert_eq!(training, names(Scale::Small));
        assert_eq!(
            training.iter().collect::<HashSet<_>>().len(),
            training.len()
        );
        for name in &training {
            assert!(name.contains(": ") && name.len() <= 38, "{name}");
        }
    }

    #[test]
    fn every_case_moves_bytes_and_training_moves_more() {
        for (training, small) in cases(Scale::Training).iter().zip(cases(Scale::Small)) {
            let (training, small) = (&training.work, &small.work);
            let name = &small.name;
            assert!(small.bytes > 0 && training.bytes > small.bytes, "{name}");
            assert!(training.operations >= small.operations, "{name}");
        }
    }

    #[test]
    fn the_work_of_a_convolution_is_the_sum_over_its_taps() {
        let name = "conv: block 3x3, forward";
        let all = cases(Scale::Training);
        let case = all.iter().find(|case| case.work.name == name).unwrap();
        // 256 maps of 28 x 28 places, 128 channels to 128, 9 taps, a product and a sum each.
        assert_eq!(case.work.operations, 2 * 256 * 28 * 28 * 128 * 128 * 9);
        assert_eq!(
            case.work.bytes,
            2 * (2 * 256 * 28 * 28 * 128 + 9 * 128 * 128)
        );
    }
}
