use super::*;

fn index(bytes: &[u8]) -> Result<ShardIndex, Error> {
    ShardIndex::read(Cursor::new(bytes), bytes.len() as u64, Path::new("s.tar"))
}

/// What is wrong with an archive, and the member that is named.
fn problem(bytes: &[u8]) -> (ShardProblem, Option<String>) {
    match index(bytes).unwrap_err() {
        Error::Shard {
            problem, member, ..
        } => (problem, member),
        other => panic!("{other}"),
    }
}

/// A header with a name as it is, which the builder would refuse.
fn raw(name: &str, size: u64, kind: EntryType) -> Header {
    let mut header = header(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

/// `header`, `content` padded, and the end of an archive.
fn single(header: &Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[test]
fn a_member_that_claims_more_than_there_is_is_an_error_that_names_it() {
    let bytes = single(&raw("a.jpg", 1 << 40, EntryType::Regular), &[0; 100]);
    let error = index(&bytes).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "s.tar: a.jpg at byte 0: it claims 1099511627776 bytes, and the file ends 109951"
        ),
        "{error}"
    );
    // The largest that a base-256 field can hold.
    let mut header = raw("a.jpg", u64::MAX, EntryType::Regular);
    header.set_cksum();
    assert!(matches!(
        problem(&single(&header, &[])).0,
        ShardProblem::PastEnd { .. }
    ));
    // A name, or extended attributes, of gigabytes are not taken into memory.
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let bytes = single(&raw("x", 3 << 20, kind), &vec![b'a'; 3 << 20]);
        assert!(matches!(problem(&bytes).0, ShardProblem::TooLarge { .. }));
    }
    let large = raw("a.jpg", MAX_MEMBER + 1, EntryType::Regular);
    // A file of holes, so that all of it is there.
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, large.as_bytes()).unwrap();
    file.set_len(MAX_MEMBER + 4096).unwrap();
    let error = ShardIndex::read(&file, MAX_MEMBER + 4096, Path::new("s.tar")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("268435457 bytes, expected at most 268435456"),
        "{error}"
    );
}

#[test]
fn a_shard_that_was_cut_short_says_how_much_is_missing() {
    let whole = samples(0, 3, 2);
    let end = whole.len() - 1024;
    for (kept, missing) in [
        (end + 1023, 1),
        (end + 512, 512),
        (end, 1024),
        (0, 1024),
        (100, 924),
    ] {
        let (found, _) = problem(&whole[..kept]);
        assert_eq!(found, ShardProblem::Truncated { missing }, "{kept}");
    }
    // Inside of a member.
    let at = 512 + 512 + 512 + 20;
    let (found, member) = problem(&whole[..at]);
    let size = png(0).len() as u64;
    assert_eq!(
        found,
        ShardProblem::PastEnd {
            size,
            missing: size - 20
        }
    );
    assert_eq!(member.as_deref(), Some("000000.PNG"));
}

#[test]
fn names_that_lead_out_are_refused_and_long_ones_are_read() {
    let named = |name: &str| problem(&single(&raw(name, 0, EntryType::Regular), &[])).0;
    assert_eq!(named("/etc/a.jpg"), ShardProblem::Absolute);
    assert_eq!(named("a/../../b.jpg"), ShardProblem::Parent);
    assert_eq!(named("."), ShardProblem::NoName);
    let long = format!("{}/x.{}", "deep/".repeat(60), "jpg");
    let gnu = archive([(long.as_str(), &png(1)[..])]);
    assert_eq!(index(&gnu).unwrap().name(0), long.replace("//", "/"));
    // pax, with an end of a line in the name.
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("path", "be\nak/1.jpg".as_bytes())])
        .unwrap();
    tar.append(&raw("short.jpg", 3, EntryType::Regular), &b"abc"[..])
        .unwrap();
    let pax = tar.into_inner().unwrap();
    let found = index(&pax).unwrap();
    assert_eq!(found.name(0), "be\nak/1.jpg");
    let (offset, length) = found.place(0).unwrap();
    assert_eq!(&pax[offset as usize..][..length as usize], b"abc");
    for damaged in ["99 path=a\n", "x path=a\n", "10 path\n", "3 a"] {
        let bytes = single(
            &raw("x", damaged.len() as u64, EntryType::XHeader),
            damaged.as_bytes(),
        );
        assert_eq!(problem(&bytes).0, ShardProblem::Pax, "{damaged}");
    }
}

#[test]
fn links_and_devices_are_passed_over_and_sparse_images_refused() {
    let mut tar = Builder::new(Vec::new());
    for kind in [
        EntryType::Link,
        EntryType::Symlink,
        EntryType::Fifo,
        EntryType::Char,
    ] {
        // Some writers give a link the size of what it leads to.
        tar.append(
            &raw("l.jpg", if kind == EntryType::Link { 9 } else { 0 }, kind),
            &[][..],
        )
        .unwrap();
    }
    tar.append(&raw("d/", 0, EntryType::Directory), &[][..])
        .unwrap();
    tar.append(&raw("./._a.jpg", 3, EntryType::Regular), &b"abc"[..])
        .unwrap();
    tar.append(&raw("./d/a.jpg", 3, EntryType::Regular), &b"abc"[..])
        .unwrap();
    let found = index(&tar.into_inner().unwrap()).unwrap();
    assert_eq!((found.len(), found.name(0)), (1, "d/a.jpg"));
    let counts: Vec<_> = found
        .passed_over
        .iter()
        .map(|(kind, n)| (kind.as_str(), *n))
        .collect();
    assert_eq!(
        counts,
        [
            ("hard link", 1),
            ("hidden", 1),
            ("pipe, socket or device", 2),
            ("symbolic link", 1)
        ]
    );
    let sparse = single(&raw("a.jpg", 0, EntryType::GNUSparse), &[]);
    assert_eq!(problem(&sparse).0, ShardProblem::Sparse);
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("GNU.sparse.major", "1".as_bytes())])
        .unwrap();
    tar.append(&raw("a.jpg", 3, EntryType::Regular), &b"abc"[..])
        .unwrap();
    assert_eq!(problem(&tar.into_inner().unwrap()).0, ShardProblem::Sparse);
}

#[test]
fn samples_that_are_not_one_image_and_one_class_are_refused() {
    let wrong = |members: &[(&str, &str)]| {
        let members = members
            .iter()
            .map(|(name, content)| (*name, content.as_bytes()));
        problem(&archive(members)).0
    };
    assert_eq!(
        wrong(&[("a.jpg", ""), ("a.png", "")]),
        ShardProblem::TwoImages
    );
    assert_eq!(
        wrong(&[("a.jpg", ""), ("a.jpg", "")]),
        ShardProblem::TwoImages
    );
    assert_eq!(
        wrong(&[("a.cls", "1"), ("a.cls", "1")]),
        ShardProblem::TwoClasses
    );
    assert_eq!(
        wrong(&[("a.jpg", ""), ("b.cls", "1")]),
        ShardProblem::NoImage
    );
    assert_eq!(wrong(&[("a.v2.jpg", "")]), ShardProblem::NoImage);
    assert_eq!(
        wrong(&[("a.jpg", ""), ("b.jpg", ""), ("a.png", "")]),
        ShardProblem::SameKey
    );
    for class in [
        "",
        "wren",
        "-1",
        "+1",
        "1.0",
        "4294967295",
        "99999999999",
        "1 2",
    ] {
        let found = wrong(&[("a.jpg", ""), ("a.cls", class)]);
        assert_eq!(found, ShardProblem::Class(class.to_owned()));
    }
    let long = "1".repeat(33);
    assert!(matches!(
        wrong(&[("a.cls", &long)]),
        ShardProblem::TooLarge { .. }
    ));
    // A mask beside an image is no second image, and the same key in another folder another sample.
    let fine = archive([
        ("a/1.jpg", &b""[..]),
        ("a/1.seg.png", b""),
        ("b/1.jpg", b""),
    ]);
    assert_eq!(index(&fine).unwrap().len(), 2);
}

#[test]
fn labels_that_disagree_or_have_no_name_are_refused() {
    let open = |members: &[(&str, &[u8])], names: &str| {
        let root = folder(&[
            ("0.tar", archive(members.iter().copied())),
            ("classes.txt", names.into()),
        ]);
        opened(&root, "", &DataConfig::default())
            .err()
            .unwrap()
            .to_string()
    };
    let some = open(&[("a.jpg", b""), ("a.cls", b"0"), ("b.jpg", b"")], "x");
    assert!(
        some.contains("0.tar: b.jpg at byte") && some.contains("1 of 2 samples"),
        "{some}"
    );
    let unknown = open(&[("a.jpg", b""), ("a.cls", b"2")], "x\ny\n");
    assert!(
        unknown.contains("the class is 2, and classes.txt names 2"),
        "{unknown}"
    );
    let one: &[(&str, &[u8])] = &[("a.jpg", b""), ("a.cls", b"0")];
    assert!(open(one, "x\n\ny").contains("line 2 is empty"));
    assert!(open(one, "x\ny\nx").contains("line 3 names x again"));
}

#[test]
fn what_is_no_archive_or_more_than_one_is_refused() {
    assert_eq!(problem(&[7; 2048]).0, ShardProblem::NotAHeader);
    let gzip = [&b"\x1f\x8b\x08"[..], &[7; 2048]].concat();
    let error = index(&gzip).unwrap_err().to_string();
    assert!(
        error.contains("compressed with gzip") && error.contains("gunzip"),
        "{error}"
    );
    let two = [samples(0, 2, 2), samples(2, 2, 2)].concat();
    assert_eq!(problem(&two).0, ShardProblem::AfterEnd);
    let mut damaged = samples(0, 3, 2);
    damaged[1024] ^= 1;
    assert_eq!(problem(&damaged).0, ShardProblem::NotAHeader);
    assert_eq!(index(&[0; 10240]).unwrap().len(), 0);
}
