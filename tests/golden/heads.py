"""Golden features of one small vision transformer under other settings that leave no trace in its tensors, for
crates/fgvr-encoder/tests/vit.rs.

    python tests/golden/heads.py tests/golden/heads.safetensors

Made with NumPy alone, in f64, stored as f32. The network is the case `plain` of vit.py with the same parameters and
images, and with its three heads of attention and an epsilon of 1e-6 it must give what timm gave there, which is checked
before anything is written.

`heads.N.pooled` and `heads.N.map` are its features with N heads; `eps.pooled` and `eps.map` those with three and an
epsilon of 1e-2; `sincos` is MoCo v3's position embedding of a grid of 4 rows and 4 columns for 24 channels, class token
first.
"""

import math
import sys

import numpy as np
from safetensors.numpy import load_file
from shared.networks import save, uniform

WIDTH, DEPTH, PATCH, SIDE, INSIDE = 24, 2, 8, 32, 96
erf = np.vectorize(math.erf)


def values(name, *shape):
    """As in vit.py: rounded to f32 as the parameters are, and then in f64."""
    u = uniform(name, math.prod(shape)).reshape(shape)
    if len(shape) == 1:
        u = 1 + 0.25 * u if name.endswith("weight") else 0.25 * u
    elif name.endswith("weight"):
        u = u * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("pos_embed") or name.endswith("_token"):
        u = 0.5 * u
    return u.astype(np.float32).astype(np.float64)


def linear(x, name, outputs):
    return x @ values(f"{name}.weight", outputs, x.shape[-1]).T + values(f"{name}.bias", outputs)


def norm(x, name, eps):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * values(f"{name}.weight", WIDTH) + values(f"{name}.bias", WIDTH)


def attention(x, name, heads):
    n, t, c = x.shape
    # (N, T, 3C) -> three of (N, heads, T, C/heads)
    q, k, v = linear(x, f"{name}.qkv", 3 * c).reshape(n, t, 3, heads, c // heads).transpose(2, 0, 3, 1, 4)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(c // heads)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return linear((shares @ v).transpose(0, 2, 1, 3).reshape(n, t, c), f"{name}.proj", c)


def features(heads, eps):
    images = values("images", 2, 3, SIDE, SIDE)
    grid = SIDE // PATCH
    # (N, 3, H, W) -> (N, patches, 3 * patch * patch)
    patches = images.reshape(2, 3, grid, PATCH, grid, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(2, grid * grid, -1)
    kernel = values("patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH).reshape(WIDTH, -1)
    x = patches @ kernel.T + values("patch_embed.proj.bias", WIDTH)
    x = np.concatenate([np.repeat(values("cls_token", 1, 1, WIDTH), 2, 0), x], 1)
    x = x + values("pos_embed", 1, 1 + grid * grid, WIDTH)
    for block in (f"blocks.{i}" for i in range(DEPTH)):
        x = x + attention(norm(x, f"{block}.norm1", eps), f"{block}.attn", heads)
        inside = linear(norm(x, f"{block}.norm2", eps), f"{block}.mlp.fc1", INSIDE)
        inside = inside * 0.5 * (1 + erf(inside / math.sqrt(2)))
        x = x + linear(inside, f"{block}.mlp.fc2", WIDTH)
    x = norm(x, "norm", eps)
    return x[:, 1:].transpose(0, 2, 1).reshape(2, WIDTH, grid, grid), x[:, 0]


def sincos(rows, columns, channels):
    """(1, 1 + rows * columns, C): a quarter each of sin and cos of the row, then of the column."""
    rates = 1 / 10000 ** (np.arange(channels // 4) / (channels // 4))
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * rates for place in (row, column)]
    table = np.concatenate([part for angle in angles for part in (np.sin(angle), np.cos(angle))], 1)
    return np.concatenate([np.zeros((1, channels)), table])[None]


def main(path):
    timm = load_file(path.replace("heads.safetensors", "vit.safetensors"))
    for name, ours in zip(("map", "pooled"), features(3, 1e-6)):
        theirs = timm[f"plain.eval.{name}"]
        off = np.abs(ours - theirs).max() / np.abs(theirs).max()
        print(name, "differs from timm's by", off)
        assert off < 1e-6
    stored = {"sincos": sincos(4, 4, 24)}
    for heads in (2, 3, 6, 12):
        stored[f"heads.{heads}.map"], stored[f"heads.{heads}.pooled"] = features(heads, 1e-6)
    stored["eps.map"], stored["eps.pooled"] = features(3, 1e-2)
    save(stored, path)


if __name__ == "__main__":
    main(sys.argv[1])
