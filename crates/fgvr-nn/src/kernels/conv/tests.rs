//! Every pass against a naive convolution in f64, over shapes chosen for their edges.

mod depthwise;

use super::*;

/// The definition: calls `visit(x index, w index, y index)` for each product of the convolution.
fn each_product(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (s.c_in / s.groups, s.c_out / s.groups);
    let (out_h, out_w) = (s.out_h(), s.out_w());
    let source = |i: usize, k: usize, side: usize, before: usize| {
        (i * s.stride + k * s.dilation)
            .checked_sub(before)
            .filter(|i| *i < side)
    };
    let Padding { top, left, .. } = s.padding;
    for image in 0..s.n {
        for (i, j) in (0..out_h).flat_map(|i| (0..out_w).map(move |j| (i, j))) {
            for (k, l) in (0..s.kernel).flat_map(|k| (0..s.kernel).map(move |l| (k, l))) {
                let (Some(row), Some(column)) = (source(i, k, s.h, top), source(j, l, s.w, left))
                else {
                    continue;
                };
                for o in 0..s.c_out {
                    let group = o / outputs;
                    for c in 0..inputs {
                        visit(
                            ((image * s.h + row) * s.w + column) * s.c_in + group * inputs + c,
                            ((o * inputs + c) * s.kernel + k) * s.kernel + l,
                            ((image * out_h + i) * out_w + j) * s.c_out + o,
                        );
                    }
                }
            }
        }
    }
}

/// Values in -1..1 without a pattern that a wrong index could repeat.
fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2. - 1.
    };
    (0..len).map(|_| next()).collect()
}

struct Case {
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(s: &ConvShape) -> Self {
        s.check().unwrap();
        Self {
            x: values(s.input_len(), 1),
            w: values(s.weight_len(), 2),
            dy: values(s.output_len(), 3),
        }
    }

    /// y, dx and dw in f64.
    fn expected(&self, s: &ConvShape) -> [Vec<f64>; 3] {
        let mut y = vec![0.; self.dy.len()];
        let mut dx = vec![0.; self.x.len()];
        let mut dw = vec![0.; self.w.len()];
        each_product(s, |x, w, o| {
            y[o] += f64::from(self.x[x]) * f64::from(self.w[w]);
            dx[x] += f64::from(self.dy[o]) * f64::from(self.w[w]);
            dw[w] += f64::from(self.dy[o]) * f64::from(self.x[x]);
        });
        [y, dx, dw]
    }

    /// y, dx and dw of the kernels; outputs start as NaN, so that one not written shows.
    fn run(&self, level: Level, s: &ConvShape) -> [Vec<f32>; 3] {
        let mut y = vec![f32::NAN; self.dy.len()];
        let mut dx = vec![f32::NAN; self.x.len()];
        let mut dw = vec![f32::NAN; self.w.len()];
        Packed::forward_at(level, s, &self.w).run(&self.x, &mut y);
        Packed::grad_input_at(level, s, &self.w).run(&self.dy, &mut dx);
        let mut gradient = WeightGradient::at(level, s);
        gradient.add(&self.x, &self.dy);
        gradient.finish(&mut dw);
        [y, dx, dw]
    }
}

/// The largest difference, relative to the largest expected value.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let differences = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f64::from(*f) - e).abs() / largest);
    // `max` would drop a NaN.
    differences.fold(
        0.,
        |most: f64, d| if d.is_nan() || d > most { d } else { most },
    )
}

/// Every level against f64, to 1e-5 of the largest value.
fn check(s: &ConvShape) {
    let case = Case::new(s);
    let expected = case.expected(s);
    for level in Level::available() {
        let found = case.run(level, s);
        for (name, (found, expected)) in ["forward", "grad_input", "grad_weight"]
            .iter()
            .zip(found.iter().zip(&expected))
        {
            let error = error(found, expected);
            assert!(error < 1e-5, "{name} at {level:?}: error {error} for {s:?}");
        }
    }
}

fn shape(n: usize, h: usize, w: usize, c_in: usize, c_out: usize, kernel: usize) -> ConvShape {
    ConvShape {
        n,
        h,
        w,
        c_in,
        c_out,
        kernel,
        stride: 1,
        padding: (kernel / 2).into(),
        dilation: 1,
        groups: 1,
    }
}

#[test]
fn channels_that_fill_no_register_are_right() {
    for (c_in, c_out) in [
        (1, 1),
        (3, 5),
        (5, 3),
        (15, 17),
        (16, 16),
        (17, 31),
        (32, 33),
        (47, 48),
        (64, 65),
    ] {
        check(&shape(2, 5, 6, c_in, c_out, 3));
        check(&shape(3, 4, 3, c_in, c_out, 1));
    }
}

#[test]
fn every_small_image_kernel_stride_padding_and_dilation_is_right() {
    let mut checked = 0;
    for (h, w) in [(1, 1), (1, 4), (3, 2), (5, 7)] {
        for kernel in 1..=4 {
            for stride in 1..=4 {
                for padding in 0..=3 {
                    for dilation in 1..=3 {
                        let s = ConvShape {
                            stride,
                            padding: padding.into(),
                            dilation,
                            ..shape(2, h, w, 3, 4, kernel)
                        };
                        if s.check().is_ok() {
                            check(&s);
                            checked += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn groups_are_right_down_to_depthwise() {
    for (c_in, c_out, groups) in [(6, 4, 2), (8, 8, 8), (5, 10, 5), (34, 68, 2), (99, 66, 33)] {
        for (stride, dilation) in [(1, 1), (2, 1), (2, 2), (3, 1)] {
            check(&ConvShape {
                stride,
                dilation,
                groups,
                ..shape(2, 7, 5, c_in, c_out, 3)
            });
        }
        check(&ConvShape {
            groups,
            ..shape(2, 3, 4, c_in, c_out, 1)
        });
    }
}

#[test]
fn images_cut_into_several_blocks_are_right() {
    check(&shape(1, 61, 19, 16, 16, 3)); // rows of one image
    check(&ConvShape {
        stride: 2,
        ..shape(2, 41, 37, 20, 8, 3)
    });
    check(&shape(37, 4, 5, 8, 16, 3)); // several images, the last block with fewer
    check(&shape(1, 3, 230, 300, 4, 3)); // rows larger than the window's budget
    check(&ConvShape {
        stride: 3,
        padding: 0.into(),
        ..shape(40, 8, 8, 6, 40, 1)
    }); // read in place
}

#[test]
fn places_a_multiple_of_2_kib_apart_are_right() {
    check(&shape(2, 3, 4, 512, 20, 1));
    check(&shape(1, 3, 2, 20, 512, 3));
    check(&ConvShape {
        stride: 2,
        ..shape(2, 4, 5, 256, 16, 3)
    });
    check(&ConvShape {
        stride: 32,
        groups: 2,
        ..shape(2, 40, 33, 32, 8, 1)
    });
}

#[test]
fn layers_of_a_resnet_are_right() {
    check(&ConvShape {
        stride: 2,
        ..shape(2, 32, 30, 3, 16, 7)
    });
    check(&ConvShape {
        stride: 2,
        padding: 0.into(),
        ..shape(3, 8, 8, 64, 128, 1)
    });
    check(&ConvShape {
        stride: 2,
        ..shape(2, 9, 8, 64, 128, 3)
    });
    check(&shape(2, 2, 2, 256, 160, 3));
}

#[test]
fn winograd_is_right_at_every_border() {
    for (side, padding) in [(3, 1), (4, 1), (5, 1), (8, 1), (9, 0), (7, 2), (13, 1)] {
        let s = ConvShape {
            padding: padding.into(),
            ..shape(2, side, side + 2, 16, 33, 3)
        };
        assert!(winograd::suits(&s));
        check(&s);
    }
    for s in [
        shape(1, 6, 3, 40, 32, 3),
        shape(3, 12, 8, 35, 70, 3),
        shape(40, 4, 4, 32, 33, 3), // many blocks of tiles
        shape(2, 10, 7, 48, 48, 3),
    ] {
        assert!(winograd::suits_grad_weight(&s));
        check(&s);
    }
    check(&shape(3, 12, 8, 19, 70, 3));
    check(&shape(1, 21, 90, 24, 24, 3));
    check(&shape(1, 9, 9, 32, 100, 3)); // fewer tiles than channels
    check(&shape(2, 8, 8, 512, 48, 3)); // channels a multiple of 2 KiB
}

#[test]
fn winograd_rounds_about_as_a_direct_sum() {
    for channels in [16, 64, 256] {
        let s = shape(1, 16, 16, channels, 16, 3);
        let case = Case::new(&s);
        let [expected, _, _] = case.expected(&s);
        let of = |method| {
            let mut y = vec![f32::NAN; case.dy.len()];
            Packed::forward_by(method, &s, &case.w).run(&case.x, &mut y);
            let square = |(y, e): (&f32, &f64)| (f64::from(*y) - e).powi(2);
            (y.iter().zip(&expected).map(square).sum::<f64>() / y.len() as f64).sqrt()
        };
        let [direct, kept, few] = [Method::Direct, Method::Winograd, Method::WinogradFew].map(of);
        eprintln!("{channels} channels: {direct:.2e} direct, {kept:.2e} by Winograd");
        assert_eq!(kept, few);
        assert!(kept < 3. * direct, "{channels}: {kept} against {direct}");
    }
}

#[test]
fn a_map_that_would_not_fill_a_tile_is_summed_directly() {
    for (h, w) in [(1, 1), (2, 2), (2, 3), (1, 9)] {
        let s = shape(2, h, w, 16, 16, 3);
        assert!(!winograd::suits(&s), "{s:?}");
        check(&s);
    }
}

#[test]
fn maps_of_few_places_are_right() {
    let strided = |h, stride, padding: usize| ConvShape {
        stride,
        padding: padding.into(),
        ..shape(19, h, h, 20, 40, 3)
    };
    for s in [
        shape(8, 2, 2, 33, 17, 3),
        shape(130, 1, 1, 16, 16, 3),
        shape(9, 1, 7, 5, 3, 3),
        strided(4, 2, 1),
        strided(3, 2, 1),
        strided(5, 3, 2),
        strided(7, 2, 1),
        ConvShape {
            dilation: 2,
            padding: 2.into(),
            ..shape(15, 3, 4, 24, 48, 3)
        },
        ConvShape {
            padding: 3.into(),
            ..shape(11, 2, 1, 4, 70, 7)
        },
    ] {
        assert!(small::suits(&s), "{s:?}");
        check(&s);
    }
}

#[test]
fn parts_of_a_batch_add_up_to_the_whole() {
    for s in [shape(5, 9, 8, 32, 33, 3), shape(5, 6, 7, 20, 33, 1)] {
        let case = Case::new(&s);
        let expected = case.expected(&s);
        let mut y = vec![f32::NAN; case.dy.len()];
        let mut gradient = WeightGradient::new(&s);
        let packed = Packed::forward(&s, &case.w);
        let (of_x, of_y) = (case.x.len() / s.n, case.dy.len() / s.n);
        for images in [0..2, 2..3, 3..5] {
            let x = &case.x[images.start * of_x..images.end * of_x];
            let place = images.start * of_y..images.end * of_y;
            packed.run(x, &mut y[place.clone()]);
            gradient.add(x, &case.dy[place]);
        }
        let mut dw = vec![f32::NAN; case.w.len()];
        gradient.finish(&mut dw);
        assert!(error(&y, &expected[0]) < 1e-5);
        assert!(error(&dw, &expected[2]) < 1e-5);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let shapes = [
        shape(9, 12, 11, 16, 40, 3),
        shape(3, 5, 6, 64, 130, 3),
        shape(7, 12, 11, 32, 40, 3),
        shape(17, 7, 3, 70, 50, 1),
        ConvShape {
            stride: 2,
            ..shape(33, 9, 9, 5, 17, 3)
        },
        ConvShape {
            groups: 2,
            ..shape(2, 30, 31, 6, 130, 3)
        },
    ];
    for s in shapes {
        let case = Case::new(&s);
        for level in Level::available() {
            let [one, two, three] = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let found = pool.install(|| case.run(level, &s));
                found.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            });
            assert!(one == two && one == three, "{level:?} {s:?}");
        }
    }
}

#[test]
fn the_gradients_are_the_adjoints_of_the_forward_pass() {
    let s = ConvShape {
        stride: 2,
        dilation: 2,
        groups: 3,
        ..shape(3, 11, 9, 9, 12, 3)
    };
    let case = Case::new(&s);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    for level in Level::available() {
        let [y, dx, dw] = case.run(level, &s);
        let by_output = dot(&case.dy, &y);
        assert!(
            (dot(&dx, &case.x) - by_output).abs() < 1e-4 * by_output.abs(),
            "{level:?}"
        );
        assert!(
            (dot(&dw, &case.w) - by_output).abs() < 1e-4 * by_output.abs(),
            "{level:?}"
        );
    }
}

#[test]
fn the_sizes_of_the_output_are_pytorchs() {
    let s = ConvShape {
        stride: 2,
        ..shape(1, 224, 96, 3, 64, 7)
    };
    assert_eq!((s.out_h(), s.out_w()), (112, 48));
    let s = ConvShape {
        stride: 3,
        dilation: 2,
        padding: 1.into(),
        ..shape(1, 10, 7, 1, 1, 3)
    };
    assert_eq!((s.out_h(), s.out_w()), (3, 2));
}

#[test]
fn impossible_shapes_are_errors_that_say_why() {
    let complaint = |s: ConvShape| s.check().unwrap_err().to_string();
    let s = shape(2, 8, 8, 4, 6, 3);
    assert!(complaint(ConvShape { stride: 0, ..s }).contains("stride is 0"));
    assert!(complaint(ConvShape { groups: 4, ..s }).contains("groups do not divide"));
    assert!(
        complaint(ConvShape { dilation: 5, ..s })
            .contains("extent 11 does not fit the padded input, 10x10")
    );
    assert!(
        complaint(ConvShape {
            c_in: usize::MAX / 2,
            ..s
        })
        .contains("too large")
    );
    assert!(
        complaint(ConvShape {
            padding: (usize::MAX / 2).into(),
            ..s
        })
        .contains("too large")
    );
}

#[test]
#[should_panic(expected = "lengths of input and output")]
fn slices_of_other_lengths_are_refused() {
    let s = shape(1, 2, 2, 1, 1, 1);
    forward(&s, &[0.; 4], &[0.; 1], &mut [0.; 3]);
}
