//! What was embedded so far, in memory and in a folder from which a stopped run goes on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fgvr_data::{Existing, write_whole};
use fgvr_perturb::NuisanceCovariance;
use serde::{Deserialize, Serialize};

use super::stream::{Chunk, Unreadable};
use super::views::Role;
use crate::{Error, Result, digest};

/// How often the state is saved.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// What the names of folders begin with, before the digest.
const FOLDER: &str = ".fgvr-adapt-";
const STATE: &str = "state.json";
/// Files of features: f32, little-endian, row by row.
const ROWS: [&str; 4] = ["fit.f32", "held-out.f32", "judged.f32", "views.f32"];
/// Which of them has the views that are fitted to, where they are kept.
const VIEWS: usize = 3;

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// SHA-256 of all that the features depend on.
    key: String,
    /// Photos of each role that were looked at.
    done: [usize; 3],
    /// Values in each file of features.
    values: [usize; 4],
    /// Photos of each role that cannot be read.
    unreadable: [Vec<Unreadable>; 3],
    /// The file of sums.
    sums: String,
    /// Seconds of embedding.
    seconds: f64,
}

/// Features and sums of the photos that were looked at.
pub(super) struct Work {
    place: Option<Place>,
    state: State,
    width: usize,
    /// Plain features of what is fitted to; all features of what is held out; plain features of what is judged; the views of
    /// what is fitted to.
    rows: [Vec<f32>; 4],
    keeps_views: bool,
    pub(super) statistics: NuisanceCovariance,
    saved: Instant,
}

/// The folder, for as long as this process works in it.
struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Work {
    /// What an earlier run with the same `key` left below `parent`, or nothing yet. Without a `parent` nothing is kept. Features of
    /// the views that are fitted to are in memory only if it `keeps_views`.
    ///
    /// # Errors
    /// A folder that cannot be made or read, or one that another process works in.
    pub(super) fn open(
        parent: Option<&Path>,
        key: &str,
        width: usize,
        keeps_views: bool,
    ) -> Result<Self> {
        let mut work = Self {
            place: None,
            state: State {
                key: key.to_owned(),
                done: [0; 3],
                values: [0; 4],
                unreadable: Default::default(),
                sums: String::new(),
                seconds: 0.,
            },
            width,
            rows: Default::default(),
            keeps_views,
            statistics: NuisanceCovariance::new(width)?,
            saved: Instant::now(),
        };
        let Some(parent) = parent else {
            return Ok(work);
        };
        let folder = parent.join(format!("{FOLDER}{}", digest::short(key)));
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::run(
                    &folder,
                    "another process adapts the same network to the same photos there; wait for it, or choose an --out in \
                     another folder",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
        }
        work.place = Some(Place {
            folder,
            _lock: lock,
        });
        work.restore()?;
        Ok(work)
    }

    /// Takes up what the folder holds, if it is whole.
    fn restore(&mut self) -> Result<()> {
        let Some(place) = &self.place else {
            return Ok(());
        };
        let state = fs::read(place.folder.join(STATE)).ok();
        let state = state.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
        let Some(state) = state.filter(|state| state.key == self.state.key) else {
            return Ok(());
        };
        let statistics = match NuisanceCovariance::load(place.folder.join(&state.sums)) {
            Ok(sums) if sums.width() == self.width => sums,
            _ => return Ok(()),
        };
        let mut rows: [Vec<f32>; 4] = Default::default();
        for ((rows, name), values) in rows.iter_mut().zip(ROWS).zip(state.values) {
            match read_values(&place.folder.join(name), values) {
                Some(read) => *rows = read,
                None => return Ok(()),
            }
        }
        (self.state, self.statistics, self.rows) = (state, statistics, rows);
        Ok(())
    }

    /// Photos of `role` that were looked at.
    pub(super) fn done(&self, role: Role) -> usize {
        self.state.done[at(role)]
    }

    /// Those of them that cannot be read.
    pub(super) fn unreadable(&self, role: Role) -> &[Unreadable] {
        &self.state.unreadable[at(role)]
    }

    /// Features of `role`, those of a photo side by side.
    pub(super) fn rows(&self, role: Role) -> &[f32] {
        &self.rows[at(role)]
    }

    /// Features of the views that are fitted to, those of a photo side by side; none where they are not kept.
    pub(super) fn views(&self) -> &[f32] {
        &self.rows[VIEWS]
    }

    /// Seconds of embedding, with those of earlier parts.
    pub(super) fn seconds(&self) -> f64 {
        self.state.seconds
    }

    /// Takes up features of `views` views of each photo of `chunk`; those to fit to go into the sums, and of them only the
    /// plain view is kept.
    ///
    /// # Errors
    /// Features that are not finite.
    pub(super) fn add(&mut self, role: Role, chunk: Chunk, views: usize) -> Result<()> {
        if role == Role::Fit {
            for photo in chunk.features.chunks_exact(views * self.width) {
                let (plain, views_of) = photo.split_at(self.width);
                self.statistics.add_plain(plain)?;
                self.statistics.add_views(views_of, views - 1)?;
                self.rows[at(role)].extend(plain);
                if self.keeps_views {
                    self.rows[VIEWS].extend(views_of);
                }
            }
        } else {
            self.rows[at(role)].extend(&chunk.features);
        }
        self.state.done[at(role)] += chunk.photos;
        self.state.unreadable[at(role)].extend(chunk.unreadable);
        Ok(())
    }

    /// Counts `seconds` of embedding, and saves now and then.
    ///
    /// # Errors
    /// A disk that is full.
    pub(super) fn tick(&mut self, seconds: f64) -> Result<()> {
        self.state.seconds += seconds;
        match self.saved.elapsed() >= SAVE_EVERY {
            true => self.save(),
            false => Ok(()),
        }
    }

    /// Puts everything into the folder: features first, then sums under a name of their own, then the state that names
    /// them. What was there before counts until then.
    ///
    /// # Errors
    /// A disk that is full.
    pub(super) fn save(&mut self) -> Result<()> {
        self.saved = Instant::now();
        let Some(place) = &self.place else {
            return Ok(());
        };
        let mut state = self.state.clone();
        for ((rows, name), values) in self.rows.iter().zip(ROWS).zip(&mut state.values) {
            let path = place.folder.join(name);
            append(&path, &rows[*values..], *values).map_err(Error::io(&path))?;
            *values = rows.len();
        }
        let before = std::mem::take(&mut state.sums);
        state.sums = format!("sums-{}.safetensors", state.done[at(Role::Fit)]);
        if state.sums != before {
            self.statistics.save(place.folder.join(&state.sums))?;
        }
        let path = place.folder.join(STATE);
        let bytes = serde_json::to_vec(&state).map_err(|e| Error::run(&path, e.to_string()))?;
        write_whole(&path, Existing::Replace, |file| file.write_all(&bytes))
            .map_err(Error::io(&path))?;
        if state.sums != before && !before.is_empty() {
            // It takes room and nothing else; the folder goes in the end.
            let _ = fs::remove_file(place.folder.join(before));
        }
        self.state = state;
        Ok(())
    }

    /// Where it is kept.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.place.as_ref().map(|place| place.folder.as_path())
    }

    /// Removes the folder: all that it was for is done.
    pub(super) fn finish(&mut self) {
        if let Some(place) = self.place.take() {
            // A folder that stays takes room and nothing else.
            let _ = fs::remove_dir_all(&place.folder);
        }
    }
}

impl Drop for Work {
    /// Leaves no folder in which nothing was saved.
    fn drop(&mut self) {
        if self.state.sums.is_empty() {
            self.finish();
        }
    }
}

/// Removes what is kept in `parent` of features that were embedded, of whatever network and photos.
pub(crate) fn forget(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(FOLDER) {
            // A folder that stays takes room and nothing else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn at(role: Role) -> usize {
    match role {
        Role::Fit => 0,
        Role::HeldOut => 1,
        Role::Judged => 2,
    }
}

/// The first `values` numbers of a file; `None` where there are fewer.
fn read_values(path: &Path, values: usize) -> Option<Vec<f32>> {
    if values == 0 {
        return Some(Vec::new());
    }
    let mut file = File::open(path).ok()?;
    if file.metadata().ok()?.len() < 4 * values as u64 {
        return None;
    }
    let mut bytes = vec![0; 4 * values];
    file.read_exact(&mut bytes).ok()?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Some(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Makes `new` follow the first `values` numbers of a file.
fn append(path: &Path, new: &[f32], values: usize) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    file.set_len(4 * values as u64)?;
    file.seek(SeekFrom::End(0))?;
    let mut file = BufWriter::new(file);
    for value in new {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()?;
    file.get_ref().sync_all()
}
