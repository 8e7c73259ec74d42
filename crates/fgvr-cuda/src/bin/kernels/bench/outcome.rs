//! What was measured, and what it is beside what the GPU can do.
#![cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]

use fgvr_cuda::Real;
use fgvr_cuda::bench::{Arithmetic, Work};
use serde_json::{Value, json};

/// The middle of repetitions and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quartiles {
    pub(super) first: f64,
    pub(super) median: f64,
    pub(super) third: f64,
}

impl Quartiles {
    /// Of `values`, linear between two of them; zeros where there are none.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            let value = |index: f64| sorted.get(index as usize).copied().unwrap_or(0.);
            let (low, high) = (value(place.floor()), value(place.ceil()));
            low + (high - low) * place.fract()
        };
        Self {
            first: at(0.25),
            median: at(0.5),
            third: at(0.75),
        }
    }
}

/// The time of one call, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    /// Over rounds.
    pub(super) gpu: Quartiles,
    /// What the host needs to start it.
    pub(super) host: f64,
    /// Calls of a round.
    pub(super) repeats: u32,
}

/// What the GPU can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ceilings {
    /// Bytes a second.
    pub(super) memory: f64,
    /// Operations a second of bf16 products.
    pub(super) bf16: f64,
    /// Operations a second of f32 products.
    pub(super) f32: f64,
    /// Operations a second of f32 products on factors of 10 bits, where these were asked for.
    pub(super) tf32: Option<f64>,
}

impl Ceilings {
    /// Its name and operations a second.
    fn of(&self, arithmetic: Arithmetic) -> (&'static str, f64) {
        match (arithmetic, self.tf32) {
            (Arithmetic::Product(Real::Bf16), _) => ("bf16", self.bf16),
            (Arithmetic::Product(Real::F32), Some(tf32)) => ("tf32", tf32),
            _ => ("f32", self.f32),
        }
    }
}

/// One case, and its times or what went wrong.
pub(super) struct Row {
    pub(super) work: Work,
    pub(super) result: Result<Times, String>,
}

/// What a row is beside the ceilings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Bytes a second.
    pub(super) bytes: f64,
    /// Operations a second.
    pub(super) operations: f64,
    /// Share of the nearer ceiling.
    pub(super) share: f64,
    /// The nearer ceiling.
    pub(super) of: &'static str,
    /// Bytes that fit the cache.
    pub(super) cached: bool,
    /// The host takes as long to start it, within a tenth.
    pub(super) by_host: bool,
}

/// All that one run has measured.
pub(super) struct Outcome {
    pub(super) gpu: String,
    pub(super) target: String,
    /// Bytes of the second-level cache.
    pub(super) cache: usize,
    pub(super) rounds: u32,
    /// The ceilings' own rows.
    pub(super) measured: Vec<Row>,
    pub(super) ceilings: Ceilings,
    pub(super) rows: Vec<Row>,
}

impl Outcome {
    pub(super) fn rates(&self, work: &Work, times: &Times) -> Rates {
        let rate = |count: usize| count as f64 / times.gpu.median;
        let (bytes, operations) = (rate(work.bytes), rate(work.operations));
        let (name, ceiling) = self.ceilings.of(work.arithmetic);
        let (of_memory, of_arithmetic) = (bytes / self.ceilings.memory, operations / ceiling);
        let (of, share) = match of_arithmetic > of_memory {
            true => (name, of_arithmetic),
            false => ("memory", of_memory),
        };
        Rates {
            bytes,
            operations,
            share,
            of,
            cached: work.bytes <= self.cache,
            by_host: times.gpu.median <= 1.1 * times.host,
        }
    }

    pub(super) fn json(&self) -> Value {
        let us = |seconds: f64| seconds * 1e6;
        let times = |work: &Work, times: &Times| {
            json!({
                "case": work.name, "bytes": work.bytes, "operations": work.operations,
                "us": us(times.gpu.median), "us_first_quartile": us(times.gpu.first),
                "us_third_quartile": us(times.gpu.third), "us_host": us(times.host), "repeats": times.repeats,
            })
        };
        let row = |row: &Row| match &row.result {
            Err(why) => json!({"case": row.work.name, "error": why}),
            Ok(found) => {
                let rates = self.rates(&row.work, found);
                let mut object = times(&row.work, found);
                object["gb_per_s"] = json!(rates.bytes / 1e9);
                object["tflop_per_s"] = json!(rates.operations / 1e12);
                object["share"] = json!(rates.share);
                object["of"] = json!(rates.of);
                object["fits_cache"] = json!(rates.cached);
                object["bound_by_host"] = json!(rates.by_host);
                object
            }
        };
        let ceiling = |row: &Row| match &row.result {
            Err(why) => json!({"case": row.work.name, "error": why}),
            Ok(found) => times(&row.work, found),
        };
        json!({
            "gpu": self.gpu, "target": self.target, "cache_bytes": self.cache, "rounds": self.rounds,
            "ceilings": {
                "memory_gb_per_s": self.ceilings.memory / 1e9,
                "bf16_tflop_per_s": self.ceilings.bf16 / 1e12,
                "f32_tflop_per_s": self.ceilings.f32 / 1e12,
                "tf32_tflop_per_s": self.ceilings.tf32.map(|rate| rate / 1e12),
                "measured": self.measured.iter().map(ceiling).collect::<Vec<_>>(),
            },
            "cases": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
