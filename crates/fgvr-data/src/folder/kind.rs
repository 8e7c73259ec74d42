//! What a name and the first bytes of a file say: a photo, or something to pass over.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Endings of photos.
const PHOTOS: &[&str] = &[
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "jif",
    "jfi",
    "pjpeg",
    "pjp",
    "jpg_large",
    "jpeg_large",
    "png",
    "apng",
    "png_large",
    "webp",
    "bmp",
    "dib",
];

/// Endings of pictures in formats that are not decoded here.
const OTHER_PICTURES: &[&str] = &[
    "heic", "heif", "hif", "avif", "gif", "tif", "tiff", "jxl", "jp2", "j2k", "jxr", "svg", "psd",
    "ico", "tga", "ppm", "pgm", "pnm", "exr", "hdr", "dng", "cr2", "cr3", "crw", "nef", "nrw",
    "arw", "sr2", "raf", "orf", "rw2", "pef", "srw", "x3f", "3fr", "iiq", "raw",
];

/// Endings that are never looked into: copies, previews and unfinished downloads, which begin as a
/// photo does and are none of their own, and what often lies beside photos in large numbers.
const NOT_PHOTOS: &[&str] = &[
    "bak",
    "old",
    "orig",
    "tmp",
    "part",
    "partial",
    "crdownload",
    "download",
    "thm",
    "lrv",
    "txt",
    "json",
    "xml",
    "csv",
    "xmp",
    "aae",
    "mp4",
    "mov",
    "avi",
    "mp3",
    "wav",
    "zip",
    "npz",
    "safetensors",
];

/// Folders and files that systems and programs leave behind for themselves, in lower case.
const LITTER: &[&str] = &[
    // Network storage: Synology, QNAP.
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "@sharebin",
    // macOS, also inside of archives made there.
    "__macosx",
    "network trash folder",
    "temporary items",
    "icon\r",
    // Windows.
    "$recycle.bin",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    // Linux; Python beside a notebook.
    "lost+found",
    "__pycache__",
];

/// The kind under which a name is passed over without a look, if it is: hidden, or a system's own.
pub(crate) fn litter(name: &str) -> Option<String> {
    if name.starts_with('.') {
        return Some("hidden".to_owned());
    }
    let lower = name.to_lowercase();
    // Thumbnails of a Synology storage that were copied out of their folder.
    let thumbnail = lower.starts_with("synophoto_thumb") || lower.starts_with("synofile_thumb");
    let known = LITTER.contains(&lower.as_str()) || thumbnail;
    known.then(|| match thumbnail {
        true => "thumbnail".to_owned(),
        false => name.trim_end().to_owned(),
    })
}

/// Whether the names in a folder say that fgvr wrote it, and what it is then.
pub(super) fn written_here(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    if has("checkpoints") && (has("config.toml") || has("samples")) {
        return Some("run of fgvr");
    }
    (has("model.safetensors") && has("config.json")).then_some("export of fgvr")
}

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Photo,
    /// A picture that cannot be decoded, and its ending.
    OtherPicture(String),
    /// Anything else, and the kind under which it is counted.
    Other(String),
}

/// By the ending of `name`; `None` where only the first bytes can tell.
pub(super) fn by_name(name: &str) -> Option<FileKind> {
    let ending = ending(name)?;
    let among = |endings: &[&str]| endings.contains(&ending.as_str());
    if among(PHOTOS) {
        Some(FileKind::Photo)
    } else if among(NOT_PHOTOS) || ending.ends_with('~') || ending.ends_with("_original") {
        Some(FileKind::Other(counted_as(name)))
    } else {
        None
    }
}

/// By the first bytes of the file at `path` called `name`, where its name does not tell.
pub(super) fn by_content(path: &Path, name: &str) -> FileKind {
    let mut start = [0; 16];
    let length = File::open(path).and_then(|mut file| file.read(&mut start));
    if length.is_ok_and(|length| begins_a_photo(&start[..length])) {
        return FileKind::Photo;
    }
    match ending(name) {
        Some(ending) if OTHER_PICTURES.contains(&ending.as_str()) => {
            FileKind::OtherPicture(counted_as(name))
        }
        _ => FileKind::Other(counted_as(name)),
    }
}

fn begins_a_photo(start: &[u8]) -> bool {
    let format = image::guess_format(start).ok();
    match format.filter(|format| format.reading_enabled()) {
        // Text may begin with BM; a bitmap has four zeros after its length.
        Some(image::ImageFormat::Bmp) => start.get(6..10) == Some(&[0; 4]),
        format => format.is_some(),
    }
}

/// The kind under which a file called `name` is counted.
pub(crate) fn counted_as(name: &str) -> String {
    match ending(name) {
        None => "without an ending".to_owned(),
        Some(ending) if ending.ends_with('~') || ending.ends_with("_original") => "copy".to_owned(),
        // Whatever follows the last dot of a sentence is no kind of file.
        Some(ending)
            if ending.len() <= 12
                && ending
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_') =>
        {
            format!(".{ending}")
        }
        Some(_) => "other names".to_owned(),
    }
}

/// What follows the last dot, in lower case.
fn ending(name: &str) -> Option<String> {
    let ending = Path::new(name).extension()?;
    Some(ending.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_of_photos_are_known_in_either_case() {
        for name in [
            "a.jpg",
            "a.JPEG",
            "a.jfif",
            "a.jpe",
            "a.JIF",
            "a.jpg_large",
            "a.png",
            "a.webp",
            "a.dib",
        ] {
            assert_eq!(by_name(name), Some(FileKind::Photo), "{name}");
        }
        for name in ["a", "a.heic", "a.jpg:large", "a.0001"] {
            assert_eq!(by_name(name), None, "{name}");
        }
        for (name, kind) in [
            ("a.txt", ".txt"),
            ("a.jpg~", "copy"),
            ("a.jpg_original", "copy"),
            ("a.BAK", ".bak"),
        ] {
            assert_eq!(
                by_name(name),
                Some(FileKind::Other(kind.to_owned())),
                "{name}"
            );
        }
    }

    #[test]
    fn text_that_begins_as_a_bitmap_does_is_none() {
        assert!(!begins_a_photo(b"BMW and other cars"));
        assert!(begins_a_photo(b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0"));
        assert!(
            !begins_a_photo(b"GIF89a\0\0\0\0\0\0\0\0\0\0"),
            "not decoded here"
        );
        assert!(!begins_a_photo(b""));
    }

    #[test]
    fn what_systems_leave_behind_is_known_by_name() {
        for name in [
            "@eaDir",
            "#recycle",
            "@Recycle",
            "$RECYCLE.BIN",
            "System Volume Information",
            "__MACOSX",
            "Thumbs.db",
            "desktop.ini",
            "lost+found",
            "__pycache__",
        ] {
            assert_eq!(litter(name).as_deref(), Some(name));
        }
        for name in [
            "._wren.jpg",
            ".thumbnails",
            ".DS_Store",
            ".ipynb_checkpoints",
            ".Trash-1000",
            ".git",
            ".@__thumb",
        ] {
            assert_eq!(litter(name).as_deref(), Some("hidden"), "{name}");
        }
        assert_eq!(litter("SYNOFILE_THUMB_M.jpg").as_deref(), Some("thumbnail"));
        assert_eq!(litter("Icon\r").as_deref(), Some("Icon"));
        for name in ["wren", "recycle", "Windows", "@home", "#1.jpg", "lost"] {
            assert_eq!(litter(name), None, "{name}");
        }
    }
}
