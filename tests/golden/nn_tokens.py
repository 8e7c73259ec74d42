"""Golden tensors of what fgvr-nn does with tokens: layer norm, GELU, softmax, L2, attention.

    python tests/golden/nn_tokens.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32 results of f64 computations, so
that the file holds the exact values rounded once) and safetensors 0.8.0.
Each case holds the inputs, the gradient `dy` of the output, the output `y`, and the gradients.
Maps are (N, C, H, W); what PyTorch does over the last dimension is done over C.
"""

import sys

import torch
import torch.nn.functional as F
from shared.layers import Cases

CASES = Cases(seed=30, zero=1e-12)
normal, integers, record = CASES.normal, CASES.integers, CASES.record


def over_channels(f):
    """f over the last dimension, for a map."""
    return lambda x, **more: f(x.movedim(1, -1), **more).movedim(-1, 1)


def layer_norm(case, x, eps=1e-6):
    c = x.shape[1]
    f = over_channels(lambda x, weight, bias: F.layer_norm(x, (c,), weight, bias, eps))
    record(f"layer_norm.{case}", f, x=x, weight=normal(c), bias=normal(c))


layer_norm("plain", normal(2, 5, 3, 4))
layer_norm("one_channel", normal(2, 1, 2, 3))
layer_norm("one_token", normal(1, 17, 1, 1))
# With two channels and no eps the output is +-1, and its gradient the rounding of zero.
layer_norm("two_channels", normal(1, 2, 3, 3), eps=0.1)
layer_norm("whole_lanes", normal(3, 64, 2, 2))
layer_norm("odd", normal(66, 19, 1, 1))
layer_norm("wide", normal(1, 1100, 1, 1))
layer_norm("other_eps", normal(2, 6, 2, 2) * 0.01, eps=1e-3)
# Means of 1000 standard deviations, as f32 holds them, and equal values, whose variance is 0.
layer_norm("far_mean", normal(2, 40, 2, 1) + 1000)
layer_norm("equal", torch.full((1, 7, 2, 1), 3.0))
layer_norm("ties", integers(2, 7, 2, 3))

x = normal(2, 3, 4, 5) * 2
x[0, 0] = torch.linspace(-14, 14, 20).view(4, 5)
x[0, 1] = integers(4, 5)
record("gelu", F.gelu, x=x)
record("gelu.one", F.gelu, x=normal(1, 1, 1, 1))

softmax = over_channels(lambda x: F.softmax(x, -1))
record("softmax.plain", softmax, x=normal(2, 5, 3, 2) * 3)
record("softmax.one_channel", softmax, x=normal(2, 1, 3, 2))
record("softmax.one_token", softmax, x=normal(1, 35, 1, 1))
record("softmax.wide", softmax, x=normal(1, 1100, 1, 1))
record("softmax.ties", softmax, x=integers(2, 18, 2, 2))
record("softmax.equal", softmax, x=torch.full((1, 6, 1, 2), -4.0))
# No value here has an exponential that is a float.
record("softmax.far", softmax, x=normal(2, 9, 1, 2) * 2 + 1000)
x = normal(2, 19, 1, 2) * 2
x[0, 3] = x[1, 17] = float("-inf")
record("softmax.masked", softmax, x=x)


def l2(case, x, eps=1e-12):
    record(f"l2.{case}", lambda x: F.normalize(x, eps=eps), x=x)


l2("plain", normal(2, 5, 3, 4))
l2("one_channel", normal(3, 1, 2, 2))
l2("one_token", normal(1, 37, 1, 1))
l2("vectors", normal(4, 18))
l2("zero", torch.zeros(1, 5, 2, 1))
l2("tiny", normal(1, 5, 2, 1) * 1e-14)
l2("ties", integers(3, 4, 3, 3) + torch.tensor([3.0, 0, 0, 0]).view(1, 4, 1, 1))
# Lengths below, at (3, 4) and above eps.
x = torch.tensor([[0.1, 0.2], [3, 4], [30, 40], [0, 0]])
l2("large_eps", x, eps=5.0)


def attention(case, n, h, w, c, heads, bias=True, x=None):
    def f(x, in_proj_weight, out_proj_weight, in_proj_bias=None, out_proj_bias=None):
        tokens = x.flatten(2).permute(2, 0, 1)
        y, _ = F.multi_head_attention_forward(
            tokens,
            tokens,
            tokens,
            c,
            heads,
            in_proj_weight,
            in_proj_bias,
            None,
            None,
            False,
            0.0,
            out_proj_weight,
            out_proj_bias,
            need_weights=False,
        )
        return y.permute(1, 2, 0).reshape(n, c, h, w)

    inputs = dict(
        x=normal(n, c, h, w) if x is None else x,
        in_proj_weight=normal(3 * c, c) / c**0.5 * 1.5,
        out_proj_weight=normal(c, c) / c**0.5,
    )
    if bias:
        inputs |= dict(in_proj_bias=normal(3 * c), out_proj_bias=normal(c))
    record(f"attention.{case}", f, **inputs)


attention("plain", 2, 2, 3, 8, 2)
attention("one_token", 2, 1, 1, 6, 3)
attention("one_channel", 1, 2, 2, 1, 1)
attention("heads_of_one", 2, 1, 5, 5, 5)
attention("odd", 1, 3, 3, 21, 3)
attention("no_bias", 3, 2, 2, 12, 4, bias=False)
# More queries than are taken at once.
attention("long", 1, 17, 16, 6, 2)
# Tokens that are all alike get equal shares.
attention("equal", 1, 2, 3, 8, 2, x=normal(1, 8, 1, 1).expand(1, 8, 2, 3).contiguous())

# f32 holds these to 1/128, and their mean no better.
layer_norm("very_far_mean", normal(2, 37, 1, 2) + 1e5)

CASES.save(sys.argv[1])
