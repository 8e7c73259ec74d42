"""Golden tensors of fgvr-nn's layers.

    python tests/golden/nn_layers.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32 results of f64 computations, so
that the file holds the exact values rounded once) and safetensors 0.8.0.
Each case holds the inputs, the gradient `dy` of the output, the output `y`, and the gradients.
"""

import sys

import torch
import torch.nn.functional as F
from shared.layers import Cases

CASES = Cases(seed=20)
normal, integers, record = CASES.normal, CASES.integers, CASES.record

# kernel, stride, padding, dilation, groups, c_in, c_out, h, w
for k, s, p, d, g, i, o, h, w in [
    (3, 1, 1, 1, 1, 5, 7, 6, 9),
    (3, 2, 1, 1, 1, 4, 6, 7, 8),
    (1, 2, 0, 1, 1, 6, 8, 7, 5),
    (7, 2, 3, 1, 1, 3, 4, 11, 9),
    (3, 1, 2, 2, 2, 4, 6, 7, 6),
    (3, 1, 1, 1, 4, 4, 4, 5, 4),
]:
    case = f"conv.{k}_{s}_{p}_{d}_{g}_{i}_{o}"
    record(
        case,
        lambda x, weight, bias: F.conv2d(x, weight, bias, s, p, d, g),
        x=normal(2, i, h, w),
        weight=normal(o, i // g, k, k) * 0.3,
        bias=normal(o),
    )


def batch_norm(x, weight, bias, groups=1):
    """(y, running mean, running var) from running statistics of (0.5, 2)."""
    c = x.shape[1]
    parts, means, variances = [], [], []
    for part in x.chunk(groups):
        mean, var = torch.full((c,), 0.5).double(), torch.full((c,), 2.0).double()
        parts.append(F.batch_norm(part, mean, var, weight, bias, True, 0.1, 1e-5))
        means.append(mean), variances.append(var)
    return torch.cat(parts), torch.stack(means).mean(0), torch.stack(variances).mean(0)


def norm_case(case, x, weight, bias, residual=None, relu=False, groups=1):
    def f(x, weight, bias, residual=None):
        y, mean, var = batch_norm(x, weight, bias, groups)
        CASES.out[f"{case}.running_mean"] = mean.detach().float()
        CASES.out[f"{case}.running_var"] = var.detach().float()
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    inputs = dict(x=x, weight=weight, bias=bias)
    if residual is not None:
        inputs["residual"] = residual
    record(case, f, **inputs)


c = 5
norm_case("norm.plain", normal(3, c, 4, 5), normal(c), normal(c))
# Channel 0 is exactly 0 after the norm: the ReLU's gradient there is 0.
weight, bias = normal(c), normal(c)
weight[0] = bias[0] = 0
norm_case("norm.relu", normal(3, c, 5, 3), weight, bias, relu=True)
norm_case("norm.residual", normal(2, c, 4, 3), normal(c), normal(c), normal(2, c, 4, 3))
# The residual cancels nothing but channel 0, where it is integers with zeros.
residual = normal(2, c, 3, 4)
residual[:, 0] = integers(2, 3, 4)
norm_case("norm.residual_relu", normal(2, c, 3, 4), weight, bias, residual, relu=True)
norm_case("norm.split", normal(6, c, 2, 3), normal(c), normal(c), relu=True, groups=3)
norm_case("norm.one_place", normal(7, c, 1, 1), normal(c), normal(c))
norm_case("norm.wide", normal(2, 70, 2, 2), normal(70), normal(70), relu=True)
# A mean of 1000 standard deviations, as f32 holds it.
norm_case("norm.far_mean", normal(2, c, 6, 6) + 1000, normal(c), normal(c))
# A constant channel: its variance is 0.
x = normal(2, c, 3, 3)
x[:, 1] = 3.0
norm_case("norm.constant", x, normal(c), normal(c))


def eval_norm(x, weight, bias, residual):
    mean, var = torch.full((c,), 0.5).double(), torch.full((c,), 2.0).double()
    return F.relu(F.batch_norm(x, mean, var, weight, bias, False, 0.1, 1e-5) + residual)


record(
    "norm.eval",
    eval_norm,
    x=normal(1, c, 1, 1),
    weight=normal(c),
    bias=normal(c),
    residual=normal(1, c, 1, 1),
)

record("linear", lambda x, weight, bias: F.linear(x, weight, bias), x=normal(5, 7), weight=normal(6, 7), bias=normal(6))

for k, s, p, h, w in [(3, 2, 1, 7, 9), (3, 2, 1, 8, 6), (2, 2, 0, 5, 7), (3, 1, 1, 4, 5), (2, 3, 1, 7, 8), (5, 2, 2, 6, 5), (1, 2, 0, 3, 4)]:
    for kind, x in [("normal", normal(2, 3, h, w)), ("ties", integers(2, 3, h, w))]:
        case = f"pool.{k}_{s}_{p}_{h}_{w}.{kind}"
        record(f"max_{case}", lambda x: F.max_pool2d(x, k, s, p), x=x)
        if kind == "normal":
            record(f"avg_{case}", lambda x: F.avg_pool2d(x, k, s, p), x=x)

record("global_mean", lambda x: x.mean((2, 3)), x=normal(3, 4, 5, 7))

for factor in [1, 2, 3]:
    record(f"nearest.{factor}", lambda x: F.interpolate(x, scale_factor=factor, mode="nearest"), x=normal(2, 3, 3, 4))

for h, w, to_h, to_w in [(5, 7, 8, 3), (4, 4, 9, 9), (1, 1, 3, 2), (6, 5, 6, 5), (8, 8, 3, 5), (3, 4, 7, 12)]:
    record(
        f"bilinear.{h}_{w}_{to_h}_{to_w}",
        lambda x: F.interpolate(x, size=(to_h, to_w), mode="bilinear", align_corners=False),
        x=normal(2, 3, h, w),
    )

record("relu", lambda x: F.relu(x), x=integers(2, 3, 4, 5))
record("unflatten", lambda x: x.view(2, 3, 2, 4) * 1.0, x=normal(2, 24))

CASES.save(sys.argv[1])
