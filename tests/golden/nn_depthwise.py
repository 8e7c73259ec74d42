"""Golden tensors of what EfficientNet-Lite is made of: TensorFlow's padding, depthwise convolutions, ReLU6,
and one inverted residual block of all of them.

    python tests/golden/nn_depthwise.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32 results of f64 computations, so that the
file holds the exact values rounded once) and safetensors 0.8.0.
Each case holds the inputs, the gradient `dy` of the output, the output `y`, and the gradients.
"""

import math
import sys

import torch
import torch.nn.functional as F
from shared.layers import Cases

CASES = Cases(seed=21)
normal, record = CASES.normal, CASES.record


def same(x, weight, stride, groups):
    """TensorFlow's padding: more at the end where it does not divide evenly."""
    sides = []
    for size in reversed(x.shape[2:]):
        total = max((math.ceil(size / stride) - 1) * stride + weight.shape[2] - size, 0)
        sides += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, sides), weight, None, stride, 0, 1, groups)


# kernel, stride, groups, c_in, c_out, h, w
for k, s, g, i, o, h, w in [
    (3, 2, 1, 3, 8, 8, 10),
    (3, 2, 1, 3, 4, 7, 6),
    (3, 1, 24, 24, 24, 5, 6),
    (3, 2, 16, 16, 16, 8, 7),
    (5, 1, 20, 20, 20, 4, 9),
    (5, 2, 11, 11, 11, 10, 9),
    (5, 2, 8, 8, 8, 2, 3),
]:
    record(
        f"same.{k}_{s}_{g}_{i}_{o}_{h}_{w}",
        lambda x, weight: same(x, weight, s, g),
        x=normal(2, i, h, w),
        weight=normal(o, i // g, k, k) * 0.3,
    )

x = normal(2, 5, 4, 6) * 5
x.view(-1)[:6] = torch.tensor([0.0, 6.0, -0.0, 6.5, -1.0, 3.0])
record("relu6", lambda x: F.relu6(x), x=x)

# Expansion, depthwise convolution and projection, each with a norm, two with ReLU6; the input is added.
C, WIDE, K = 6, 18, 5


def block(train, x, **p):
    def norm(y, name):
        mean, var = torch.full((y.shape[1],), 0.2).double(), torch.full((y.shape[1],), 0.7).double()
        return F.batch_norm(y, mean, var, p[f"{name}_weight"], p[f"{name}_bias"], train, 0.1, 1e-3)

    y = F.relu6(norm(F.conv2d(x, p["expand"]), "bn1"))
    y = F.relu6(norm(same(y, p["depthwise"], 1, WIDE), "bn2"))
    return norm(F.conv2d(y, p["project"]), "bn3") + x


for mode in ["train", "eval"]:
    inputs = dict(
        x=normal(3, C, 6, 5),
        expand=normal(WIDE, C, 1, 1) * 0.6,
        depthwise=normal(WIDE, 1, K, K) * 0.4,
        project=normal(C, WIDE, 1, 1) * 0.3,
    )
    for name, width in [("bn1", WIDE), ("bn2", WIDE), ("bn3", C)]:
        # Wide and shifted, so that some values are cut off at 0 and some at 6.
        inputs[f"{name}_weight"] = 2.5 + normal(width) * 0.3
        inputs[f"{name}_bias"] = 2.0 + normal(width)
    record(f"block.{mode}", lambda **all: block(mode == "train", **all), **inputs)

CASES.save(sys.argv[1])
