//! Where the images of a shard lie.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;

use super::members::{Kind, Member, Members};
use super::{MAX_MEMBER, ShardProblem};
use crate::Error;
use crate::folder::{counted_as, litter};

/// The longest content of a `.cls`: a number, perhaps with spaces and the end of a line.
const LONGEST_CLASS: u64 = 32;

/// An image without a class.
pub(super) const NO_CLASS: u32 = u32::MAX;

/// The images of one shard in the order in which they are stored: names, places and classes, 24 bytes and the name each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardIndex {
    pub(super) images: Vec<Place>,
    /// Their names, one behind the other.
    pub(super) names: String,
    /// Members passed over, by kind.
    pub(super) passed_over: BTreeMap<String, usize>,
}

/// Where an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    /// Where its name ends in the string of all names.
    pub(super) name_end: u64,
    /// At most [`MAX_MEMBER`].
    pub(super) length: u32,
    /// As `.cls` has it; [`NO_CLASS`] without one.
    pub(super) class: u32,
}

/// A sample of which more members may follow.
struct Sample {
    /// The path up to the first dot of the base name.
    key: String,
    /// Where its first member begins.
    at: u64,
    image: Option<(String, u64, u32)>,
    class: Option<u32>,
}

impl ShardIndex {
    /// Reads the headers of the archive in `reader`, of `length` bytes, which errors call `path`. Of the contents only
    /// those of `.cls` are read. Memory is bounded by the number of headers, whatever sizes they claim.
    ///
    /// # Errors
    /// [`Error::Shard`] for what [`ShardProblem`] lists, [`Error::Io`].
    pub fn read(mut reader: impl Read + Seek, length: u64, path: &Path) -> Result<Self, Error> {
        reader.rewind().map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut members = Members::new(reader, length, path);
        let (mut index, mut open) = (Self::default(), None::<Sample>);
        while let Some(member) = members.next()? {
            match member.kind {
                Kind::File | Kind::Sparse => {}
                Kind::Folder => continue,
                Kind::Other(kind) => {
                    index.pass(kind.to_owned());
                    continue;
                }
            }
            let base = member.name.rsplit('/').next().unwrap_or_default();
            if let Some(kind) = litter(base) {
                index.pass(kind);
                continue;
            }
            let Some(dot) = base.find('.') else {
                index.pass(counted_as(base));
                continue;
            };
            let key = &member.name[..member.name.len() - base.len() + dot];
            if let Some(sample) = open.take_if(|sample| sample.key != key) {
                index.finish(sample, &members)?;
            }
            let sample = open.get_or_insert_with(|| Sample {
                key: key.to_owned(),
                at: member.at,
                image: None,
                class: None,
            });
            index.add(sample, &member, &mut members)?;
        }
        if let Some(sample) = open.take() {
            index.finish(sample, &members)?;
        }
        index.images.shrink_to_fit();
        index.names.shrink_to_fit();
        index.all_differ(&members)?;
        Ok(index)
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The name of an image in the shard; empty past the end.
    #[must_use]
    pub fn name(&self, image: usize) -> &str {
        let start = match image {
            0 => Some(0),
            image => self.images.get(image - 1).map(|place| place.name_end),
        };
        let end = self.images.get(image).map(|place| place.name_end);
        let range = start
            .zip(end)
            .map(|(start, end)| start as usize..end as usize);
        range
            .and_then(|range| self.names.get(range))
            .unwrap_or_default()
    }

    /// Where the content of an image begins and how many bytes it has.
    #[must_use]
    pub fn place(&self, image: usize) -> Option<(u64, u64)> {
        let place = self.images.get(image)?;
        Some((place.offset, u64::from(place.length)))
    }

    /// The number in an image's `.cls`.
    #[must_use]
    pub fn class(&self, image: usize) -> Option<u32> {
        let class = self.images.get(image)?.class;
        (class != NO_CLASS).then_some(class)
    }

    fn pass(&mut self, kind: String) {
        *self.passed_over.entry(kind).or_default() += 1;
    }

    fn add<R: Read + Seek>(
        &mut self,
        sample: &mut Sample,
        member: &Member,
        members: &mut Members<'_, R>,
    ) -> Result<(), Error> {
        let ending = member.name[sample.key.len() + 1..].to_ascii_lowercase();
        let fail = |members: &Members<'_, R>, problem| {
            Err(members.error(member.at, Some(member.name.clone()), problem))
        };
        match ending.as_str() {
            "jpg" | "jpeg" | "png" | "webp" | "bmp" | "cls" if member.kind == Kind::Sparse => {
                return fail(members, ShardProblem::Sparse);
            }
            "jpg" | "jpeg" | "png" | "webp" | "bmp" => {
                if sample.image.is_some() {
                    return fail(members, ShardProblem::TwoImages);
                }
                let (size, most) = (member.size, MAX_MEMBER);
                let Some(length) = u32::try_from(size).ok().filter(|_| size <= most) else {
                    return fail(members, ShardProblem::TooLarge { size, most });
                };
                sample.image = Some((member.name.clone(), member.offset, length));
            }
            "cls" => {
                if sample.class.is_some() {
                    return fail(members, ShardProblem::TwoClasses);
                }
                let (size, most) = (member.size, LONGEST_CLASS);
                if size > most {
                    return fail(members, ShardProblem::TooLarge { size, most });
                }
                let mut content = vec![0; size as usize];
                members.read_at(member.offset, &mut content)?;
                let text = String::from_utf8_lossy(&content);
                let digits = Some(text.trim()).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
                let class = digits.and_then(|digits| digits.parse().ok());
                match class.filter(|class| *class != NO_CLASS) {
                    Some(class) => sample.class = Some(class),
                    None => return fail(members, ShardProblem::Class(text.into_owned())),
                }
            }
            _ => self.pass(counted_as(&member.name)),
        }
        Ok(())
    }

    fn finish<R: Read + Seek>(
        &mut self,
        sample: Sample,
        members: &Members<'_, R>,
    ) -> Result<(), Error> {
        let Some((name, offset, length)) = sample.image else {
            return Err(members.error(sample.at, Some(sample.key), ShardProblem::NoImage));
        };
        self.names.push_str(&name);
        self.images.push(Place {
            offset,
            name_end: self.names.len() as u64,
            length,
            class: sample.class.unwrap_or(NO_CLASS),
        });
        Ok(())
    }

    /// That no two samples have one key.
    fn all_differ<R: Read + Seek>(&self, members: &Members<'_, R>) -> Result<(), Error> {
        let key = |image: usize| {
            let name = self.name(image);
            let base = name.rfind('/').map_or(0, |slash| slash + 1);
            let dot = name[base..].find('.').map_or(name.len(), |dot| base + dot);
            &name[..dot]
        };
        let mut order: Vec<u32> = (0..).take(self.len()).collect();
        order.sort_unstable_by(|a, b| key(*a as usize).cmp(key(*b as usize)).then(a.cmp(b)));
        for pair in order.windows(2) {
            let [first, second] = [pair[0] as usize, pair[1] as usize];
            if key(first) == key(second) {
                let offset = self.images[second].offset;
                let name = Some(self.name(second).to_owned());
                return Err(members.error(offset, name, ShardProblem::SameKey));
            }
        }
        Ok(())
    }
}
