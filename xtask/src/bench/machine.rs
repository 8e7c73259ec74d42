//! What the figures were measured on.

use serde_json::Value;

/// The machine and the versions of both sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Machine {
    processor: Option<String>,
    cores: usize,
    simd: String,
    threads: usize,
    fgvr: String,
    torch: Option<String>,
    /// Where it was measured, if not on the CPU.
    device: Option<String>,
    driver: Option<String>,
    /// GFLOP/s by number of threads, where they were measured.
    peak: Vec<(String, f64)>,
}

impl Machine {
    /// From what our program said at its start.
    pub(super) fn new(hello: &Value) -> Self {
        let text = |field: &str| hello[field].as_str().map(str::to_string);
        Self {
            processor: text("processor"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: text("simd").unwrap_or_default(),
            threads: hello["threads"].as_u64().unwrap_or(0) as usize,
            fgvr: text("version").unwrap_or_default(),
            torch: None,
            device: text("device").filter(|device| device != "cpu"),
            driver: None,
            peak: Vec::new(),
        }
    }

    /// Adds what PyTorch said at its start.
    pub(super) fn torch(&mut self, hello: &Value) {
        let version = |field: &str| {
            hello[field]
                .as_str()
                .unwrap_or("of unknown version")
                .to_string()
        };
        self.torch = Some(format!(
            "PyTorch {}, torchvision {}",
            version("version"),
            version("torchvision")
        ));
        if let (Some(cuda), Some(cudnn)) = (hello["cuda"].as_str(), hello["cudnn"].as_str()) {
            let own = format!(" (with CUDA {cuda}, cuDNN {cudnn})");
            self.torch = self.torch.take().map(|torch| torch + &own);
        }
    }

    /// Adds the version of the GPU's driver.
    pub(super) fn driver(&mut self, version: Option<String>) {
        self.driver = version;
    }

    /// Adds the answer to `peak`.
    pub(super) fn peak(&mut self, answer: &Value) {
        let found = answer["peak"].as_object().into_iter().flatten();
        self.peak = found
            .filter_map(|(threads, speed)| Some((threads.clone(), speed.as_f64()?)))
            .collect();
    }

    /// In a few lines, a sentence each.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(device) = &self.device {
            text.push_str(device);
            if let Some(driver) = &self.driver {
                text.push_str(&format!(", driver {driver}"));
            }
            text.push_str(".\n");
        }
        text.push_str(&format!(
            "{}, {} cores, {} of them used, kernels at {}.\nfgvr {}",
            self.processor.as_deref().unwrap_or("Unknown processor"),
            self.cores,
            self.threads,
            self.simd,
            self.fgvr,
        ));
        if let Some(torch) = &self.torch {
            text.push_str(&format!("; {torch}"));
        }
        text.push_str(&format!(
            "; {} {}.",
            std::env::consts::OS,
            std::env::consts::ARCH
        ));
        if !self.peak.is_empty() {
            let peaks = self.peak.iter().map(|(threads, speed)| {
                let plural = if threads == "1" { "" } else { "s" };
                format!("{speed:.0} on {threads} thread{plural}")
            });
            let peaks: Vec<String> = peaks.collect();
            text.push_str(&format!(
                "\nMeasured peak of multiply-adds, GFLOP/s: {}.",
                peaks.join(", ")
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gpu_comes_first_with_its_driver() {
        let mut machine = Machine::new(&json!({
            "processor": "Chip", "simd": "avx512", "threads": 2, "version": "0.1.0",
            "device": "NVIDIA H200 (sm_90a), bf16"
        }));
        machine.torch(&json!({
            "version": "2.15.0", "torchvision": "0.29.2", "cuda": "13.2", "cudnn": "92600"
        }));
        machine.driver(Some("580.1".into()));
        let text = machine.text();
        let start = "NVIDIA H200 (sm_90a), bf16, driver 580.1.\nChip, ";
        assert!(text.starts_with(start), "{text}");
        let torch = "torchvision 0.29.2 (with CUDA 13.2, cuDNN 92600);";
        assert!(text.contains(torch), "{text}");
    }

    #[test]
    fn the_machine_is_described_by_what_both_sides_said() {
        let mut machine = Machine::new(&json!({
            "processor": "Chip", "simd": "avx512", "threads": 2, "version": "0.1.0"
        }));
        machine.torch(&json!({ "version": "2.15.0", "torchvision": "0.29.2" }));
        machine.peak(&json!({ "peak": { "1": 170.4, "2": 340.0 } }));
        let text = machine.text();
        assert!(text.starts_with("Chip, "), "{text}");
        for part in [
            "2 of them used, kernels at avx512.\n",
            "fgvr 0.1.0; PyTorch 2.15.0, torchvision 0.29.2;",
            "170 on 1 thread, 340 on 2 threads",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
