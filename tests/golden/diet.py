"""DIET: cross entropy with label smoothing and its gradients, and the first 20 steps on a small network.

python tests/golden/diet.py tests/golden/diet.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32). Images come from a formula (`values`), which the test
repeats; weights stand in the file.
"""

import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIDE, WIDTH, N, STEPS, IMAGES = 8, 12, 8, 20, 50
OUT = {}


def values(stream, *shape):
    """Numbers in -1..1 that look random."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(12.9898 * index + 78.233 * stream + 0.5) * 43758.5453
    return (2 * (wave - wave.floor()) - 1).float().reshape(shape)


def views(step):
    first = values(10 * step, N, 3, SIDE, SIDE)
    return first, first + 0.3 * values(10 * step + 1, N, 3, SIDE, SIDE)


torch.manual_seed(0)
logits = (3 * torch.randn(6, 9)).requires_grad_()
classes = torch.tensor([0, 8, 3, 3, 5, 1])
OUT |= {"logits": logits.detach().clone(), "classes": classes}
for smoothing in [0.0, 0.3, 0.8]:
    logits.grad = None
    loss = F.cross_entropy(logits, classes, label_smoothing=smoothing)
    loss.backward()
    OUT[f"loss.{smoothing}"] = loss.detach().reshape(1)
    OUT[f"gradient.{smoothing}"] = logits.grad.clone()


class Network(nn.Module):
    """Convolution, batch norm, ReLU, mean over places, and a class for each image."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"conv": nn.Conv2d(3, WIDTH, 2, stride=2, bias=False), "bn": nn.BatchNorm2d(WIDTH)}
        )
        self.head = nn.ModuleDict({"classes": nn.Linear(WIDTH, IMAGES, bias=False)})
        nn.init.normal_(self.encoder["conv"].weight, std=0.3)
        nn.init.constant_(self.encoder["bn"].bias, 0.1)

    def features(self, x):
        h = F.relu(self.encoder["bn"](self.encoder["conv"](x))).mean((2, 3))
        h.retain_grad()
        return h


def run(prefix, seed, compare):
    torch.manual_seed(seed)
    model = Network()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.05},
            {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.999),
    )
    for name, p in model.named_parameters():
        OUT[f"{prefix}.start.{name}"] = p.detach().clone()
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        images = (torch.arange(N) + 3 * step) % IMAGES
        pooled = [model.features(x) for x in views(step)]
        weight = model.head["classes"].weight
        terms = [F.cross_entropy(compare(h, weight), images, label_smoothing=0.8) for h in pooled]
        loss = sum(terms) / 2
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            for name, p in model.named_parameters():
                OUT[f"{prefix}.gradient.{name}"] = p.grad.clone()
            for view, h in enumerate(pooled):
                OUT[f"{prefix}.pooled_grad.{view}"] = h.grad.clone()
        optimizer.step()
    OUT[f"{prefix}.losses"] = torch.tensor(losses)
    for name, p in model.named_parameters():
        OUT[f"{prefix}.end.{name}"] = p.detach().clone()
    print(prefix, [round(v, 4) for v in losses])


run("diet", 1, F.linear)
run("cosine", 2, lambda h, w: F.linear(F.normalize(h, dim=1), F.normalize(w, dim=1)) / 0.1)
save_file({name: value.contiguous() for name, value in OUT.items()}, sys.argv[1])
