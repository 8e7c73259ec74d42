//! Names from outside, before they become a part of a path.

/// Checks that `name` is a relative path of plain segments on every system: no `..`, not absolute,
/// no backslash, control character, colon or wildcard, no Windows device, no segment that ends in a
/// dot or a space. The error says what is wrong, to follow the name.
pub(super) fn check(name: &str) -> Result<(), String> {
    possible(name)?;
    if name.contains('\\') {
        return Err("holds a backslash".to_owned());
    }
    if let Some(c) = name.chars().find(|c| "<>:\"|?*".contains(*c)) {
        return Err(format!("holds {c:?}, which not every system allows"));
    }
    for segment in name.split('/') {
        if segment.ends_with(['.', ' ']) {
            return Err("holds a segment that ends in a dot or a space".to_owned());
        }
        if is_windows_device(segment) {
            return Err(format!("holds {segment:?}, a device on Windows"));
        }
    }
    Ok(())
}

/// Checks that git could hold a file of that name: what fails here is an attack or a broken server.
pub(super) fn possible(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > 1024 {
        return Err("is longer than 1024 bytes".to_owned());
    }
    if name.starts_with('/') {
        return Err("is absolute".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    for segment in name.split('/') {
        match segment {
            "" => return Err("holds an empty segment".to_owned()),
            "." => return Err("holds a segment `.`".to_owned()),
            ".." => return Err("holds a segment `..`".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Whether Windows takes a file of that name for a device, whatever its extension.
fn is_windows_device(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or(segment);
    let stem = stem.trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| n.len() == 1 && ("1"..="9").contains(&n))
    };
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || numbered("COM")
        || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass() {
        for name in [
            "model.safetensors",
            "sub/model-00001-of-00002.safetensors",
            ".gitattributes",
            "Gewichte für Vögel.pth",
            "com10",
            "console.txt",
        ] {
            assert_eq!(check(name), Ok(()));
        }
    }

    #[test]
    fn names_that_leave_their_folder_or_are_no_file_everywhere_do_not() {
        let impossible = [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
        ];
        for name in impossible {
            assert!(possible(name).is_err(), "{name:?}");
            assert!(check(name).is_err(), "{name:?}");
        }
        let elsewhere = [
            "..\\x",
            "C:\\x",
            "C:x",
            "nul",
            "sub/NUL.safetensors",
            "aux .txt",
            "com1",
            "lpt9.bin",
            "a.",
            "a ",
            "a?b",
            "a*b",
        ];
        for name in elsewhere {
            assert_eq!(possible(name), Ok(()), "{name:?}");
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check(&"x".repeat(1025)).is_err());
    }
}
