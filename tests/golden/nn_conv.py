"""Golden projections of fgvr-nn's convolution at many shapes.

    python tests/golden/nn_conv.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f64, stored as f32) and safetensors
0.8.0. Results would be large, so that they are stored as sums with pseudo-random weights, over one
half of their dimensions and over the other: each place, channel and tap has its part in both.
Inputs are not stored: both sides compute them from a hash of the element's number.
"""

import sys

import torch.nn.functional as F
from safetensors.torch import save_file
from shared.layers import hashed

OUT = {}


def contract(values, dims):
    """The sum over `dims` with weights that depend on the index in `dims` alone."""
    shape = [size if d in dims else 1 for d, size in enumerate(values.shape)]
    weights = hashed(99, *[size for d, size in enumerate(values.shape) if d in dims]).view(shape)
    return (values * weights).sum(dims)


def case(k, s, p, d, g, i, o, n, h, w):
    name = f"{k}_{s}_{p}_{d}_{g}_{i}_{o}_{n}_{h}_{w}"
    x = hashed(1, n, i, h, w).requires_grad_()
    weight = hashed(2, o, i // g, k, k).requires_grad_()
    bias = hashed(3, o).requires_grad_()
    y = F.conv2d(x, weight, bias, s, p, d, g)
    y.backward(hashed(4, *y.shape))
    for what, values in [("y", y.detach()), ("d_x", x.grad)]:
        # (N, C, H, W) -> (N, H, W), and -> (C)
        OUT[f"{name}.{what}.0"] = contract(values, (1,))
        OUT[f"{name}.{what}.1"] = contract(values, (0, 2, 3))
    # (O, I, k, k) -> (O, k, k), and -> (I, k, k)
    OUT[f"{name}.d_weight.0"] = contract(weight.grad, (1,))
    OUT[f"{name}.d_weight.1"] = contract(weight.grad, (0,))
    OUT[f"{name}.d_bias.0"] = bias.grad


# kernel, stride, padding, dilation, groups, c_in, c_out, n, h, w
CASES = [
    # one pixel, batch 1, one channel
    (1, 1, 0, 1, 1, 1, 1, 1, 1, 1),
    (3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    (3, 1, 1, 1, 1, 7, 5, 1, 1, 1),
    (5, 1, 2, 1, 1, 3, 17, 1, 1, 1),
    (7, 2, 3, 1, 1, 3, 16, 1, 1, 2),
    # not square, odd, channels that fill no tile or one too many
    (1, 1, 0, 1, 1, 33, 17, 2, 3, 7),
    (1, 2, 0, 1, 1, 15, 65, 1, 5, 8),
    (2, 1, 0, 1, 1, 5, 31, 1, 6, 3),
    (2, 2, 1, 1, 1, 6, 9, 2, 5, 4),
    (3, 1, 0, 1, 1, 17, 33, 1, 9, 4),
    (3, 2, 1, 1, 1, 31, 18, 2, 7, 12),
    (4, 3, 1, 1, 1, 5, 7, 1, 9, 13),
    (5, 2, 2, 1, 1, 9, 23, 1, 8, 11),
    (7, 2, 3, 1, 1, 3, 19, 2, 15, 10),
    # padding of more than half the kernel, stride of more than the kernel
    (1, 1, 2, 1, 1, 4, 6, 1, 3, 2),
    (3, 1, 2, 1, 1, 6, 10, 1, 4, 5),
    (3, 2, 4, 1, 1, 5, 16, 2, 3, 6),
    (2, 5, 3, 1, 1, 3, 4, 1, 7, 6),
    (1, 3, 0, 1, 1, 8, 20, 1, 8, 5),
    (2, 4, 0, 1, 1, 6, 6, 2, 9, 11),
    (3, 5, 1, 1, 1, 7, 12, 1, 13, 9),
    # dilation
    (3, 1, 2, 2, 1, 9, 11, 1, 6, 8),
    (3, 2, 3, 3, 1, 5, 17, 1, 11, 9),
    (2, 1, 0, 4, 1, 4, 5, 2, 5, 7),
    # groups
    (3, 1, 1, 1, 2, 6, 10, 1, 5, 7),
    (3, 2, 1, 1, 3, 9, 51, 2, 6, 5),
    (1, 1, 0, 1, 4, 20, 12, 1, 4, 3),
    (5, 1, 4, 2, 2, 4, 34, 1, 6, 7),
    # depthwise, also with several outputs each
    (3, 1, 1, 1, 5, 5, 5, 2, 4, 7),
    (3, 2, 1, 1, 17, 17, 17, 1, 7, 5),
    (3, 1, 1, 1, 32, 32, 32, 1, 5, 6),
    (5, 1, 2, 1, 6, 6, 18, 1, 5, 3),
    (3, 1, 2, 2, 8, 8, 8, 1, 6, 9),
]
# 3 x 3 at stride 1 with many channels, where a fast algorithm that works on tiles may take over
CASES += [(3, 1, 1, 1, 1, c, c, 1, side, side) for c in (16, 24, 64) for side in (1, 2, 3, 4, 5, 7, 8, 13)]
CASES += [
    (3, 1, 1, 1, 1, 16, 64, 3, 6, 9),
    (3, 1, 1, 1, 1, 64, 24, 2, 4, 14),
    (3, 1, 1, 1, 1, 48, 33, 2, 10, 3),
    (3, 1, 0, 1, 1, 64, 32, 1, 7, 8),
    (3, 1, 2, 1, 1, 32, 64, 1, 5, 6),
    (3, 1, 1, 1, 2, 64, 64, 1, 6, 7),
]
for c in CASES:
    case(*c)

save_file({k: v.float().contiguous() for k, v in OUT.items()}, sys.argv[1])
