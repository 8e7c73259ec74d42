//! Borders of zeros, written out.

mod support;

use fgvr_cuda::ops::pad::{self, Border};
use fgvr_cuda::{Array, Real};
use support::{on_each_machine, pairs, rounded};

#[test]
fn a_border_is_put_around_and_taken_away() {
    on_each_machine(|machine, random| {
        let shapes = [([2, 3, 5, 8], [0, 0, 1, 1]), ([1, 4, 1, 3], [2, 1, 0, 3])];
        for (real, (inner, sides)) in pairs(Real::ALL, &shapes) {
            let [top, left, bottom, right] = sides;
            let border = Border {
                inner,
                top,
                left,
                bottom,
                right,
            };
            let [n, h, w, c] = inner;
            let values = rounded(real, &random.normals(n * h * w * c, 0., 1.));
            let x = Array::from_reals(machine, real, &values)?;
            let y = pad::pad(machine, &x, &border)?;
            let [_, height, width, _] = border.outer();
            assert_eq!([height, width], [h + top + bottom, w + left + right]);
            let mut expected = vec![0.; n * height * width * c];
            for (i, value) in values.iter().enumerate() {
                let (channel, column, row) = (i % c, i / c % w, i / c / w % h);
                let row = (i / (c * w * h)) * height + row + top;
                expected[(row * width + column + left) * c + channel] = *value;
            }
            assert_eq!(y.to_f32(machine)?, expected);
            let back = pad::crop(machine, &y, &border)?;
            assert_eq!(back.to_f32(machine)?, values);
        }
        Ok(())
    });
}
