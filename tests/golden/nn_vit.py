"""Golden tensors of a vision transformer's parts: patches, layer scale, tokens before the patches, and
the position embedding on other grids.

    python tests/golden/nn_vit.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32 results of f64 computations, so
that the file holds the exact values rounded once) and safetensors 0.8.0.
Each case holds the inputs, the gradient `dy` of the output, the output `y`, and the gradients.
"""

import sys

import torch
import torch.nn.functional as F
from shared.layers import Cases

CASES = Cases(seed=31)
normal, record = CASES.normal, CASES.record


def positions(x, pos_embed, prefix, side, to):
    """x (N, C, 1, prefix + places of `to`) + the embedding of a square grid, resized."""
    c = x.shape[1]
    first, grid = pos_embed[:, :prefix], pos_embed[:, prefix:]
    grid = grid.reshape(1, side, side, c).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=to, mode="bicubic", antialias=True)
    table = torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)
    return x + table.transpose(1, 2).unsqueeze(2)


def prepend(x, cls_token, reg_token):
    n, c = x.shape[:2]
    tokens = torch.cat([cls_token, reg_token], 1).transpose(1, 2).expand(n, -1, -1)
    return torch.cat([tokens, x.flatten(2)], 2).unsqueeze(2)


record(
    "patch_embed",
    lambda x, weight, bias: F.conv2d(x, weight, bias, stride=4),
    x=normal(2, 3, 8, 12),
    weight=normal(7, 3, 4, 4) / 7,
    bias=normal(7),
)
record("layer_scale", lambda x, gamma: x * gamma.view(1, -1, 1, 1), x=normal(2, 19, 3, 2), gamma=normal(19))
record("prepend_tokens", prepend, x=normal(2, 5, 2, 3), cls_token=normal(1, 1, 5), reg_token=normal(1, 3, 5))
for name, prefix, side, to in [("smaller", 1, 7, (3, 5)), ("larger", 0, 3, (8, 4))]:
    record(
        f"positions.{name}",
        lambda x, pos_embed: positions(x, pos_embed, prefix, side, to),
        x=normal(2, 6, 1, prefix + to[0] * to[1]),
        pos_embed=normal(1, prefix + side * side, 6),
    )

CASES.save(sys.argv[1])
