"""Local discrimination on MoCo v3: pivotal patches, masked images, both losses and all gradients of a step.

python tests/golden/lodisc.py tests/golden/lodisc.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32). Written from the equations of the method: the product over
layers of the class token's attention, times 1000 a layer, in f64; the value at index floor(0.3 P) of the descending order as
threshold; pixels of other patches 0. Images come from a formula (`values`), which the test repeats. The network has no
attention of its own: a softmax over places of some of its channels stands for it.
"""

import copy
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIDE, WIDTH, N, GRID, FRACTION, T = 8, 12, 8, 4, 0.3, 0.2
OUT = {}


def values(stream, *shape):
    """Numbers in -1..1 that look random."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(12.9898 * index + 78.233 * stream + 0.5) * 43758.5453
    return (2 * (wave - wave.floor()) - 1).float().reshape(shape)


class Encoder(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 2, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(WIDTH)
        nn.init.normal_(self.conv.weight, std=0.3)
        nn.init.constant_(self.bn.bias, 0.1)

    def map(self, x):
        return F.relu(self.bn(self.conv(x)))

    def forward(self, x):
        h = self.map(x).mean((2, 3))
        if h.requires_grad:
            h.retain_grad()
        return h

    def attention(self, x):
        """Of three layers, (N, GRID, GRID) each."""
        flat = self.map(x)[:, [0, 3, 6]].flatten(2)
        return F.softmax(flat, dim=2).unflatten(2, (GRID, GRID)).unbind(1)


def mlp(widths):
    layers = []
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        last = i + 2 == len(widths)
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)


def ctr(q, k):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / T
    return 2 * T * F.cross_entropy(logits, torch.arange(len(q)))


torch.manual_seed(3)
model = nn.Module()
model.encoder = Encoder()
model.head = nn.ModuleDict({"projector": mlp([WIDTH, 10, 10, 6]), "predictor": mlp([6, 10, 6])})
target = copy.deepcopy(model)
with torch.no_grad():
    for p in target.parameters():
        p.add_(0.1 * torch.randn_like(p))
for name, p in model.named_parameters():
    OUT[f"start.{name}"] = p.detach().clone()
for name, p in target.named_parameters():
    if "predictor" not in name:
        OUT[f"start.target_{name}"] = p.detach().clone()

first = values(1, N, 3, SIDE, SIDE)
views = [first, first + 0.3 * values(2, N, 3, SIDE, SIDE)]
kept, masked = math.floor(FRACTION * GRID * GRID), []
with torch.no_grad():
    for i, x in enumerate(views):
        product = torch.ones(N, GRID * GRID, dtype=torch.float64)
        for layer in target.encoder.attention(x):
            product *= 1000 * layer.double().flatten(1)
        threshold = product.sort(dim=1, descending=True).values[:, kept : kept + 1]
        mask = (product > threshold).float().reshape(N, GRID, GRID)
        assert (mask.sum((1, 2)) == kept).all()
        OUT[f"mask.{i}"] = mask
        block = SIDE // GRID
        masked.append(x * mask.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, None])
        OUT[f"masked.{i}"] = masked[i]

h = [model.encoder(x) for x in views]
q = [model.head["predictor"](model.head["projector"](h)) for h in h]
for q_i in q:
    q_i.retain_grad()
with torch.no_grad():
    k = [target.head["projector"](target.encoder(x)) for x in views]
    local = [target.head["projector"](target.encoder(x)) for x in masked]
losses = [ctr(q[0], keys[1]) + ctr(q[1], keys[0]) for keys in (k, local)]
(losses[0] + losses[1]).backward()
OUT["losses"] = torch.stack(losses).detach()
for i in range(2):
    OUT |= {f"q.{i}": q[i].detach(), f"q_grad.{i}": q[i].grad, f"h_grad.{i}": h[i].grad}
    OUT |= {f"k.{i}": k[i], f"k_local.{i}": local[i]}
for name, p in model.named_parameters():
    OUT[f"gradient.{name}"] = p.grad

print([round(v.item(), 4) for v in losses])
save_file({name: t.contiguous() for name, t in OUT.items()}, sys.argv[1])
