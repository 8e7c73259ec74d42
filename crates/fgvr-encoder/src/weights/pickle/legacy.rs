//! The file that `torch.save` wrote before version 1.6: pickles, then storages.
//!
//! ```text
//! pickle   0x1950a86a20f9469cfc6c, the magic number
//! pickle   1001, the version of the format
//! pickle   a dictionary about the machine that wrote it
//! pickle   the object; its storages stand in it by key, type and number of values
//! pickle   the list of the keys
//! for each key:  the number of values (8 bytes), then the values
//! ```
//!
//! torch has always written and read the values as little-endian, whatever the dictionary about the
//! machine says. The numbers before them were in the machine's own order until 1.4.

use std::collections::BTreeMap;

use super::MAX_PICKLE;
use super::archive::{Archive, Record, View, format_error};
use super::machine::{Budget, Machine, PickleError};
use super::state;
use super::torch::{MAX_KEY, Tensor};
use super::value::{Node, Value};
use crate::Error;
use crate::weights::file::StoredFile;
use crate::weights::tensor::StoredType;

/// The magic number as pickles of protocol 2 and later have it: an integer of ten bytes.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The same of protocols 0 and 1.
const MAGIC_LINE: &[u8] = b"L119547037146038801333356L\n.";
/// The version of the format.
const VERSION: i64 = 1001;
/// Bytes that are read first; few pickles of a state dict are longer.
const WINDOW: u64 = 1 << 16;

/// What the pickles say.
struct Head {
    tensors: Vec<(String, Tensor)>,
    /// Type and number of values of each storage that the object names.
    storages: BTreeMap<String, (StoredType, usize)>,
    /// The storages in the order in which they stand in the file.
    keys: Vec<String>,
    little_endian: bool,
    /// The byte after the last pickle.
    end: usize,
}

/// Why there is no head.
enum Fault {
    /// The bytes end within it.
    Truncated,
    Reason(String),
}

impl From<PickleError> for Fault {
    fn from(error: PickleError) -> Self {
        match error {
            PickleError::Truncated => Self::Truncated,
            other => Self::Reason(other.to_string()),
        }
    }
}

/// Whether a file that begins with `start` is of this format.
pub(crate) fn begins(start: &[u8]) -> bool {
    magic_end(start).is_some()
}

/// The byte after the pickle of the magic number, where `text` begins with one.
fn magic_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(MAGIC_LINE) {
        return Some(MAGIC_LINE.len());
    }
    let [0x80, _protocol, rest @ ..] = text else {
        return None;
    };
    // Protocol 4 puts the length of what follows before it.
    let framed = if rest.first() == Some(&0x95) { 9 } else { 0 };
    let rest = rest.get(framed..)?;
    rest.starts_with(MAGIC).then_some(2 + framed + MAGIC.len())
}

/// Reads the pickles, and finds the storages behind them.
pub(crate) fn open(file: &StoredFile) -> Result<(Archive, BTreeMap<String, View>), Error> {
    let Head {
        tensors,
        mut storages,
        keys,
        little_endian,
        end,
    } = read_head(file)?;
    let format = |reason: String| format_error(file, reason);
    let mut places = Vec::with_capacity(keys.len());
    let mut at = Some(end as u64);
    for key in keys {
        // Taken out, so that no storage stands twice.
        let (dtype, count) = storages.remove(&key).ok_or_else(|| {
            format(format!(
                "its list of storages has {key:?}, which nothing in its pickle names, or which stands \
                 twice or has an unknown type"
            ))
        })?;
        let bytes = (count as u64).checked_mul(dtype.size() as u64);
        let start = at.and_then(|at| at.checked_add(8));
        at = start
            .zip(bytes)
            .and_then(|(start, bytes)| start.checked_add(bytes));
        places.push((
            key,
            count,
            start.unwrap_or(u64::MAX),
            bytes.unwrap_or(u64::MAX),
        ));
    }
    let expected = at.unwrap_or(u64::MAX);
    if expected > file.info.bytes {
        return Err(Error::Length {
            file: file.info.path.clone(),
            expected,
            found: file.info.bytes,
        });
    }
    if expected < file.info.bytes {
        return Err(format(format!(
            "{} bytes follow its last storage; it is damaged, or holds what torch.save was called for \
             more than once",
            file.info.bytes - expected
        )));
    }
    let mut archive = Archive {
        records: BTreeMap::new(),
    };
    for (key, count, start, size) in places {
        let mut word = [0; 8];
        word.copy_from_slice(&file.read_at(start - 8, 8)?);
        let stated = u64::from_le_bytes(word);
        if stated != count as u64 {
            let other_order = !little_endian && u64::from_be_bytes(word) == count as u64;
            return Err(format(if other_order {
                "it is of an early version of torch on a big-endian machine, and does not say in which \
                 order its values are; load it in Python and save it again"
                    .to_owned()
            } else {
                format!("its storage {key} has {stated} values, and its pickle says {count}")
            }));
        }
        let record = Record {
            start,
            compressed: size,
            size,
            deflated: false,
        };
        archive.records.insert(key, record);
    }
    let views = archive.views(file, tensors, str::to_owned)?;
    Ok((archive, views))
}

/// Reads as much of the file as the pickles take; where they end is known once they were run.
fn read_head(file: &StoredFile) -> Result<Head, Error> {
    let most = file.info.bytes.min(MAX_PICKLE);
    let mut window = WINDOW.min(most);
    loop {
        let text = file.read_at(0, window)?;
        let reason = match head(&text, Budget::for_file(file.info.bytes)) {
            Ok(head) => return Ok(head),
            Err(Fault::Truncated) if window < most => {
                window = window.saturating_mul(8).min(most);
                continue;
            }
            Err(Fault::Truncated) if most < file.info.bytes => {
                format!("its pickles take more than the {MAX_PICKLE} bytes allowed")
            }
            Err(Fault::Truncated) => format!("{}: the file is truncated", PickleError::Truncated),
            Err(Fault::Reason(reason)) => reason,
        };
        return Err(format_error(file, reason));
    }
}

/// Runs the five pickles at the beginning of `text`.
fn head(text: &[u8], budget: Budget) -> Result<Head, Fault> {
    let reason = |reason: String| Fault::Reason(reason);
    let at = magic_end(text).ok_or(Fault::Truncated)?;
    let mut machine = Machine::new(text, at, budget);
    let version = machine.run()?;
    match version {
        Value::Int(VERSION) => {}
        Value::Int(other) => {
            return Err(reason(format!(
                "its format is of version {other}, and {VERSION} is the only one known"
            )));
        }
        _ => {
            return Err(reason(
                "it does not say of which version its format is".to_owned(),
            ));
        }
    }
    let mut machine = machine.next();
    let about = machine.run()?;
    let little_endian = machine.entry(about, b"little_endian") != Some(Value::Bool(false));

    let mut machine = machine.next();
    let root = machine.run()?;
    let tensors = state::tensors(&mut machine, root)?;
    let storages = storages(&mut machine)?;

    let mut machine = machine.next();
    let list = machine.run()?;
    let Some(items) = machine.items(list) else {
        return Err(reason("it has no list of its storages".to_owned()));
    };
    let lengths = items
        .iter()
        .map(|item| Some(machine.text_of(*item)?.len()).filter(|length| *length <= MAX_KEY));
    let spent = lengths
        .map(|length| Some(100 + length?))
        .sum::<Option<usize>>();
    let spent = spent.ok_or_else(|| {
        reason("its list of storages has something other than their names".to_owned())
    })?;
    // Before they are copied: one name may stand in many places.
    machine.budget.charge(spent)?;
    let items = machine.items(list).unwrap_or_default();
    let names = items.iter().filter_map(|item| machine.text_of(*item));
    let keys = names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    Ok(Head {
        tensors,
        storages,
        keys,
        little_endian,
        end: machine.end(),
    })
}

/// All storages that the object names, whether or not a tensor uses them.
fn storages(machine: &mut Machine<'_>) -> Result<BTreeMap<String, (StoredType, usize)>, Fault> {
    let mut found = BTreeMap::new();
    for index in 0..machine.nodes.len() {
        let Node::Storage(storage) = &machine.nodes[index] else {
            continue;
        };
        let key = machine.key(storage);
        let Some(count) = storage.count else {
            let reason = format!("its storage {key} has no number of values");
            return Err(Fault::Reason(reason));
        };
        let (charge, dtype) = (200 + key.len(), storage.dtype);
        match found.get(&key) {
            None => {
                machine.budget.charge(charge)?;
                found.insert(key, (dtype, count));
            }
            Some(before) if *before == (dtype, count) => {}
            Some((other, before)) => {
                return Err(Fault::Reason(format!(
                    "its storage {key} is {before} values of {other}, and {count} of {dtype}"
                )));
            }
        }
    }
    Ok(found)
}
