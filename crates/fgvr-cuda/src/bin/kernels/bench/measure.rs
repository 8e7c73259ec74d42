//! The measurement: cases and ceilings take turns, so that a GPU that slows down slows all.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use fgvr_cuda::bench::{self, Arithmetic, Case, Inputs, Scale, Work};
use fgvr_cuda::gpu::{Gpu, Precision};
use fgvr_cuda::{Array, DType, Real};

use super::Arguments;
use super::outcome::{Ceilings, Outcome, Quartiles, Row, Times};
use crate::complain;

/// A turn of a case, in seconds.
const TURN: f64 = 0.02;
/// Calls of a turn, at most.
const MOST: f64 = 10_000.;
/// Calls before anything is timed: kernels are compiled and loaded, cuDNN chooses, memory is taken.
const WARM_UP: usize = 3;
/// Calls that a first estimate is made from; few enough that the host never waits for room to queue them.
const FIRST: u32 = 20;
/// Values of the copy that shows the memory's speed.
const COPIED: usize = 1 << 28;

/// One call, on the GPU of its case.
type Call<'a> = Box<dyn FnMut() -> fgvr_cuda::Result<()> + 'a>;

/// A case that is ready.
struct Timed<'a> {
    gpu: &'a Gpu,
    call: Call<'a>,
    repeats: u32,
    host: f64,
    /// Seconds of one call, a number for each turn.
    seconds: Vec<f64>,
}

/// A case that is timed, or why it is not.
struct Entry<'a> {
    work: Work,
    timed: Result<Timed<'a>, String>,
}

pub(super) fn run(arguments: &Arguments, cases: Vec<Case>) -> Result<Outcome> {
    let precision = match arguments.tf32 {
        true => Precision::Tf32,
        false => Precision::Full,
    };
    let full = Gpu::new(arguments.gpu, Precision::Full)?;
    let gpu = Gpu::new(arguments.gpu, precision)?;
    let (name, target) = (gpu.name(), gpu.target());
    complain(&format!(
        "{name} ({target}): preparing {} cases",
        cases.len()
    ));
    let mut inputs = Inputs::new(&gpu);
    let mut of_full = Inputs::new(&full);
    // The ceilings are always measured, whatever cases were chosen.
    let product = |real| bench::product_ceiling(Scale::Training, real);
    let mut entries = vec![
        Entry::prepare(&gpu, &mut inputs, product(Real::Bf16)),
        Entry::prepare(&full, &mut of_full, product(Real::F32)),
    ];
    if arguments.tf32 {
        entries.push(Entry::prepare(&gpu, &mut inputs, product(Real::F32)));
    }
    let products = entries.len();
    entries.push(copy(&gpu, &mut inputs)?);
    let of_memory = bench::memory_ceilings(Scale::Training);
    let chosen = of_memory.len();
    for case in of_memory.into_iter().chain(cases) {
        entries.push(Entry::prepare(&gpu, &mut inputs, case));
    }
    let ceilings = products + 1 + chosen;
    for round in 1..=arguments.rounds {
        complain(&format!("round {round} of {}", arguments.rounds));
        for entry in &mut entries {
            if let Ok(timed) = &mut entry.timed {
                timed.turn().with_context(|| entry.work.name.clone())?;
            }
        }
    }
    let mut measured: Vec<Row> = entries.into_iter().map(Entry::row).collect();
    let rows = measured.split_off(ceilings);
    Ok(Outcome {
        gpu: name.to_owned(),
        target: target.to_owned(),
        cache: gpu.cache_bytes()?,
        rounds: arguments.rounds,
        ceilings: highest(&measured, products)?,
        measured,
        rows,
    })
}

/// The ceilings of the rows of bf16, f32 and perhaps TF32 products and then of those of memory.
fn highest(measured: &[Row], products: usize) -> Result<Ceilings> {
    let mut rates = Vec::new();
    for (at, row) in measured.iter().enumerate() {
        let times = row.result.as_ref();
        let times = times.map_err(|why| anyhow!("{}: {why}", row.work.name))?;
        let count = match at < products {
            true => row.work.operations,
            false => row.work.bytes,
        };
        rates.push(count as f64 / times.gpu.median);
    }
    let (products, memory) = rates.split_at(products);
    Ok(Ceilings {
        memory: memory.iter().copied().fold(0., f64::max),
        bf16: products[0],
        f32: products[1],
        tf32: products.get(2).copied(),
    })
}

/// A copy by the driver, beside this project's kernels.
fn copy<'a>(gpu: &'a Gpu, inputs: &mut Inputs<'_>) -> Result<Entry<'a>> {
    let from = inputs.reals(Real::F32, COPIED)?;
    let to = Array::new(gpu, DType::F32, COPIED)?;
    let work = Work {
        name: "ceiling: copy".into(),
        bytes: 2 * from.memory().bytes(),
        operations: 0,
        arithmetic: Arithmetic::Vector,
    };
    let call = Box::new(move || gpu.copy(from.memory(), to.memory()));
    let timed = Timed::new(gpu, call)?;
    Ok(Entry {
        work,
        timed: Ok(timed),
    })
}

impl<'a> Entry<'a> {
    /// A case that cannot run, such as for want of memory, does not keep others from it.
    fn prepare(gpu: &'a Gpu, inputs: &mut Inputs<'_>, case: Case) -> Self {
        let timed = case.prepare(inputs).and_then(|mut run| {
            let call = Box::new(move || run(gpu));
            Timed::new(gpu, call)
        });
        Self {
            work: case.work,
            timed: timed.map_err(|error| error.to_string()),
        }
    }

    fn row(self) -> Row {
        let times = |timed: Timed<'_>| Times {
            gpu: Quartiles::of(&timed.seconds),
            host: timed.host,
            repeats: timed.repeats,
        };
        Row {
            work: self.work,
            result: self.timed.map(times),
        }
    }
}

impl<'a> Timed<'a> {
    /// Warms up and decides on the number of calls.
    fn new(gpu: &'a Gpu, mut call: Call<'a>) -> fgvr_cuda::Result<Self> {
        for _ in 0..WARM_UP {
            call()?;
        }
        gpu.synchronise()?;
        let mut host = 0.;
        let took = gpu.time(|| {
            let begun = Instant::now();
            (0..FIRST).try_for_each(|_| call())?;
            host = begun.elapsed().as_secs_f64();
            Ok(())
        })?;
        let each = took.as_secs_f64() / f64::from(FIRST);
        Ok(Self {
            gpu,
            call,
            repeats: (TURN / each).ceil().clamp(1., MOST) as u32,
            host: host / f64::from(FIRST),
            seconds: Vec::new(),
        })
    }

    fn turn(&mut self) -> fgvr_cuda::Result<()> {
        // One untimed call takes back the memory that the pool gave up when it last waited.
        (self.call)()?;
        let took = self
            .gpu
            .time(|| (0..self.repeats).try_for_each(|_| (self.call)()))?;
        self.seconds
            .push(took.as_secs_f64() / f64::from(self.repeats));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: usize, operations: usize, seconds: f64) -> Row {
        Row {
            work: Work {
                name: "ceiling: x".into(),
                bytes,
                operations,
                arithmetic: Arithmetic::Vector,
            },
            result: Ok(Times {
                gpu: Quartiles::of(&[seconds]),
                host: 0.,
                repeats: 1,
            }),
        }
    }

    #[test]
    fn the_ceiling_of_memory_is_the_fastest_of_its_rows_and_products_have_their_own() {
        let mut rows = vec![row(9, 40, 2.), row(9, 30, 2.), row(9, 20, 2.)];
        rows.extend([row(6, 0, 1.), row(8, 90, 1.), row(7, 0, 1.)]);
        let found = highest(&rows, 3).unwrap();
        assert_eq!([found.bf16, found.f32, found.memory], [20., 15., 8.]);
        assert_eq!(found.tf32, Some(10.));
        rows.remove(2);
        assert_eq!(highest(&rows, 2).unwrap().tf32, None);
    }

    #[test]
    fn a_ceiling_that_was_not_measured_is_an_error_that_names_it() {
        let mut rows = vec![row(1, 1, 1.), row(1, 1, 1.), row(1, 1, 1.)];
        rows[1].result = Err("out of GPU memory".into());
        let error = highest(&rows, 2).unwrap_err().to_string();
        assert_eq!(error, "ceiling: x: out of GPU memory");
    }
}
