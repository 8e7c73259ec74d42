//! Depthwise convolutions, padding by side, and what is added as values are written.

use super::*;

fn depthwise(channels: usize, [n, h, w]: [usize; 3], kernel: usize, stride: usize) -> ConvShape {
    ConvShape {
        n,
        h,
        w,
        c_in: channels,
        c_out: channels,
        kernel,
        stride,
        padding: Padding::same([h, w], kernel, stride),
        dilation: 1,
        groups: channels,
    }
}

#[test]
fn depthwise_convolutions_of_any_size_are_right() {
    let mut checked = 0;
    for (channels, [h, w]) in [
        (2, [1, 1]),
        (5, [2, 9]),
        (16, [7, 4]),
        (24, [5, 5]),
        (43, [8, 15]),
        (75, [6, 3]),
    ] {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (1, 2), (2, 3), (7, 1)] {
            let same = depthwise(channels, [2, h, w], kernel, stride);
            let beside = Padding {
                top: 0,
                left: 2,
                bottom: 3,
                right: 1,
            };
            let paddings = [same.padding, 0.into(), (kernel / 2).into(), beside];
            for (padding, dilation) in paddings.into_iter().flat_map(|p| [(p, 1), (p, 2)]) {
                let s = ConvShape {
                    padding,
                    dilation,
                    ..same
                };
                if s.check().is_ok() {
                    assert!(s.is_depthwise());
                    check(&s);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 200, "{checked}");
    // Several blocks of lines for each partial sum.
    check(&depthwise(9, [5, 61, 50], 3, 1));
}

#[test]
fn padding_may_differ_on_each_side() {
    for (kernel, stride, h, w) in [(3, 2, 8, 9), (5, 2, 6, 6), (3, 1, 4, 5), (2, 1, 5, 3)] {
        for c_in in [3, 16] {
            check(&ConvShape {
                stride,
                padding: Padding::same([h, w], kernel, stride),
                ..shape(2, h, w, c_in, 10, kernel)
            });
        }
    }
}

#[test]
fn a_depthwise_convolution_has_the_same_bits_on_any_number_of_threads() {
    let s = depthwise(40, [3, 17, 19], 5, 2);
    let case = Case::new(&s);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| {
            case.run(Level::detected(), &s)
                .map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

#[test]
fn an_epilogue_adds_bias_and_residual_and_cuts_off() {
    use crate::kernels::activation::ActivationFunction;

    let strided = ConvShape {
        stride: 2,
        padding: Padding::same([8, 9], 3, 2),
        ..shape(2, 8, 9, 3, 21, 3)
    };
    let winograd = shape(2, 12, 12, 64, 64, 3);
    assert!(winograd::suits(&winograd));
    for s in [
        depthwise(43, [2, 7, 5], 3, 1),
        strided,
        shape(3, 5, 5, 24, 40, 1),
        winograd,
    ] {
        let case = Case::new(&s);
        let [y, ..] = case.expected(&s);
        let bias = values(s.c_out, 5);
        // Large enough that some values are above 6.
        let residual: Vec<f32> = values(y.len(), 6).iter().map(|v| 9. * v).collect();
        for level in Level::available() {
            let packed = Packed::forward_at(level, &s, &case.w);
            for activation in [
                ActivationFunction::Identity,
                ActivationFunction::Relu,
                ActivationFunction::Relu6,
            ] {
                for residual in [None, Some(&residual[..])] {
                    let epilogue = Epilogue {
                        bias: &bias,
                        residual,
                        activation,
                    };
                    let mut found = vec![f32::NAN; y.len()];
                    packed.run_then(&case.x, &mut found, &epilogue);
                    let expected: Vec<f64> = (y.iter().enumerate())
                        .map(|(i, y)| {
                            let added = residual.map_or(0., |residual| residual[i]);
                            let v = y + f64::from(bias[i % s.c_out]) + f64::from(added);
                            match activation {
                                ActivationFunction::Identity => v,
                                ActivationFunction::Relu => v.max(0.),
                                ActivationFunction::Relu6 => v.clamp(0., 6.),
                            }
                        })
                        .collect();
                    let error = error(&found, &expected);
                    assert!(
                        error < 2e-5,
                        "{activation:?} at {level:?}: {error} for {s:?}"
                    );
                }
            }
        }
    }
}
