//! What the system says of this process: memory and page faults (Linux).

use anyhow::{Context, Result};

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now (`VmRSS`).
    pub(crate) resident: u64,
    /// Resident at most since the start (`VmHWM`).
    pub(crate) peak: u64,
}

pub(crate) fn memory() -> Result<Memory> {
    let file = "/proc/self/status";
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{file}: memory can be measured on Linux only"))?;
    Ok(Memory {
        resident: bytes(&text, "VmRSS:")?,
        peak: bytes(&text, "VmHWM:")?,
    })
}

/// Counts the peak from now on.
pub(crate) fn reset_peak() -> Result<()> {
    let file = "/proc/self/clear_refs";
    std::fs::write(file, "5").with_context(|| format!("{file}: the peak of memory stays as it is"))
}

/// Page faults of this process so far that needed no disk.
pub(crate) fn minor_faults() -> Result<u64> {
    let file = "/proc/self/stat";
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{file}: page faults can be counted on Linux only"))?;
    faults_in(&text).with_context(|| format!("{file}: no field 10"))
}

fn bytes(status: &str, field: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no {field} among the process's figures"))? * 1024)
}

/// Field 10. The name, field 2, may hold blanks and brackets, so fields count from its last bracket.
fn faults_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_process_is_called() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 777 8 9";
        assert_eq!(faults_in(stat), Some(777));
        assert_eq!(faults_in("12"), None);
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(bytes(status, "VmHWM:").unwrap(), 2048 * 1024);
        assert!(bytes(status, "VmSwap:").is_err());
    }
}
