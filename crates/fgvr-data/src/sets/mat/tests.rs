use super::*;

fn golden(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mat");
    std::fs::read(Path::new(folder).join(name)).unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Variable>, Error> {
    parse(Path::new("a.mat"), bytes)
}

fn text(text: &str) -> Array {
    Array::Text(text.to_owned())
}

#[test]
fn what_scipy_wrote_is_read_compressed_or_not_and_in_either_byte_order() {
    let plain = read(&golden("plain.mat")).unwrap();
    let value = |name: &str| &plain.iter().find(|v| v.name == name).unwrap().value;
    for (i, second) in [-2., 2., -2., 2., -2., 2., -2., -2., -2., 2.]
        .into_iter()
        .enumerate()
    {
        let expected = Array::Numbers(vec![1., second, 3.]);
        assert_eq!(value(&format!("n{i}")), &expected, "n{i}");
    }
    assert_eq!(value("text"), &text("fgvr é"));
    assert_eq!(value("nothing"), &Array::Numbers(Vec::new()));
    let inner = Array::Cells(vec![text("inner")]);
    assert_eq!(
        value("cells"),
        &Array::Cells(vec![text("one"), Array::Numbers(vec![2.5]), inner])
    );
    let Array::Structures(people) = value("people") else {
        panic!("{:?}", value("people"));
    };
    assert_eq!(people.count, 2);
    let ages: Vec<_> = people.field("age").unwrap().collect();
    assert_eq!(
        ages,
        [&Array::Numbers(vec![36.]), &Array::Numbers(vec![53.])]
    );
    assert!(
        people
            .field("name")
            .unwrap()
            .eq([&text("Ada"), &text("Emmy")])
    );
    assert!(people.field("weight").is_none());
    assert_eq!(
        (value("complex"), value("rows")),
        (&Array::Other, &Array::Other)
    );
    assert_eq!(read(&golden("compressed.mat")).unwrap(), plain);
    assert_eq!(read(&golden("big_endian.mat")).unwrap(), plain);
}

#[test]
fn a_file_that_is_cut_has_fewer_variables_or_is_an_error_with_a_byte() {
    for name in [
        "plain.mat",
        "compressed.mat",
        "big_endian.mat",
        "cars_annos.mat",
    ] {
        let whole = golden(name);
        let all = read(&whole).unwrap().len();
        for end in 0..whole.len() {
            match read(&whole[..end]) {
                Ok(variables) => assert!(variables.len() < all, "{name} cut at {end}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with("a.mat: at byte "), "{error}");
                    assert!(
                        error.contains("expected ") && error.contains(", found "),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[test]
fn changed_bytes_never_panic() {
    for name in [
        "plain.mat",
        "compressed.mat",
        "big_endian.mat",
        "cars_annos.mat",
    ] {
        let mut bytes = golden(name);
        // A generator with a fixed seed (Knuth's MMIX).
        let mut state = 1u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let place = next(bytes.len());
            let was = bytes[place];
            bytes[place] = [0, 1, 14, 15, 0x7f, 0xff, was ^ 1, was.wrapping_add(8)][next(8)];
            drop(read(&bytes));
            if next(4) > 0 {
                bytes[place] = was;
            }
        }
    }
}

#[test]
fn other_formats_and_bombs_are_refused_by_name() {
    let problem = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(problem(b"\x89HDF\r\n").contains("7.3 (HDF5)"));
    assert!(problem(&[0; 200]).contains("at byte 126: expected \"IM\""));
    assert!(problem(b"").contains("header of 128 bytes"));
    let compressed = golden("compressed.mat");
    let error = parse_within(Path::new("a.mat"), &compressed, 100).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("at most 100 bytes of inflated data"),
        "{error}"
    );

    // Cells in cells, as deep as a file may say it.
    let element = |kind: u32, data: &[u8]| {
        [
            &kind.to_le_bytes(),
            &(data.len() as u32).to_le_bytes(),
            data,
        ]
        .concat()
    };
    let mut inner = Vec::new();
    for _ in 0..200 {
        let flags = element(6, &[1, 0, 0, 0, 0, 0, 0, 0]);
        let sides = element(5, &[1, 0, 0, 0, 1, 0, 0, 0]);
        inner = [flags, sides, element(1, b""), element(14, &inner)].concat();
    }
    let deep = [&golden("plain.mat")[..128], &element(14, &inner)].concat();
    assert!(
        problem(&deep).contains("at most 16 arrays in each other"),
        "{}",
        problem(&deep)
    );
}
