"""The base objectives: each loss with its gradient, and the first 20 steps of each base on a small network.

python tests/golden/bases.py tests/golden/bases.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32). Images come from a formula (`values`), which the test
repeats; weights stand in the file. Losses are written from the papers' equations.
"""

import copy
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIDE, WIDTH, N, STEPS, PER_EPOCH = 8, 12, 8, 20, 5
OUT = {}


def values(stream, *shape):
    """Numbers in -1..1 that look random."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(12.9898 * index + 78.233 * stream + 0.5) * 43758.5453
    return (2 * (wave - wave.floor()) - 1).float().reshape(shape)


def views(step):
    first = values(10 * step, N, 3, SIDE, SIDE)
    second = first + 0.3 * values(10 * step + 1, N, 3, SIDE, SIDE)
    crop = first[:, :, 2:6, 2:6]
    return [first, second], [crop + 0.3 * values(10 * step + 2 + i, N, 3, 4, 4) for i in range(2)]


class Encoder(nn.Module):
    """Convolution, batch norm, ReLU, mean over places; keeps the last output for its gradient."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 2, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(WIDTH)
        nn.init.normal_(self.conv.weight, std=0.3)
        nn.init.constant_(self.bn.bias, 0.1)
        self.pooled = []

    def forward(self, x):
        h = F.relu(self.bn(self.conv(x))).mean((2, 3))
        if h.requires_grad:
            h.retain_grad()
            self.pooled.append(h)
        return h


class Prototypes(nn.Module):
    def __init__(self, width, count):
        super().__init__()
        self.weight_v = nn.Parameter(torch.randn(count, width) * 0.3)

    def forward(self, x):
        return F.linear(x, F.normalize(self.weight_v, dim=1))


class DinoHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 10), nn.GELU(), nn.Linear(10, 10), nn.GELU(), nn.Linear(10, 6)
        )
        self.last_layer = Prototypes(6, 20)

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=1))


def mlp(widths, bias=(False, False), last_norm=False):
    layers = []
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        last = i == len(widths) - 2
        layers.append(nn.Linear(a, b, bias=bias[last]))
        if not last:
            layers += [nn.BatchNorm1d(b), nn.ReLU()]
        elif last_norm:
            layers.append(nn.BatchNorm1d(b, affine=False))
    return nn.Sequential(*layers)


class Lars(torch.optim.Optimizer):
    def __init__(self, parameters, lr, momentum, trust, decay):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, trust=trust, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                d, velocity = p.grad, self.state[p].setdefault("v", torch.zeros_like(p))
                if p.dim() > 1:
                    d = d + group["decay"] * p
                    d = d * (group["trust"] * p.double().norm() / d.double().norm()).float()
                velocity.copy_(group["momentum"] * velocity + d)
                p.sub_(group["lr"] * velocity)


def cosine(q, k):
    return (F.normalize(q, dim=1) * F.normalize(k, dim=1)).sum(1).mean()


def simsiam(q, k):
    return -0.5 * cosine(q, k)


def byol(q, k):
    return (F.normalize(q, dim=1) - F.normalize(k, dim=1)).square().sum(1).mean()


def moco_v3(q, k, temperature=0.2):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(q)))


torch.manual_seed(0)
predictions = torch.randn(6, 5, requires_grad=True)
targets = torch.randn(6, 5)
OUT |= {"predictions": predictions.detach().clone(), "targets": targets}
for name, loss in {"simsiam": simsiam, "byol": byol, "moco-v3": moco_v3}.items():
    predictions.grad = None
    value = loss(predictions, targets)
    value.backward()
    OUT[f"{name}.loss"] = value.detach().reshape(1)
    OUT[f"{name}.predictions_grad"] = predictions.grad.clone()


def momentum(start, step):
    return 1 - (1 - start) * (math.cos(math.pi * step / STEPS) + 1) / 2


@torch.no_grad()
def average(online, target, m):
    mine, theirs = dict(online.named_parameters()), dict(target.named_parameters())
    for name, p in theirs.items():
        p.copy_(p * m + mine[name] * (1 - m))


def run(base, model, optimizer, step_loss, after):
    """20 steps; records weights, losses, and the first step's gradients."""
    for name, p in model.named_parameters():
        OUT[f"{base}.start.{name}"] = p.detach().clone()
    losses = []
    for step in range(STEPS):
        model.encoder.pooled.clear()
        optimizer.zero_grad()
        loss = step_loss(step)
        loss.backward()
        if base == "dino" and step < PER_EPOCH:
            model.head.last_layer.weight_v.grad = None
        losses.append(loss.item())
        if step == 0:
            for name, p in model.named_parameters():
                if p.grad is not None:
                    OUT[f"{base}.gradient.{name}"] = p.grad.clone()
            for view, h in enumerate(model.encoder.pooled[:2]):
                OUT[f"{base}.pooled_grad.{view}"] = h.grad.clone()
        optimizer.step()
        after(step)
    OUT[f"{base}.losses"] = torch.tensor(losses)
    for name, p in model.named_parameters():
        OUT[f"{base}.end.{name}"] = p.detach().clone()
    print(base, [round(v, 4) for v in losses])


def siamese(base, compare, projector, predictor, m, optimizer):
    torch.manual_seed(1)
    model = nn.Module()
    model.encoder = Encoder()
    model.head = nn.ModuleDict({"projector": projector, "predictor": predictor})
    target = copy.deepcopy(model) if m is not None else None

    def step_loss(step):
        (first, second), _ = views(step)
        z = [model.head["projector"](model.encoder(x)) for x in (first, second)]
        q = [model.head["predictor"](z) for z in z]
        if target is None:
            k = [z.detach() for z in z]
        else:
            with torch.no_grad():
                k = [target.head["projector"](target.encoder(x)) for x in (first, second)]
        return compare(q[0], k[1]) + compare(q[1], k[0])

    def after(step):
        if target is not None:
            average(model, target, momentum(m, step))

    run(base, model, optimizer(model.parameters()), step_loss, after)
    if target is not None:
        OUT[f"{base}.target.conv.weight"] = target.encoder.conv.weight.detach().clone()


siamese(
    "simsiam",
    simsiam,
    mlp([WIDTH, 8, 8, 8], last_norm=True),
    mlp([8, 4, 8], bias=(False, True)),
    None,
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
)
siamese(
    "byol",
    byol,
    mlp([WIDTH, 16, 6], bias=(True, False)),
    mlp([6, 16, 6], bias=(True, False)),
    0.9,
    lambda p: Lars(p, lr=0.2, momentum=0.9, trust=0.02, decay=1e-3),
)
siamese(
    "moco-v3",
    moco_v3,
    mlp([WIDTH, 10, 10, 6], last_norm=True),
    mlp([6, 10, 6], last_norm=True),
    0.9,
    lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.1),
)


def moco_v2():
    torch.manual_seed(2)
    model = nn.Module()
    model.encoder = Encoder()
    model.head = nn.Sequential(nn.Linear(WIDTH, 10), nn.ReLU(), nn.Linear(10, 6))
    target = copy.deepcopy(model)
    queue, of = torch.zeros(0, 6), torch.zeros(0, dtype=torch.long)
    temperature, held = 0.2, []

    def step_loss(step):
        nonlocal held
        (first, second), _ = views(step)
        images = (torch.arange(N) + 3 * step) % 50
        q = F.normalize(model.head(model.encoder(first)), dim=1)
        with torch.no_grad():
            k = F.normalize(target.head(target.encoder(second)), dim=1)
        held = [k, images]
        positive = (q * k).sum(1, keepdim=True) / temperature
        negative = (q @ queue.T / temperature).masked_fill(images[:, None] == of[None], -math.inf)
        return F.cross_entropy(torch.cat([positive, negative], 1), torch.zeros(N, dtype=torch.long))

    def after(step):
        nonlocal queue, of
        # The last 20 keys; their order changes no loss.
        queue, of = torch.cat([queue, held[0]])[-20:], torch.cat([of, held[1]])[-20:]
        average(model, target, 0.9)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    run("moco-v2", model, optimizer, step_loss, after)
    OUT["moco-v2.target.conv.weight"] = target.encoder.conv.weight.detach().clone()


def dino():
    torch.manual_seed(3)
    model = nn.Module()
    model.encoder, model.head = Encoder(), DinoHead()
    teacher = copy.deepcopy(model)
    centre, seen = torch.zeros(1, 20), None
    decays = lambda p: p.dim() > 1
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if decays(p)]},
            {"params": [p for p in model.parameters() if not decays(p)], "weight_decay": 0.0},
        ],
        lr=5e-3,
        betas=(0.9, 0.999),
    )

    def step_loss(step):
        nonlocal seen
        optimizer.param_groups[0]["weight_decay"] = 0.4 + (0.04 - 0.4) * (math.cos(math.pi * step / STEPS) + 1) / 2
        both, local = views(step)
        with torch.no_grad():
            taught = [teacher.head(teacher.encoder(x)) for x in both]
        seen = torch.cat(taught)
        # Warm-up over three epochs: 0.02, 0.05, 0.08.
        temperature = [0.02, 0.05, 0.08, 0.08][step // PER_EPOCH]
        taught = [F.softmax((t - centre) / temperature, 1) for t in taught]
        students = [F.log_softmax(model.head(model.encoder(x)) / 0.1, 1) for x in both + local]
        terms = [-(p * s).sum(1).mean() for i, p in enumerate(taught) for j, s in enumerate(students) if i != j]
        return sum(terms) / len(terms)

    def after(step):
        nonlocal centre
        centre = centre * 0.9 + seen.mean(0, keepdim=True) * 0.1
        average(model, teacher, momentum(0.9, step))

    run("dino", model, optimizer, step_loss, after)
    OUT["dino.target.conv.weight"] = teacher.encoder.conv.weight.detach().clone()
    OUT["dino.centre"] = centre


moco_v2()
dino()
save_file({name: value.contiguous() for name, value in OUT.items()}, sys.argv[1])
