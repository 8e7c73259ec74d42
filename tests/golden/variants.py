"""Variants of SynthPair: feature twin, perceptual loss and mask curriculum, for crates/fgvr-ssl/tests/variants_golden.rs.

    python tests/golden/variants.py tests/golden/variants.safetensors

Made with torch 2.15.0, numpy, safetensors 0.8.0 (CPU, f64, stored as f32), written from the equations. The trunk is
h = mean over places of F = ReLU(BatchNorm(conv(x))), the decoder d(h) = tanh(BatchNorm(h W) + b), with the batch's
statistics: of each view by itself in the trunk, of both together in the decoder.

Per base (`moco-v2`, `byol`), one step of a run of TOTAL steps with the weights `BASE.state.NAME` (two views `first`,
`second`; a bank of past features `bank`; for MoCo two queues of keys):
  L_C    the base's loss (`contrastive`), its gradients `base.NAME`, also at h (`base.h.VIEW`)
  L_Cp   M: the channels of lowest variance over the bank's normalised features, and those of lowest |h dL_C/dh|, by the
         curriculum's share of the configured ones (`mask.VIEW`); h~ = (1 - M) h + M const(h + s m max(std, median std));
         p(h~) against p(h) by the base's heads (`pair`), and the gradients `twin.NAME` of nu(t) times it
  L_R    mean (d(h) - x)^2 (`reconstruction`), the gradients `reconstruction.NAME` of alpha times it at the encoder
  L_P    mean (f(d(h)) - f(x))^2, f(x), h and the weights of f constant (`perceptual`); the gradients `decoder.NAME` of
         L_R + lambda L_P at the decoder
The noise is the least change m = 8 that the method is set to, more than any normal draw: no chance is left in it.

Curriculum: `curriculum.COURSE.START.rho` (step, 2), `.size` (step, 2) channels taken, and `.mask` (step, N, C) of
`curriculum.variance` and `curriculum.importance`.
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

N, SIDE, WIDTH, D = 8, 8, 12, 6
STEP, TOTAL, WARM_UP, RAMP = 4, 10, 0.2, 0.5
ALPHA, NU, LAMBDA, SCALE, LEAST = 30, 8, 0.7, 0.5, 8
RHO = (0.3, 0.4)
OUT = {}


def factor(course, start, warm_up, step, total):
    """What both rho are multiplied by."""
    if course == "constant":
        return 1.0
    first = round(warm_up * total)
    t = min(max((step - first) / max(total - 1 - first, 1), 0), 1)
    risen = t if course == "linear" else (1 - np.cos(np.pi * t)) / 2
    return start + (1 - start) * risen


def taken(rho, channels):
    """How many channels, and that this is no matter of rounding."""
    product = rho * channels
    assert abs(product - round(product)) < 1e-9 or abs(product - round(product)) > 1e-4, product
    return math.floor(product + 1e-9)


def lowest(values, count):
    """1 at the `count` lowest of `values` (C)."""
    order = np.argsort(values)
    ranked = values[order]
    if 0 < count < len(values):
        assert ranked[count] - ranked[count - 1] > 1e-4 * np.abs(values).max(), "too near a tie"
    out = np.zeros(len(values))
    out[order[:count]] = 1
    return out


def union(variance, importance, rho):
    by_variance = lowest(variance, taken(rho[0], len(variance)))
    return np.stack([np.maximum(by_variance, lowest(row, taken(rho[1], len(row)))) for row in importance])


class Step:
    """Weights of a base by their names, leaves those of the online network and the decoder."""

    def __init__(self, base, state, decoder):
        self.base = base
        for name, tensor in state.items():
            OUT[f"{base}.state.{name}"] = tensor
        of = lambda t: t.double() if t.is_floating_point() else t
        self.state = {name: of(tensor) for name, tensor in state.items()}
        self.trained = {name: t.requires_grad_() for name, t in self.state.items() if name.startswith(("encoder", "head"))}
        self.decoder = {name: tensor.double().requires_grad_() for name, tensor in decoder.items()}

    def trunk(self, x, which="encoder", constant=False):
        w, gain, shift = [self.state[f"{which}.{name}"] for name in ("conv.weight", "bn.weight", "bn.bias")]
        if constant:
            w, gain, shift = w.detach(), gain.detach(), shift.detach()
        x = F.conv2d(x, w, stride=2)
        x = F.batch_norm(x, None, None, gain, shift, training=True)
        edge(x)
        return F.relu(x)

    def decode(self, h):
        x = F.batch_norm(h @ self.decoder["weight"], None, None, training=True)
        return torch.tanh(x + self.decoder["bias"]).reshape(-1, 3, SIDE, SIDE)

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def mlp(self, x, name):
        """Linear, BatchNorm, ReLU, Linear."""
        x = self.linear(x, f"{name}.0")
        x = F.batch_norm(x, None, None, self.state[f"{name}.1.weight"], self.state[f"{name}.1.bias"], training=True)
        edge(x)
        return self.linear(F.relu(x), f"{name}.3")

    def gradients(self, what, loss, over, leaves=()):
        """`what.NAME` of `loss` at the variables and at each of `leaves`."""
        found = torch.autograd.grad(loss, [*over.values(), *leaves], retain_graph=True, allow_unused=True)
        for name, gradient in zip([*over, *(f"h.{i}" for i in range(len(leaves)))], found):
            if gradient is not None:
                OUT[f"{self.base}.{what}.{name}"] = gradient
        return found[len(over) :]


def edge(x):
    # No ReLU on the edge, where f32 and f64 could differ.
    assert x.abs().min() > 1e-5, x.abs().min()


class Moco(Step):
    """InfoNCE against a queue; keys by the key network."""

    branches = 1

    def head(self, h, which):
        z = self.linear(h, f"{which}.0")
        edge(z)
        return F.normalize(self.linear(F.relu(z), f"{which}.2"), dim=1)

    def info_nce(self, q, k, queue):
        keys, of = self.state[f"{queue}.keys"], self.state[f"{queue}.images"]
        total = 0
        for i in range(N):
            others = [torch.exp(q[i] @ key / 0.2) for key, image in zip(keys, of) if image != IMAGES[i]]
            positive = torch.exp(q[i] @ k[i] / 0.2)
            total = total - torch.log(positive / (positive + sum(others)))
        return total / N

    def loss(self, h):
        with torch.no_grad():
            k = self.head(self.trunk(VIEWS[1], "key_encoder").mean((2, 3)), "key_head")
        return self.info_nce(self.head(h[0], "head"), k, "queue")

    def between(self, changed, h):
        k = self.head(h.detach(), "key_head").detach()
        return self.info_nce(self.head(changed, "head"), k, "pair_queue")


class Byol(Step):
    """Predictions of each against the averaged network's projection of the other."""

    branches = 2

    def predicted(self, h):
        return self.mlp(self.mlp(h, "head.projector"), "head.predictor")

    def target(self, h):
        return self.mlp(h.detach(), "target_head.projector").detach()

    def compare(self, q, k):
        return (F.normalize(q, dim=1) - F.normalize(k, dim=1)).square().sum(1).mean()

    def loss(self, h):
        k = [self.target(self.trunk(x, "target_encoder").mean((2, 3))) for x in VIEWS]
        return self.compare(self.predicted(h[0]), k[1]) + self.compare(self.predicted(h[1]), k[0])

    def between(self, changed, h):
        return self.compare(self.predicted(changed), self.target(h)) + self.compare(self.predicted(h), self.target(changed))


def run(step, course, start):
    base = step.base
    maps = [step.trunk(x) for x in VIEWS[: step.branches]]
    h = [m.mean((2, 3)) for m in maps]
    contrastive = step.loss(h)
    gradients = step.gradients("base", contrastive, step.trained, h)

    # The mask, h~ and the twin.
    unit = F.normalize(BANK, dim=1)
    variance, std = unit.var(0, correction=0), BANK.std(0, correction=0)
    rho = [r * factor(course, start, WARM_UP, STEP, TOTAL) for r in RHO]
    change = SCALE * LEAST * torch.maximum(std, std.quantile(0.5))
    # Where a subtraction would end below 0, the method adds instead: so it does everywhere.
    assert max(x.max() for x in h) < 0.99 * change.min()
    pair = 0
    for branch, (x, g) in enumerate(zip(h, gradients)):
        mask = torch.tensor(union(variance.numpy(), (x * g).abs().detach().numpy(), rho))
        changed = (1 - mask) * x + mask * (x + change).detach()
        pair = pair + step.between(changed, x) / step.branches
        OUT[f"{base}.mask.{branch}"] = mask
    nu = NU * min(max((STEP + 1 - round(WARM_UP * TOTAL)) / round(RAMP * TOTAL), 0), 1)
    step.gradients("twin", nu * pair, step.trained, h)

    # The decoder.
    seen = torch.cat(VIEWS[: step.branches])
    reconstruction = (step.decode(torch.cat(h)) - seen).square().mean()
    step.gradients("reconstruction", ALPHA * reconstruction, step.trained, h)
    decoded = step.decode(torch.cat(h).detach())
    perceptual = sum(
        (step.trunk(x, constant=True) - m.detach()).square().mean() for x, m in zip(decoded.split(N), maps)
    ) / step.branches
    own = (decoded - seen).square().mean() + LAMBDA * perceptual
    step.gradients("decoder", own, step.decoder)
    losses = dict(contrastive=contrastive, pair=pair, reconstruction=reconstruction, perceptual=perceptual)
    OUT.update({f"{base}.{name}": loss.detach() for name, loss in losses.items()})
    print(base, {name: round(loss.item(), 4) for name, loss in losses.items()}, "nu", nu, "rho", rho)


def randn(*shape, by):
    return torch.randn(*shape) * by


def trunk():
    return {
        "conv.weight": randn(WIDTH, 3, 2, 2, by=0.3),
        "bn.weight": 1 + randn(WIDTH, by=0.2),
        "bn.bias": 0.1 + randn(WIDTH, by=0.2),
    }


def moco_head():
    return {
        "0.weight": randn(10, WIDTH, by=0.5),
        "0.bias": randn(10, by=0.1),
        "2.weight": randn(D, 10, by=0.5),
        "2.bias": randn(D, by=0.1),
    }


def byol_head(width):
    return {
        "0.weight": randn(16, width, by=0.5),
        "0.bias": randn(16, by=0.1),
        "1.weight": 1 + randn(16, by=0.2),
        "1.bias": randn(16, by=0.2),
        "3.weight": randn(D, 16, by=0.5),
    }


def under(**parts):
    return {f"{prefix}.{name}": t for prefix, part in parts.items() for name, t in part.items()}


def queue(size):
    return {
        "keys": F.normalize(randn(size, D, by=1.0), dim=1),
        # Some of the batch's own images are among them.
        "images": (torch.arange(size) * 3) % 50,
        "position": torch.tensor([0, size]),
    }


torch.manual_seed(7)
torch.set_num_threads(1)
IMAGES = [(3 * i + 1) % 10 for i in range(N)]
first = torch.rand(N, 3, SIDE, SIDE) * 2 - 1
OUT |= {"first": first, "second": first + randn(N, 3, SIDE, SIDE, by=0.2), "images": torch.tensor(IMAGES)}
OUT["bank"] = (torch.rand(20, WIDTH) * torch.linspace(0.6, 1.4, WIDTH)[torch.randperm(WIDTH)]) ** 2
VIEWS, BANK = [OUT["first"].double(), OUT["second"].double()], OUT["bank"].double()
decoder = {"weight": randn(WIDTH, 3 * SIDE * SIDE, by=0.3), "bias": randn(3 * SIDE * SIDE, by=0.1)}
OUT |= {f"state.decoder.{name}": tensor for name, tensor in decoder.items()}

encoder = trunk()
state = under(encoder=encoder, head=moco_head(), key_encoder=trunk(), key_head=moco_head())
run(Moco("moco-v2", state | under(queue=queue(20), pair_queue=queue(16)), decoder), "linear", 0.5)
heads = {"head.projector": byol_head(WIDTH), "head.predictor": byol_head(D), "target_head.projector": byol_head(WIDTH)}
run(Byol("byol", under(encoder=encoder, target_encoder=trunk(), **heads), decoder), "cosine", 1.4)

rng = np.random.default_rng(8)
variance, importance = rng.random(WIDTH).astype(np.float32), rng.random((4, WIDTH)).astype(np.float32)
OUT |= {"curriculum.variance": torch.tensor(variance), "curriculum.importance": torch.tensor(importance)}
for course in ("constant", "linear", "cosine"):
    for start in (0.15, 2.2):
        rho = np.array([[r * factor(course, start, 0.3, t, 21) for r in (0.42, 0.31)] for t in range(21)])
        masks = [union(variance.astype(np.float64), importance.astype(np.float64), r) for r in rho]
        name = f"curriculum.{course}.{start}"
        OUT[f"{name}.rho"] = torch.tensor(rho)
        OUT[f"{name}.size"] = torch.tensor([[taken(r, WIDTH) for r in row] for row in rho])
        OUT[f"{name}.mask"] = torch.tensor(np.stack(masks)).to(torch.uint8)

stored = lambda t: t.detach().float() if t.is_floating_point() else t
save_file({name: stored(t).clone().contiguous() for name, t in OUT.items()}, sys.argv[1])
