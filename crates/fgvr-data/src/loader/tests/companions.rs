use super::*;

#[test]
fn the_second_view_shows_the_companion_and_all_else_the_image() {
    let with = |companions: Companions, missing: Vec<usize>| {
        let dataset = Arc::new(Colours {
            missing,
            ..Colours::of(12)
        });
        let cfg = LoaderConfig {
            crops: 1,
            crop_size: SIZE,
            ..config(4)
        };
        let start = Position { epoch: 1, batch: 0 };
        Loader::with_companions(dataset, cfg, telling(), companions, start).unwrap()
    };
    let shown = |batch: &Batch| -> Vec<[usize; 4]> {
        let of = |view: &Tensor| view.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        let views = [&batch.views[0], &batch.views[1], &batch.crops[0]].map(of);
        let rows = (0..batch.indices.len()).map(|row| {
            let [a, b, crop] = [0, 1, 2].map(|view| views[view][row][0] as usize);
            [batch.indices[row] as usize, a, b, crop]
        });
        rows.collect()
    };
    let next: Companions = Arc::new(|epoch, index| (index + epoch as usize) % 12);
    for [index, first, second, crop] in shown(&with(next.clone(), vec![]).next().unwrap()) {
        assert_eq!([first, second, crop], [index, (index + 1) % 12, index]);
    }
    // Seven cannot be read, and six shows itself; eight takes the place of seven.
    let mut loader = with(next, vec![7]);
    let rows: Vec<_> = (0..3)
        .flat_map(|_| shown(&loader.next().unwrap()))
        .collect();
    assert!(
        rows.contains(&[6, 6, 6, 6]) && rows.iter().all(|row| row[2] != 7),
        "{rows:?}"
    );
    assert_eq!(loader.quarantined().len(), 1);
    let error = with(Arc::new(|_, _| 12), vec![])
        .next()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("companion of image") && error.contains("12"),
        "{error}"
    );
}
