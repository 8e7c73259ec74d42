"""One step of MoCo v2, as fgvr's trainer does it with the published settings (docs/methods.md).

The queue is full from the start. What fgvr computes only to report it is left out.
"""

import copy

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from mode import Feed
from norm import Norm, norms
from train import MODES

TEMPERATURE, MOMENTUM, GROUPS = 0.2, 0.999, 4
QUEUE, DIM = 65536, 128
SET = 1_281_167


def trunk(network, small):
    """A residual network that gives pooled features, and their number. The small stem: 3x3 of stride 2, no
    pooling."""
    model = getattr(torchvision.models, network)(norm_layer=Norm)
    width = model.fc.in_features
    model.fc = nn.Identity()
    if small:
        model.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model, width


class Ring:
    """The last rows, and the image of each, of a set of so many."""

    def __init__(self, rows, images, device):
        self.rows, self.next, capacity = rows.to(device), 0, len(rows)
        self.images = (images // 2 + torch.arange(capacity) % (images // 2)).to(device)

    def push(self, rows, images):
        slots = (self.next + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows[slots] = rows
        self.images[slots] = images
        self.next = (self.next + len(rows)) % len(self.rows)


class MoCo:
    """The online network, and the key network that follows it. What is called in a step is compiled where the
    mode says so."""

    def __init__(self, network, small, dim, mode):
        self.mode = mode
        online, self.width = trunk(network, small)
        head = nn.Sequential(nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, dim))
        online = nn.ModuleDict({"trunk": online, "head": head}).train()
        self.online = online.to(mode.device, memory_format=mode.format)
        self.key = copy.deepcopy(self.online).requires_grad_(False)
        self.features = mode.compile(self._features)
        self.key_pass = mode.compile(self._key_pass)
        self.info_nce = mode.compile(self._info_nce)
        decays = [p for p in self.online.parameters() if p.ndim > 1]
        others = [p for p in self.online.parameters() if p.ndim == 1]
        groups = [{"params": decays, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
        self.sgd = torch.optim.SGD(groups, lr=1e-5, momentum=0.9, fused=True)

    def _features(self, images):
        """The pooled features of the online network (N, C)."""
        with self.mode.autocast():
            return self.online["trunk"](images).float()

    def _key_pass(self, images, order, back):
        with self.mode.autocast():
            h = self.key["trunk"](images[order].contiguous(memory_format=self.mode.format)).float()
            h = h[back]
            return h, F.normalize(self.key["head"](h).float())

    @torch.no_grad()
    def keys(self, images, update):
        """Features and keys by the key network: shuffled, statistics over parts of the batch."""
        n = len(images)
        order = torch.randperm(n, device=images.device)
        groups = next(g for g in range(max(min(GROUPS, n // 2), 1), 0, -1) if n % g == 0)
        with norms(self.key, update, groups):
            return self.key_pass(images, order, torch.argsort(order))

    def _info_nce(self, h, keys, indices, rows, images):
        """The loss of features `h` of the images `indices` against a queue's rows."""
        with self.mode.autocast():
            query = F.normalize(self.online["head"](h).float())
        positive = (query * keys).sum(1, keepdim=True)  # (N, 1)
        own = indices[:, None] == images[None]  # (N, K)
        negative = (query @ rows.T).masked_fill(own, -1e9)
        logits = torch.cat([positive, negative], 1) / TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    def gradient_norm(self):
        return torch.nn.utils.get_total_norm([p.grad for p in self.online.parameters()])

    @torch.no_grad()
    def follow(self):
        torch._foreach_lerp_(list(self.key.parameters()), list(self.online.parameters()), 1 - MOMENTUM)


def check(finite):
    """Where the step is waited for anyway, so that nothing before it waits."""
    if not torch.isfinite(finite):
        raise FloatingPointError("the step is not finite")


class MoCoStep:
    def __init__(self, network, side, batch, mode):
        mode.check("training", MODES)
        self.images, self.moco = batch, MoCo(network, False, DIM, mode)
        self.queue = Ring(F.normalize(torch.randn(QUEUE, DIM)), SET, mode.device)
        self.feed = Feed([torch.randn(batch, 3, side, side) for _ in range(2)], mode)
        self.indices = torch.arange(batch, device=mode.device)

    def step(self):
        moco, queue = self.moco, self.queue
        x, other = self.feed.next()
        moco.sgd.zero_grad()
        h = moco.features(x)
        _, keys = moco.keys(other, True)
        loss = moco.info_nce(h, keys, self.indices, queue.rows, queue.images)
        loss.backward()
        norm = moco.gradient_norm()
        moco.sgd.step()
        queue.push(keys, self.indices)
        moco.follow()
        self.indices = (self.indices + self.images) % SET
        check(norm + loss.detach())
