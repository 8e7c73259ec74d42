//! TensorBoard event files, `events.out.tfevents.*`: scalars and PNG images.
//!
//! An event file is a sequence of TFRecords, each of which holds one `Event` message. The few
//! protobuf fields that are needed are written by hand:
//!
//! | message | fields |
//! |---|---|
//! | `Event` | 1 `wall_time` double, 2 `step` int64, 3 `file_version` string, 5 `summary`, 7 `session_log` |
//! | `Summary` | 1 `value`, repeated |
//! | `Value` | 1 `tag` string, 2 `simple_value` float, 4 `image` |
//! | `Image` | 1 `height`, 2 `width`, 3 `colorspace` (3 is RGB), 4 `encoded_image_string` |
//! | `SessionLog` | 1 `status` (1 is start) |
//!
//! A resumed run cuts later events from the old files, then goes on in a new file, which opens with
//! a session start: a TensorBoard that already shows the run drops the later events from view too.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::RecordError;
use super::protobuf::{FIXED_32, FIXED_64, Field, bytes, fields, key, varint_field};
use super::tfrecord::{self, Record};

const PREFIX: &str = "events.out.tfevents.";

/// Appends events to one event file in a run folder.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a new event file in the folder `run`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(run: &Path) -> Result<Self, RecordError> {
        let now = seconds();
        let mut index = event_files(run)?.len();
        loop {
            // TensorBoard reads the files of a run in the order of their names.
            let path = run.join(format!("{PREFIX}{index:04}.{now:.0}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = Self { file, path };
                    let mut event = header(now, 0);
                    bytes(&mut event, 3, b"brain.Event:2");
                    writer.write(&event)?;
                    return Ok(writer);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => index += 1,
                Err(e) => return Err(RecordError::io(&path)(e)),
            }
        }
    }

    /// Removes the events after `step` from the files in `run`, and goes on in a new file.
    ///
    /// # Errors
    /// When an old file is damaged before its end, or a file cannot be written.
    pub fn resume(run: &Path, step: u64) -> Result<Self, RecordError> {
        for path in event_files(run)? {
            cut_after(&path, step)?;
        }
        let mut writer = Self::create(run)?;
        let mut log = Vec::new();
        varint_field(&mut log, 1, 1);
        let mut event = header(seconds(), step + 1);
        bytes(&mut event, 7, &log);
        writer.write(&event)?;
        Ok(writer)
    }

    /// Writes named values that belong to one step, as one event.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<(), RecordError> {
        if values.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut message = Vec::new();
            bytes(&mut message, 1, tag.as_bytes());
            key(&mut message, 2, FIXED_32);
            message.extend(value.to_le_bytes());
            bytes(&mut summary, 1, &message);
        }
        self.summary(step, &summary)
    }

    /// Writes an RGB image, given as the bytes of a PNG file.
    ///
    /// # Errors
    /// When `png` is not a PNG file, or the file cannot be written.
    pub fn image(&mut self, tag: &str, step: u64, png: &[u8]) -> Result<(), RecordError> {
        let (width, height) = png_size(png).ok_or_else(|| RecordError::NotPng {
            tag: tag.to_string(),
            len: png.len(),
        })?;
        let mut image = Vec::with_capacity(png.len() + 32);
        varint_field(&mut image, 1, height.into());
        varint_field(&mut image, 2, width.into());
        varint_field(&mut image, 3, 3);
        bytes(&mut image, 4, png);
        let mut value = Vec::with_capacity(image.len() + 64);
        bytes(&mut value, 1, tag.as_bytes());
        bytes(&mut value, 4, &image);
        let mut summary = Vec::with_capacity(value.len() + 16);
        bytes(&mut summary, 1, &value);
        self.summary(step, &summary)
    }

    /// The event file this writer appends to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until all events are on disk.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.file.sync_all().map_err(RecordError::io(&self.path))
    }

    fn summary(&mut self, step: u64, summary: &[u8]) -> Result<(), RecordError> {
        let mut event = header(seconds(), step);
        bytes(&mut event, 5, summary);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<(), RecordError> {
        self.file
            .write_all(&tfrecord::frame(event))
            .map_err(RecordError::io(&self.path))
    }
}

/// What [`read`] gives back of one event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// Step the event belongs to.
    pub step: u64,
    /// `brain.Event:2` in the first event of a file.
    pub file_version: Option<String>,
    /// Tags and values.
    pub scalars: Vec<(String, f32)>,
    /// Tags and PNG files.
    pub images: Vec<(String, Vec<u8>)>,
    /// Whether a session starts here: what was written for this step and later is void.
    pub session_start: bool,
}

/// The event files of the folder `run`, in the order they were written.
///
/// # Errors
/// When the folder cannot be read.
pub fn event_files(run: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(run).map_err(RecordError::io(run))? {
        let entry = entry.map_err(RecordError::io(run))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the whole events of one file; a torn last event is left out.
///
/// # Errors
/// When the file cannot be read, or an event before its end is damaged.
pub fn read(path: &Path) -> Result<Vec<Event>, RecordError> {
    let mut events = Vec::new();
    each_event(path, |event, _| {
        events.push(event);
        true
    })?;
    Ok(events)
}

/// Cuts `path` before its first event after `step`, or before a torn last event.
fn cut_after(path: &Path, step: u64) -> Result<(), RecordError> {
    let mut end = 0;
    each_event(path, |event, bytes| {
        // A session start stands one step ahead of the events that follow it.
        if event.step > step && !event.session_start {
            return false;
        }
        end += bytes as u64;
        true
    })?;
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(RecordError::io(path))?;
    file.set_len(end).map_err(RecordError::io(path))
}

fn each_event(path: &Path, mut take: impl FnMut(Event, usize) -> bool) -> Result<(), RecordError> {
    let file = std::fs::read(path).map_err(RecordError::io(path))?;
    let mut at = 0;
    let damaged = |at: usize, reason| RecordError::BadEvent {
        path: path.to_path_buf(),
        offset: at as u64,
        reason,
    };
    loop {
        match tfrecord::parse(&file[at..]) {
            Record::Torn => return Ok(()),
            Record::Damaged(reason) => return Err(damaged(at, reason)),
            Record::Whole(data, length) => {
                let event =
                    decode(data).ok_or_else(|| damaged(at, "not an event TensorBoard knows"))?;
                if !take(event, length) {
                    return Ok(());
                }
                at += length;
            }
        }
    }
}

fn seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Width and height as a PNG file's first chunk states them.
pub(crate) fn png_size(png: &[u8]) -> Option<(u32, u32)> {
    let rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let chunk = rest.get(4..)?.strip_prefix(b"IHDR")?;
    let (width, rest) = chunk.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

/// The fields every event begins with.
fn header(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED_64);
    event.extend(wall_time.to_le_bytes());
    varint_field(&mut event, 2, step);
    event
}

fn decode(data: &[u8]) -> Option<Event> {
    let mut event = Event::default();
    fields(data, |number, field| {
        match (number, field) {
            (1, Field::Fixed64(value)) => event.wall_time = f64::from_le_bytes(value),
            (2, Field::Varint(step)) => event.step = step,
            (3, Field::Bytes(text)) => {
                event.file_version = Some(String::from_utf8(text.to_vec()).ok()?);
            }
            (5, Field::Bytes(summary)) => fields(summary, |number, field| match (number, field) {
                (1, Field::Bytes(value)) => decode_value(value, &mut event),
                _ => Some(()),
            })?,
            (7, Field::Bytes(log)) => fields(log, |number, field| {
                event.session_start |= matches!((number, field), (1, Field::Varint(1)));
                Some(())
            })?,
            _ => {}
        }
        Some(())
    })?;
    Some(event)
}

fn decode_value(value: &[u8], event: &mut Event) -> Option<()> {
    let mut tag = String::new();
    let mut scalar = None;
    let mut png = None;
    fields(value, |number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => tag = String::from_utf8(text.to_vec()).ok()?,
            (2, Field::Fixed32(value)) => scalar = Some(f32::from_le_bytes(value)),
            (4, Field::Bytes(image)) => fields(image, |number, field| {
                if let (4, Field::Bytes(data)) = (number, field) {
                    png = Some(data.to_vec());
                }
                Some(())
            })?,
            _ => {}
        }
        Some(())
    })?;
    if let Some(scalar) = scalar {
        event.scalars.push((tag.clone(), scalar));
    }
    if let Some(png) = png {
        event.images.push((tag, png));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG file of one red pixel.
    const PIXEL: &[u8] = &[
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0,
        0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0x0c, 0x49, 0x44,
        0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0, 0, 3, 1, 1, 0, 0xc9, 0xfe, 0x92, 0xef,
        0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ];

    #[test]
    fn scalars_and_images_read_back() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(run.path()).unwrap();
        writer
            .scalars(300, &[("loss/total", 0.75), ("rate", f32::NAN)])
            .unwrap();
        writer.image("pairs", 301, PIXEL).unwrap();
        writer.sync().unwrap();
        let events = read(writer.path()).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(events[1].step, 300);
        assert_eq!(events[1].scalars[0], ("loss/total".to_string(), 0.75));
        assert!(events[1].scalars[1].1.is_nan());
        assert_eq!(events[2].step, 301);
        assert_eq!(events[2].images, [("pairs".to_string(), PIXEL.to_vec())]);
        assert!(events[2].wall_time >= events[0].wall_time);
    }

    /// The bytes that TensorBoard's own `Event(wall_time=1.5, step=300, summary=...)`
    /// `.SerializeToString()` gives, from its Python package 2.21.
    #[test]
    fn an_event_has_the_bytes_of_tensorboard() {
        let mut value = Vec::new();
        bytes(&mut value, 1, b"loss");
        key(&mut value, 2, FIXED_32);
        value.extend(0.75_f32.to_le_bytes());
        let mut summary = Vec::new();
        bytes(&mut summary, 1, &value);
        let mut event = header(1.5, 300);
        bytes(&mut event, 5, &summary);
        let hex: String = event.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "09000000000000f83f10ac022a0d0a0b0a046c6f7373150000403f"
        );
    }

    #[test]
    fn resuming_cuts_later_events_and_a_torn_one_and_opens_a_session() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(run.path()).unwrap();
        for step in 1..=5 {
            writer.scalars(step, &[("loss", step as f32)]).unwrap();
        }
        let old = writer.path().to_path_buf();
        let mut torn = std::fs::read(&old).unwrap();
        torn.truncate(torn.len() - 3);
        std::fs::write(&old, &torn).unwrap();
        assert_eq!(read(&old).unwrap().last().unwrap().step, 4);

        let mut writer = EventWriter::resume(run.path(), 3).unwrap();
        writer.scalars(4, &[("loss", 40.0)]).unwrap();
        assert_eq!(
            event_files(run.path()).unwrap(),
            [old.clone(), writer.path().to_path_buf()]
        );
        assert_eq!(read(&old).unwrap().last().unwrap().step, 3);
        let events = read(writer.path()).unwrap();
        assert!(events[1].session_start);
        assert_eq!(events[1].step, 4);
        assert_eq!(events[2].scalars, [("loss".to_string(), 40.0)]);

        // Once more, to an earlier step: of the second file only its opening stays.
        EventWriter::resume(run.path(), 2).unwrap();
        assert_eq!(read(&old).unwrap().last().unwrap().step, 2);
        assert_eq!(read(&event_files(run.path()).unwrap()[1]).unwrap().len(), 2);
    }

    #[test]
    fn damage_within_a_file_is_an_error() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(run.path()).unwrap();
        writer.scalars(1, &[("loss", 1.0)]).unwrap();
        let mut file = std::fs::read(writer.path()).unwrap();
        file[20] ^= 1;
        std::fs::write(writer.path(), file).unwrap();
        let error = EventWriter::resume(run.path(), 1).unwrap_err();
        assert!(
            matches!(error, RecordError::BadEvent { offset: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn an_image_that_is_no_png_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(run.path()).unwrap();
        let error = writer.image("pairs", 1, b"JFIF").unwrap_err();
        assert!(
            matches!(error, RecordError::NotPng { len: 4, .. }),
            "{error}"
        );
        assert_eq!(read(writer.path()).unwrap().len(), 1);
    }
}
