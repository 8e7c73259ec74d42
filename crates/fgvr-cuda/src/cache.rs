//! Machine code on disk, so that a kernel is compiled once for a GPU and not at every start.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::nvrtc::{self, Nvrtc};
use crate::source::HEADERS;
use crate::{Error, Module, Result};

/// A folder of machine code, a file for each (source, type, target, compiler version).
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Where a user's caches are: `FGVR_KERNEL_CACHE`, or `fgvr/kernels` in `XDG_CACHE_HOME` or in the home
/// folder's `.cache`; without any of these, the folder for temporary files.
#[must_use]
pub fn user_directory() -> PathBuf {
    if let Some(named) = env::var_os("FGVR_KERNEL_CACHE") {
        return PathBuf::from(named);
    }
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let caches = caches.unwrap_or_else(env::temp_dir);
    caches.join("fgvr").join("kernels")
}

impl Cache {
    /// In `directory`, which is made when something is kept.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// In [`user_directory`].
    #[must_use]
    pub fn of_user() -> Self {
        Self {
            directory: user_directory(),
        }
    }

    /// The machine code of `module` for `target`: as it was kept, or compiled now and kept. A cache that
    /// cannot be read or written costs time and is no error.
    ///
    /// # Errors
    /// A source that does not compile for it, with file and line; a library that fails.
    pub fn get(&self, nvrtc: &Nvrtc, module: Module, target: &str) -> Result<Vec<u8>> {
        let path = self.path(nvrtc, module, target);
        if let Some(code) = read(&path) {
            return Ok(code);
        }
        let code = nvrtc::compile(nvrtc, (&module).into(), target)?;
        // Without a cache the next start compiles again, and nothing is wrong.
        let _ = self.keep(&path, &code);
        Ok(code)
    }

    /// Where the machine code of `module` for `target` is kept.
    #[must_use]
    pub fn path(&self, nvrtc: &Nvrtc, module: Module, target: &str) -> PathBuf {
        let mut hash = Sha256::new();
        let (major, minor) = nvrtc.version();
        hash.update(format!(
            "{major}.{minor} {target} {:?}\0",
            module.real.defines()
        ));
        hash.update(module.file.text);
        for (name, text) in HEADERS {
            hash.update(format!("\0{name}\0{text}"));
        }
        let digest = hex(&hash.finalize()[..12]);
        let stem = module.file.name.trim_end_matches(".cu");
        let suffix = module.real.suffix();
        self.directory
            .join(format!("{stem}{suffix}-{target}-{digest}.cubin"))
    }

    /// Code, behind its hash: half a file is not taken for a whole one.
    fn keep(&self, path: &Path, code: &[u8]) -> Result<()> {
        let io = |error| Error::io(path, error);
        fs::create_dir_all(&self.directory).map_err(io)?;
        // By the standard library, whose files have the permissions that the umask leaves: others may share the folder.
        let aside =
            tempfile::Builder::new().make_in(&self.directory, |path| fs::File::create_new(path));
        let mut file = aside.map_err(io)?;
        file.write_all(&Sha256::digest(code)).map_err(io)?;
        file.write_all(code).map_err(io)?;
        file.persist(path)
            .map_err(|error| Error::io(path, error.error))?;
        Ok(())
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let (digest, code) = bytes.split_at_checked(32)?;
    if Sha256::digest(code).as_slice() != digest {
        return None;
    }
    bytes.drain(..32);
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
