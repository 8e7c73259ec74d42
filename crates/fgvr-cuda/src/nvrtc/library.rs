//! The run-time compiler's library: where it is looked for, and its functions.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::{Error, Result};

/// Names that a system's loader may know, newest first.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
} else {
    &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
};
/// What NVRTC loads itself, by bare name: loaded before it from the same folder, it is found without a
/// search path.
const BUILTINS: &str = "nvrtc-builtins";

type Program = *mut c_void;
type Status = c_int;
const SUCCESS: Status = 0;

type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Status;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type Destroy = unsafe extern "C" fn(*mut Program) -> Status;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
type ErrorString = unsafe extern "C" fn(Status) -> *const c_char;

/// NVRTC, loaded.
pub struct Nvrtc {
    path: String,
    version: (i32, i32),
    create: Create,
    compile: Compile,
    log_size: Size,
    log: Bytes,
    cubin_size: Size,
    cubin: Bytes,
    ptx_size: Size,
    ptx: Bytes,
    destroy: Destroy,
    error_string: ErrorString,
    // Last, so that the functions go first.
    _library: Library,
    _builtins: Option<Library>,
}

/// A source text with what it includes.
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// Names and texts.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) options: &'a [&'a str],
}

/// What a compilation leaves.
pub(super) struct Output {
    pub(super) succeeded: bool,
    pub(super) log: String,
    pub(super) code: Vec<u8>,
}

/// What is asked of the compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// Machine code for one GPU.
    Cubin,
    /// The assembly before it.
    Ptx,
}

impl Nvrtc {
    /// The library from `CUDA_TOOLKIT_LIBS` (folders), from `CUDA_HOME` or `CUDA_PATH`, or where the
    /// system's loader looks, the first that there is.
    ///
    /// # Errors
    /// None found, or one that lacks a function.
    pub fn load() -> Result<Self> {
        let mut searched = Vec::new();
        let mut why = String::from("none of the variables is set");
        for directory in directories() {
            for name in NAMES {
                let path = directory.join(name);
                searched.push(path.display().to_string());
                if path.exists() {
                    match Self::open(&path, builtins_in(&directory)) {
                        Ok(found) => return found,
                        Err(error) => why = error,
                    }
                }
            }
        }
        for name in NAMES {
            searched.push((*name).to_owned());
            match Self::open(Path::new(name), None) {
                Ok(found) => return found,
                Err(error) => why = error,
            }
        }
        Err(Error::NoNvrtc { searched, why })
    }

    /// The outer error says why the library cannot be loaded, the inner one why it cannot be used.
    fn open(path: &Path, builtins: Option<PathBuf>) -> std::result::Result<Result<Self>, String> {
        // SAFETY: NVIDIA's library; loading it runs its initialisers, as any program that links to it does.
        let builtins = builtins.and_then(|path| unsafe { Library::new(path) }.ok());
        // SAFETY: as above.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        Ok(Self::with(library, builtins, path.display().to_string()))
    }

    fn with(library: Library, builtins: Option<Library>, path: String) -> Result<Self> {
        let missing = |error: libloading::Error| Error::Nvrtc {
            path: path.clone(),
            why: error.to_string(),
        };
        macro_rules! function {
            ($name:literal, $type:ty) => {{
                // SAFETY: the type is that of nvrtc.h, unchanged since CUDA 11.
                *unsafe { library.get::<$type>($name) }.map_err(missing)?
            }};
        }
        let version: Version = function!(b"nvrtcVersion\0", Version);
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two integers to write to.
        unsafe { version(&raw mut major, &raw mut minor) };
        Ok(Self {
            version: (major, minor),
            create: function!(b"nvrtcCreateProgram\0", Create),
            compile: function!(b"nvrtcCompileProgram\0", Compile),
            log_size: function!(b"nvrtcGetProgramLogSize\0", Size),
            log: function!(b"nvrtcGetProgramLog\0", Bytes),
            cubin_size: function!(b"nvrtcGetCUBINSize\0", Size),
            cubin: function!(b"nvrtcGetCUBIN\0", Bytes),
            ptx_size: function!(b"nvrtcGetPTXSize\0", Size),
            ptx: function!(b"nvrtcGetPTX\0", Bytes),
            destroy: function!(b"nvrtcDestroyProgram\0", Destroy),
            error_string: function!(b"nvrtcGetErrorString\0", ErrorString),
            path,
            _library: library,
            _builtins: builtins,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Major and minor version of its toolkit.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles; a source that is wrong is no error of this function.
    pub(super) fn run(&self, input: &Input<'_>, wanted: Code) -> Result<Output> {
        let wrong = |why: String| Error::Nvrtc {
            path: self.path.clone(),
            why,
        };
        let text = |text: &str| CString::new(text).map_err(|error| wrong(error.to_string()));
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (source, name) = (text(input.text)?, text(input.name)?);
        let names = input
            .headers
            .iter()
            .map(|(name, _)| text(name))
            .collect::<Result<Vec<_>>>()?;
        let headers = input
            .headers
            .iter()
            .map(|(_, h)| text(h))
            .collect::<Result<Vec<_>>>()?;
        let options = input
            .options
            .iter()
            .map(|o| text(o))
            .collect::<Result<Vec<_>>>()?;

        let mut program = Held {
            program: std::ptr::null_mut(),
            destroy: self.destroy,
        };
        // SAFETY: C strings that live to the end of this function; as many headers as names.
        let status = unsafe {
            (self.create)(
                &raw mut program.program,
                source.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                pointers(&headers).as_ptr(),
                pointers(&names).as_ptr(),
            )
        };
        if status != SUCCESS {
            return Err(wrong(self.describe(status)));
        }
        let options = pointers(&options);
        // SAFETY: a program that was created, and C strings.
        let status =
            unsafe { (self.compile)(program.program, options.len() as c_int, options.as_ptr()) };
        let log = self.fetch(&program, self.log_size, self.log)?;
        let log = String::from_utf8_lossy(&log)
            .trim_end_matches('\0')
            .trim()
            .to_owned();
        // 6 is a source that does not compile; anything else has no log to go by.
        if status != SUCCESS && log.is_empty() {
            return Err(wrong(self.describe(status)));
        }
        let succeeded = status == SUCCESS;
        let code = match (succeeded, wanted) {
            (false, _) => Vec::new(),
            (true, Code::Cubin) => self.fetch(&program, self.cubin_size, self.cubin)?,
            (true, Code::Ptx) => self.fetch(&program, self.ptx_size, self.ptx)?,
        };
        Ok(Output {
            succeeded,
            log,
            code,
        })
    }

    fn fetch(&self, program: &Held, size: Size, bytes: Bytes) -> Result<Vec<u8>> {
        let wrong = |status| Error::Nvrtc {
            path: self.path.clone(),
            why: self.describe(status),
        };
        let mut length = 0;
        // SAFETY: a program that was created, and a number to write to.
        let status = unsafe { size(program.program, &raw mut length) };
        if status != SUCCESS {
            return Err(wrong(status));
        }
        let mut buffer = vec![0u8; length];
        // SAFETY: as many bytes as the library said it would write.
        let status = unsafe { bytes(program.program, buffer.as_mut_ptr().cast()) };
        if status != SUCCESS {
            return Err(wrong(status));
        }
        Ok(buffer)
    }

    fn describe(&self, status: Status) -> String {
        // SAFETY: returns a C string that lives as long as the library, for any number.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("error {status}");
        }
        // SAFETY: not null, and a C string as said above.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

/// A program that is destroyed when dropped.
struct Held {
    program: Program,
    destroy: Destroy,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: created by the library that `destroy` is from, and destroyed once.
            unsafe { (self.destroy)(&raw mut self.program) };
        }
    }
}

fn directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(list) = env::var_os("CUDA_TOOLKIT_LIBS") {
        found.extend(env::split_paths(&list));
    }
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(root) = env::var_os(variable).map(PathBuf::from) {
            found.extend(["lib64", "lib", "bin", "bin/x64"].map(|sub| root.join(sub)));
        }
    }
    found
}

fn builtins_in(directory: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let named = files.filter(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| {
            name.contains(BUILTINS) && !name.ends_with(".a") && !name.contains(".alt.")
        })
    });
    named.max()
}
