"""Golden tensors of fgvr-nn's pooling, resizing and batch norm at the shapes where they break.

    python tests/golden/nn_places.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32 results of f64 computations, so
that the file holds the exact values rounded once) and safetensors 0.8.0.
Inputs of pooling and resizing are not stored: both sides compute them from a hash of the element's
number. What is stored is the output and the gradient of the input, one after the other.
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from shared.layers import hashed

OUT = {}
SEED = torch.Generator().manual_seed(40)


def place(name, f, x):
    x.requires_grad_()
    y = f(x)
    y.backward(hashed(4, *y.shape))
    OUT[name] = torch.cat([y.detach().flatten(), x.grad.flatten()])


def pools(k, s, p, n, c, h, w):
    x = hashed(1, n, c, h, w)
    name = f"{k}_{s}_{p}_{n}_{c}_{h}_{w}"
    # -3 to 2: many ties, many exact zeros
    place(f"max_pool.{name}", lambda x: F.max_pool2d(x, k, s, p), (x * 2.5).floor())
    place(f"avg_pool.{name}", lambda x: F.avg_pool2d(x, k, s, p), x)


for k in (1, 2, 3, 4, 5):
    for s in (1, 2, 3, 5, 7):
        for p in range(k // 2 + 1):
            pools(k, s, p, 1, 2, 7, 6)
pools(3, 2, 1, 1, 1, 1, 1)
pools(2, 1, 1, 2, 17, 1, 2)
pools(3, 2, 1, 2, 33, 2, 3)
pools(16, 5, 8, 1, 1, 3, 7)
pools(3, 3, 0, 3, 1, 3, 8)

for n, c, h, w, to_h, to_w in [
    (1, 1, 1, 1, 1, 1),
    (1, 1, 1, 1, 4, 5),
    (1, 17, 5, 3, 1, 1),
    (2, 1, 1, 6, 3, 6),
    (1, 3, 6, 1, 9, 2),
    (1, 2, 7, 9, 13, 4),
    (1, 2, 13, 8, 2, 17),
    (3, 1, 2, 2, 5, 5),
]:
    place(
        f"bilinear.{n}_{c}_{h}_{w}_{to_h}_{to_w}",
        lambda x: F.interpolate(x, size=(to_h, to_w), mode="bilinear", align_corners=False),
        hashed(1, n, c, h, w),
    )

for n, c, h, w, factor in [(1, 1, 1, 1, 1), (1, 1, 1, 1, 5), (1, 17, 1, 3, 2), (2, 1, 5, 3, 3), (1, 33, 2, 1, 4)]:
    place(
        f"nearest.{n}_{c}_{h}_{w}_{factor}",
        lambda x: F.interpolate(x, scale_factor=factor, mode="nearest"),
        hashed(1, n, c, h, w),
    )

for n, c, h, w in [(1, 1, 1, 1), (1, 17, 1, 3), (2, 1, 9, 9), (1, 65, 1, 1)]:
    place(f"global_mean.{n}_{c}_{h}_{w}", lambda x: x.mean((2, 3)), hashed(1, n, c, h, w))

# Exact zeros of both signs among the values.
x = hashed(1, 1, 3, 5, 4)
place("relu.1_3_5_4", lambda x: F.relu(x), (x * 2.5).floor() * torch.where(x < 0.2, 1.0, -1.0))


def normal(*shape):
    return torch.randn(*shape, generator=SEED)


def norm_case(case, n, c, h, w, residual=False, relu=False, training=True):
    """Batch norm from running statistics of (0.5, 2), and what follows it."""
    inputs = dict(x=normal(n, c, h, w) * 2 + 3, weight=normal(c), bias=normal(c))
    if residual:
        inputs["residual"] = normal(n, c, h, w)
    wide = {k: v.double().requires_grad_() for k, v in inputs.items()}
    mean, var = torch.full((c,), 0.5).double(), torch.full((c,), 2.0).double()
    y = F.batch_norm(wide["x"], mean, var, wide["weight"], wide["bias"], training, 0.1, 1e-5)
    y = y + wide["residual"] if residual else y
    y = F.relu(y) if relu else y
    dy = normal(*y.shape)
    y.backward(dy.double())
    for name, value in inputs.items():
        OUT[f"{case}.{name}"] = value
        OUT[f"{case}.d_{name}"] = wide[name].grad
    OUT[f"{case}.y"], OUT[f"{case}.dy"] = y.detach(), dy
    OUT[f"{case}.running_mean"], OUT[f"{case}.running_var"] = mean, var


norm_case("norm.batch_of_one", 1, 5, 3, 4)
norm_case("norm.batch_of_one_relu", 1, 17, 2, 7, relu=True)
norm_case("norm.one_channel", 3, 1, 2, 3)
norm_case("norm.one_channel_of_one_image", 1, 1, 1, 9, residual=True, relu=True)
norm_case("norm.many_channels", 4, 65, 1, 1, residual=True)
norm_case("norm.column", 2, 33, 5, 1, relu=True)
norm_case("norm.one_value", 1, 3, 1, 1, residual=True, relu=True, training=False)

save_file({k: v.float().contiguous() for k, v in OUT.items()}, sys.argv[1])
