//! The members of a tar archive: their names and where their contents lie, by reading headers alone.
//!
//! The fields of a header are read by the crate `tar`. Its own iterator is not used: it takes names of any length
//! into memory, does not notice a file that ends early, and parts pax records at ends of lines, which names may hold.

use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use tar::{EntryType, Header};

use super::ShardProblem;
use crate::Error;
use crate::name::text_of_bytes;

/// Bytes of a header, and what contents are padded to.
const BLOCK: u64 = 512;

/// The longest name taken from a header of its own; systems allow 4,096 bytes.
const LONGEST_NAME: u64 = 1 << 16;

/// The longest pax header: names, times, extended attributes.
const LONGEST_PAX: u64 = 1 << 20;

/// Bytes read ahead: small members, such as classes, then lie in memory with their headers.
const AHEAD: usize = 1 << 13;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A regular file in pieces.
    Sparse,
    Folder,
    /// Anything else, in words.
    Other(&'static str),
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// As [`id_of`](crate::id_of) writes it, without `.` in it.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Where its header begins.
    pub(super) at: u64,
    /// Where its content begins.
    pub(super) offset: u64,
    /// Bytes of its content, all of which are there.
    pub(super) size: u64,
}

/// Goes from member to member of the archive in `reader`, and seeks over the contents.
pub(super) struct Members<'a, R> {
    reader: BufReader<R>,
    path: &'a Path,
    length: u64,
    /// Where the reader stands.
    position: u64,
    /// Where the next header is.
    next: u64,
}

/// What headers before a member's own say about it.
#[derive(Default)]
struct Extended {
    /// Where the first of them begins.
    at: Option<u64>,
    name: Option<Vec<u8>>,
    has_pax: bool,
    pax: Pax,
}

/// What a pax header says.
#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<'a, R: Read + Seek> Members<'a, R> {
    /// Of an archive of `length` bytes, which errors call `path`.
    pub(super) fn new(reader: R, length: u64, path: &'a Path) -> Self {
        Self {
            reader: BufReader::with_capacity(AHEAD, reader),
            path,
            length,
            position: 0,
            next: 0,
        }
    }

    /// The next member; `None` at the end of the archive.
    ///
    /// # Errors
    /// An archive that is damaged, ends early or has a member with a name that leads out of it.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Error> {
        let mut extended = Extended::default();
        loop {
            let at = self.next;
            let mut header = Header::new_old();
            if self.length.saturating_sub(at) < BLOCK {
                return Err(self.truncated(at));
            }
            self.read_at(at, header.as_mut_bytes())?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return match extended.at {
                    Some(at) => Err(self.error(at, None, ShardProblem::Extended)),
                    None => self.end(at).map(|()| None),
                };
            }
            if header.cksum().ok() != Some(checksum(header.as_bytes())) {
                return Err(match at {
                    0 => self.no_archive(header.as_bytes()),
                    at => self.error(at, None, ShardProblem::NotAHeader),
                });
            }
            let kind = header.entry_type();
            let name = || text_of_bytes(&header.path_bytes());
            let number = || self.error(at, Some(name()), ShardProblem::Number("size"));
            let size = header.entry_size().map_err(|_| number())?;
            let offset = at + BLOCK;
            if !(kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions())
            {
                return self.member(&header, extended, (at, offset, size)).map(Some);
            }
            self.next = self.after(at, offset, size, Some(name()))?;
            let most = match kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
                true => LONGEST_PAX,
                false => LONGEST_NAME,
            };
            if size > most {
                let problem = ShardProblem::TooLarge { size, most };
                return Err(self.error(at, Some(name()), problem));
            }
            let twice = (kind.is_gnu_longname() && extended.name.is_some())
                || (kind.is_pax_local_extensions() && extended.has_pax);
            if twice {
                return Err(self.error(at, Some(name()), ShardProblem::Extended));
            }
            // Global headers hold comments, such as a commit's; targets of links are not followed.
            if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
                extended.at.get_or_insert(at);
                let mut content = vec![0; size as usize];
                self.read_at(offset, &mut content)?;
                if kind.is_gnu_longname() {
                    let end = content.iter().position(|byte| *byte == 0);
                    content.truncate(end.unwrap_or(content.len()));
                    extended.name = Some(content);
                } else {
                    extended.has_pax = true;
                    extended.pax = Pax::read(&content)
                        .ok_or_else(|| self.error(at, Some(name()), ShardProblem::Pax))?;
                }
            }
        }
    }

    /// The member with `header`, which begins at the first of the numbers.
    fn member(
        &mut self,
        header: &Header,
        extended: Extended,
        (at, offset, size): (u64, u64, u64),
    ) -> Result<Member, Error> {
        let pax = extended.pax;
        let named = match (extended.name, pax.path) {
            (Some(_), Some(_)) => {
                return Err(self.error(at, None, ShardProblem::Extended));
            }
            (Some(name), None) | (None, Some(name)) => name,
            (None, None) => header.path_bytes().into_owned(),
        };
        let entry = header.entry_type();
        let kind = match kind(entry) {
            // Before ustar, folders were files whose names end so.
            Kind::File if named.ends_with(b"/") => Kind::Folder,
            Kind::File if pax.sparse => Kind::Sparse,
            kind => kind,
        };
        // What has no content may tell the size of what it leads to.
        let size = match entry {
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => 0,
            _ => pax.size.unwrap_or(size),
        };
        let name = self.inside(at, &named, kind)?;
        self.next = self.after(at, offset, size, Some(name.clone()))?;
        // Lists of pieces may follow the header of a sparse member, before its content.
        if entry == EntryType::GNUSparse {
            return Err(self.error(at, Some(name), ShardProblem::Sparse));
        }
        Ok(Member {
            name,
            kind,
            at,
            offset,
            size,
        })
    }

    /// The text of a name, which must not lead out of the archive.
    fn inside(&self, at: u64, named: &[u8], kind: Kind) -> Result<String, Error> {
        let text = text_of_bytes(named);
        let problem = match named {
            [b'/', ..] => Some(ShardProblem::Absolute),
            _ if text.split('/').any(|part| part == "..") => Some(ShardProblem::Parent),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(self.error(at, Some(text), problem));
        }
        let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
        let name = parts.collect::<Vec<_>>().join("/");
        // A folder may be the archive's own, `./`.
        if name.is_empty() && kind != Kind::Folder {
            return Err(self.error(at, None, ShardProblem::NoName));
        }
        Ok(name)
    }

    /// Where the header after a content begins.
    fn after(&self, at: u64, offset: u64, size: u64, name: Option<String>) -> Result<u64, Error> {
        let left = self.length.saturating_sub(offset);
        if size > left {
            let missing = size - left;
            return Err(self.error(at, name, ShardProblem::PastEnd { size, missing }));
        }
        // No more than the file's length, which is far from the end of u64.
        Ok(offset + size.next_multiple_of(BLOCK))
    }

    /// That the archive ends at `at`, where a block of zeros is: with a second one, and nothing but zeros behind.
    fn end(&mut self, at: u64) -> Result<(), Error> {
        if self.length < at + 2 * BLOCK {
            return Err(self.truncated(at + BLOCK));
        }
        let mut zeros = [0; AHEAD];
        let mut from = at;
        while from < self.length {
            let some = (self.length - from).min(AHEAD as u64) as usize;
            self.read_at(from, &mut zeros[..some])?;
            if let Some(found) = zeros[..some].iter().position(|byte| *byte != 0) {
                let found = from + found as u64;
                return Err(self.error(found, None, ShardProblem::AfterEnd));
            }
            from += some as u64;
        }
        Ok(())
    }

    fn truncated(&self, at: u64) -> Error {
        let zeros = if at == self.next { 2 * BLOCK } else { BLOCK };
        let missing = (at + zeros).saturating_sub(self.length);
        self.error(self.length, None, ShardProblem::Truncated { missing })
    }

    /// What a file that does not begin with a header is.
    fn no_archive(&self, start: &[u8]) -> Error {
        match super::compressed_by_content(start) {
            Some(kind) => super::compressed(self.path, kind),
            None => self.error(0, None, ShardProblem::NotAHeader),
        }
    }

    /// Reads all of `bytes` at `at`, which lies inside of the file.
    pub(super) fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let io = |source: std::io::Error| Error::Io {
            path: self.path.to_owned(),
            source,
        };
        let by = i64::try_from(i128::from(at) - i128::from(self.position))
            .map_err(|_| io(ErrorKind::InvalidInput.into()))?;
        self.reader.seek_relative(by).map_err(io)?;
        self.position = at;
        self.reader.read_exact(bytes).map_err(io)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn error(
        &self,
        offset: u64,
        member: Option<String>,
        problem: ShardProblem,
    ) -> Error {
        Error::Shard {
            path: self.path.to_owned(),
            offset,
            member,
            problem,
        }
    }
}

impl Pax {
    /// From records `LENGTH KEY=VALUE\n`, whose length counts all of the record; `None` for anything else.
    fn read(mut records: &[u8]) -> Option<Self> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"size" => pax.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                key if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
                _ => {}
            }
            records = &records[length..];
        }
        Some(pax)
    }
}

fn kind(entry: EntryType) -> Kind {
    match entry {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::GNUSparse => Kind::Sparse,
        EntryType::Directory => Kind::Folder,
        EntryType::Link => Kind::Other("hard link"),
        EntryType::Symlink => Kind::Other("symbolic link"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            Kind::Other("pipe, socket or device")
        }
        _ => Kind::Other("member of another type"),
    }
}

/// The sum of a header's bytes, those of the sum itself taken for spaces.
fn checksum(header: &[u8]) -> u32 {
    let bytes = header.iter().enumerate();
    bytes
        .map(|(at, byte)| match (148..156).contains(&at) {
            true => u32::from(b' '),
            false => u32::from(*byte),
        })
        .sum()
}
