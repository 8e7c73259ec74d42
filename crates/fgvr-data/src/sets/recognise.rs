//! Which set a folder holds, by the files that its archive has.

use super::SetKind;

/// The files of one archive.
struct Archive {
    set: SetKind,
    /// Where the files may lie in the folder that is opened: the names that archives unpack to.
    inside: &'static [&'static str],
    /// Files of which all in a group say that this is the set, perhaps not all of it.
    telling: &'static [&'static [&'static str]],
    /// What belongs to it: one of each group.
    needed: &'static [&'static [&'static str]],
    /// Files of another set that is laid out alike.
    foreign: &'static [&'static str],
}

const ARCHIVES: &[Archive] = &[
    Archive {
        set: SetKind::Cub,
        inside: &["", "CUB_200_2011"],
        telling: &[
            &["images.txt", "image_class_labels.txt"],
            &["images.txt", "train_test_split.txt"],
            &["image_class_labels.txt", "train_test_split.txt"],
            &["images.txt", "bounding_boxes.txt"],
            &["parts/part_locs.txt"],
        ],
        needed: &[
            &["images"],
            &["images.txt"],
            &["image_class_labels.txt"],
            &["train_test_split.txt"],
            &["classes.txt"],
            &["bounding_boxes.txt"],
            &["parts/parts.txt"],
            &["parts/part_locs.txt"],
        ],
        // NABirds.
        foreign: &["hierarchy.txt"],
    },
    Archive {
        set: SetKind::Cars,
        inside: &["", "stanford_cars"],
        telling: &[
            &["cars_train", "cars_test"],
            &["cars_train_annos.mat"],
            &["cars_meta.mat"],
            &["cars_test_annos_withlabels.mat"],
            &["devkit/cars_meta.mat"],
            &["devkit/cars_train_annos.mat"],
        ],
        needed: &[
            &["cars_train"],
            &["cars_test"],
            &["devkit/cars_meta.mat", "cars_meta.mat"],
            &["devkit/cars_train_annos.mat", "cars_train_annos.mat"],
            &[
                "devkit/cars_test_annos_withlabels.mat",
                "cars_test_annos_withlabels.mat",
                "devkit/cars_test_annos.mat",
                "cars_test_annos.mat",
            ],
        ],
        foreign: &[],
    },
    Archive {
        set: SetKind::Cars,
        inside: &["", "stanford_cars"],
        telling: &[&["cars_annos.mat"]],
        needed: &[&["car_ims"], &["cars_annos.mat"]],
        foreign: &["cars_train"],
    },
    Archive {
        set: SetKind::Aircraft,
        inside: &["", "data", "fgvc-aircraft-2013b/data"],
        telling: &[
            &["images_variant_train.txt"],
            &["images_variant_test.txt"],
            &["images_family_train.txt"],
            &["variants.txt", "families.txt"],
        ],
        needed: &[
            &["images"],
            &["images_box.txt"],
            &["variants.txt"],
            &["families.txt"],
            &["manufacturers.txt"],
            &["images_variant_train.txt"],
            &["images_variant_val.txt"],
            &["images_variant_test.txt"],
            &["images_family_train.txt"],
            &["images_family_val.txt"],
            &["images_family_test.txt"],
            &["images_manufacturer_train.txt"],
            &["images_manufacturer_val.txt"],
            &["images_manufacturer_test.txt"],
        ],
        foreign: &[],
    },
    Archive {
        set: SetKind::Pets,
        inside: &["", "oxford-iiit-pet"],
        telling: &[
            &["annotations/trimaps"],
            &["annotations/list.txt"],
            &["annotations/trainval.txt", "annotations/test.txt"],
        ],
        needed: &[
            &["images"],
            &["annotations/list.txt"],
            &["annotations/trainval.txt"],
            &["annotations/test.txt"],
            &["annotations/trimaps"],
            &["annotations/xmls"],
        ],
        foreign: &[],
    },
    Archive {
        set: SetKind::Flowers,
        inside: &["", "flowers-102"],
        telling: &[&["imagelabels.mat"], &["setid.mat"]],
        needed: &[&["jpg"], &["imagelabels.mat"], &["setid.mat"]],
        foreign: &[],
    },
    Archive {
        set: SetKind::Dogs,
        inside: &[""],
        telling: &[
            &["train_list.mat"],
            &["test_list.mat"],
            &["Images", "Annotation"],
        ],
        needed: &[
            &["Images"],
            &["Annotation"],
            &["train_list.mat"],
            &["test_list.mat"],
        ],
        foreign: &[],
    },
    Archive {
        set: SetKind::Food,
        inside: &["", "food-101"],
        telling: &[
            &["meta/classes.txt", "meta/train.txt"],
            &["meta/classes.txt", "meta/labels.txt"],
            &["meta/labels.txt", "meta/train.txt", "meta/test.txt"],
            &["meta/train.json", "meta/test.json"],
        ],
        needed: &[
            &["images"],
            &["meta/classes.txt"],
            &["meta/labels.txt"],
            &["meta/train.txt"],
            &["meta/test.txt"],
        ],
        foreign: &[],
    },
];

/// A set that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) set: SetKind,
    /// Where it lies in the folder; empty for the folder itself.
    pub(super) inside: &'static str,
    /// What belongs to it and is not there.
    pub(super) missing: Vec<&'static str>,
}

/// The sets in a folder of which `has` says whether a path below it is there. With `forced`, that one, wherever in the
/// folder most of it is.
pub(super) fn recognise(has: impl Fn(&str) -> bool, forced: Option<SetKind>) -> Vec<Recognised> {
    let mut sets: Vec<Recognised> = Vec::new();
    for archive in ARCHIVES {
        if forced.is_some_and(|set| set != archive.set) {
            continue;
        }
        for inside in archive.inside {
            let has = |name: &str| match *inside {
                "" => has(name),
                folder => has(&format!("{folder}/{name}")),
            };
            let tells = archive
                .telling
                .iter()
                .any(|group| group.iter().all(|name| has(name)))
                && !archive.foreign.iter().any(|name| has(name));
            if !tells && forced.is_none() {
                continue;
            }
            let needed = archive.needed.iter();
            let missing = needed.filter(|group| !group.iter().any(|name| has(name)));
            let found = Recognised {
                set: archive.set,
                inside,
                missing: missing.filter_map(|group| group.first().copied()).collect(),
            };
            // One set, of the places and archives where it may be the one that lacks least.
            match sets.iter_mut().find(|other| other.set == found.set) {
                Some(other) if found.missing.len() < other.missing.len() => *other = found,
                Some(_) => {}
                None => sets.push(found),
            }
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_archive_is_known_where_it_may_lie_and_by_each_group_that_tells() {
        for archive in ARCHIVES {
            for inside in archive.inside {
                let at = |name: &str| match *inside {
                    "" => name.to_owned(),
                    folder => format!("{folder}/{name}"),
                };
                let all: Vec<String> = archive.needed.iter().map(|group| at(group[0])).collect();
                let found = recognise(|name| all.iter().any(|file| file == name), None);
                let expected = Recognised {
                    set: archive.set,
                    inside,
                    missing: Vec::new(),
                };
                assert_eq!(found, [expected]);
                for group in archive.telling {
                    let found = recognise(|name| group.iter().any(|file| at(file) == name), None);
                    assert_eq!((found.len(), found[0].set), (1, archive.set), "{group:?}");
                    assert!(!found[0].missing.is_empty(), "{group:?}");
                }
            }
        }
    }

    #[test]
    fn ordinary_folders_and_nabirds_are_none_of_them() {
        for files in [
            &["images", "classes.txt", "images.txt"][..],
            &["train", "test", "annotations", "annotations/labels.txt"],
            &[
                "images.txt",
                "image_class_labels.txt",
                "train_test_split.txt",
                "hierarchy.txt",
            ],
            &["data", "Images", "devkit", "meta", "meta/classes.txt"],
        ] {
            assert_eq!(
                recognise(|name| files.contains(&name), None),
                [],
                "{files:?}"
            );
        }
        let forced = recognise(|name| name == "images", Some(SetKind::Food));
        assert_eq!(forced[0].missing.len(), 4);
    }
}
