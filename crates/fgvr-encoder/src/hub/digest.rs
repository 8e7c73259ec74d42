//! What the Hub states of a file's content, and the same computed from the content.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::error::HubError;

/// The name of a content: also the name of its file among the cache's blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObjectId {
    /// SHA-256 of the content, 64 hex digits: what LFS and Xet state.
    Sha256(String),
    /// SHA-1 of git's blob, 40 hex digits: what git states of small files.
    GitBlob(String),
}

impl ObjectId {
    /// The id with these digits; none if they are not 40 or 64 lower-case hex digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return None;
        }
        match text.len() {
            64 => Some(Self::Sha256(text.to_owned())),
            40 => Some(Self::GitBlob(text.to_owned())),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git's SHA-1",
        }
    }
}

/// Computes both hashes of a content of known length as it comes.
pub(super) struct Hasher {
    sha256: Sha256,
    git: Sha1,
}

/// Both hashes of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) sha256: String,
    pub(super) git: String,
}

impl Hasher {
    pub(super) fn new(size: u64) -> Self {
        let mut git = Sha1::new();
        // A blob in git is a header and the content, hashed together.
        git.update(format!("blob {size}\0"));
        Self {
            sha256: Sha256::new(),
            git,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.git.update(bytes);
    }

    pub(super) fn finish(self) -> Hashes {
        Hashes {
            sha256: hex(&self.sha256.finalize()),
            git: hex(&self.git.finalize()),
        }
    }
}

impl Hashes {
    /// Checks them against what was stated of `file`.
    pub(super) fn check(&self, file: &str, stated: &ObjectId) -> Result<(), HubError> {
        let found = match stated {
            ObjectId::Sha256(_) => &self.sha256,
            ObjectId::GitBlob(_) => &self.git,
        };
        if found == stated.as_str() {
            return Ok(());
        }
        Err(HubError::Hash {
            file: file.to_owned(),
            algorithm: stated.algorithm(),
            expected: stated.as_str().to_owned(),
            found: found.clone(),
        })
    }
}

/// The length and hashes of the file at `path`.
pub(super) fn of_file(path: &Path) -> Result<(u64, Hashes), HubError> {
    let io = |source| HubError::io(path, source);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut hasher = Hasher::new(size);
    absorb(&mut file, &mut hasher).map_err(io)?;
    Ok((size, hasher.finish()))
}

/// Feeds the rest of `file` to `hasher`.
pub(super) fn absorb(file: &mut std::fs::File, hasher: &mut Hasher) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() {
        let mut hasher = Hasher::new(6);
        hasher.update(b"hel");
        hasher.update(b"lo\n");
        let hashes = hasher.finish();
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hashes.sha256, sha256);
        assert_eq!(hashes.git, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert!(hashes.check("x", &ObjectId::parse(sha256).unwrap()).is_ok());
        let other = ObjectId::parse(&"0".repeat(40)).unwrap();
        let error = hashes.check("x", &other).unwrap_err().to_string();
        assert!(error.contains("git's SHA-1"), "{error}");
    }

    #[test]
    fn only_hex_digits_of_the_right_number_are_an_id() {
        for text in [
            "",
            "../../x",
            &"g".repeat(40),
            &"A".repeat(64),
            &"0".repeat(41),
        ] {
            assert_eq!(ObjectId::parse(text), None);
        }
    }
}
