"""One step of SynthPair on MoCo v2, as fgvr's trainer does it by default (docs/methods.md).

Every step is a whole one: queues and bank are full, the pair's weight is at its height. The pair's own
augmentation is left out, here and in fgvr. So is what fgvr computes only to report it.
"""

import copy

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from norm import Norm, norms
from train import layout

ALPHA, NU = 0.05, 0.5
TEMPERATURE, MOMENTUM, GROUPS = 0.2, 0.999, 4
QUEUE, BANK, DIM = 4096, 4096, 256
LOW = 0.25  # of the channels, by variance and by importance
SET = 10_000


def trunk(network):
    """A residual network with the small stem: 3x3 of stride 2, no pooling. Gives pooled features."""
    model = getattr(torchvision.models, network)(norm_layer=Norm)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
    model.maxpool, model.fc = nn.Identity(), nn.Identity()
    return model


class Decoder(nn.Module):
    """Two linear layers, four blocks [nearest x2, 3x3 convolution, norm, ReLU], a convolution."""

    def __init__(self, features, side, memory_format):
        super().__init__()
        self.start, self.memory_format = side // 16, memory_format
        self.fc1 = nn.Linear(features, 512)
        self.fc2 = nn.Linear(512, 512 * self.start**2)
        blocks, channels = [], 512
        for c in (128, 64, 32, 16):
            blocks += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, c, 3, padding=1, bias=False), Norm(c), nn.ReLU(True)]
            channels = c
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, h):
        x = self.fc2(self.fc1(h)).view(-1, 512, self.start, self.start)
        return self.blocks(x.contiguous(memory_format=self.memory_format))


class Ring:
    """The last rows, and the image of each."""

    def __init__(self, capacity, rows):
        self.rows, self.next = rows, 0
        self.images = SET // 2 + torch.arange(capacity) % (SET // 2)

    def push(self, rows, images):
        slots = (self.next + torch.arange(len(rows))) % len(self.rows)
        self.rows[slots] = rows
        self.images[slots] = images
        self.next = (self.next + len(rows)) % len(self.rows)


class SynthPairStep:
    def __init__(self, network, side, batch, mode):
        self.format, self.bf16 = layout(mode)
        online = trunk(network)
        width = online.layer4[-1].bn2.num_features
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, DIM))
        self.online = nn.ModuleDict({"trunk": online, "head": head}).train().to(memory_format=self.format)
        self.key = copy.deepcopy(self.online).requires_grad_(False)
        self.decoder = Decoder(width, side, self.format).train().to(memory_format=self.format)
        self.queue = Ring(QUEUE, F.normalize(torch.randn(QUEUE, DIM)))
        self.pair_queue = Ring(QUEUE, F.normalize(torch.randn(QUEUE, DIM)))
        self.bank = Ring(BANK, torch.randn(BANK, width).relu())
        self.images = batch
        self.views = [torch.randn(batch, 3, side, side).contiguous(memory_format=self.format) for _ in range(2)]
        self.indices = torch.arange(batch)
        decays = [p for p in self.online.parameters() if p.ndim > 1]
        others = [p for p in self.online.parameters() if p.ndim == 1]
        groups = [{"params": decays, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
        self.sgd = torch.optim.SGD(groups, lr=1e-5, momentum=0.9, fused=True)
        self.adam = torch.optim.Adam(self.decoder.parameters(), lr=1e-3, fused=True)

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    @torch.no_grad()
    def keys(self, images, update):
        """Features and keys by the key network: shuffled, statistics over parts of the batch."""
        order = torch.randperm(len(images))
        with norms(self.key, update, GROUPS), self.autocast():
            shuffled = images[order].contiguous(memory_format=self.format)
            h = self.key["trunk"](shuffled).float()
        h = h[torch.argsort(order)]
        with self.autocast():
            return h, F.normalize(self.key["head"](h).float())

    def info_nce(self, h, keys, queue):
        with self.autocast():
            query = F.normalize(self.online["head"](h).float())
        positive = (query * keys).sum(1, keepdim=True)  # (N, 1)
        own = self.indices[:, None] == queue.images[None]  # (N, K)
        negative = (query @ queue.rows.T).masked_fill(own, -1e9)
        logits = torch.cat([positive, negative], 1) / TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    def perturbed(self, h, gradient):
        """Noise on the channels of low variance over the bank, or of low importance to the loss."""
        bank, low = self.bank.rows, int(LOW * h.shape[1])
        variance = F.normalize(bank).var(0, correction=0)
        sigma = bank.std(0, correction=0)
        mask = torch.zeros_like(h, dtype=torch.bool)
        mask[:, variance.topk(low, largest=False).indices] = True
        mask.scatter_(1, (h * gradient).abs().topk(low, largest=False).indices, True)
        noise = torch.maximum(sigma, sigma.median()) * torch.randn_like(h)
        return torch.where(mask, (h + noise).clamp_min(0), h)

    def step(self):
        x, other = self.views
        self.sgd.zero_grad()
        self.adam.zero_grad()

        # Contrastive loss, back to the features and no further.
        with self.autocast():
            h = self.online["trunk"](x).float()
        at_head = h.detach().requires_grad_()
        key_h, keys = self.keys(other, True)
        loss = self.info_nce(at_head, keys, self.queue)
        loss.backward()
        perturbed = self.perturbed(at_head.detach(), at_head.grad)

        # Reconstruction; its gradient joins the other's, and the trunk runs back once.
        at_decoder = h.detach().requires_grad_()
        with self.autocast():
            decoded = self.decoder(at_decoder).float()
        F.mse_loss(decoded, x).backward()
        h.backward(at_head.grad + ALPHA * at_decoder.grad)

        # The pair.
        with torch.no_grad(), norms(self.decoder, False), self.autocast():
            pair = [decoded.detach(), self.decoder(perturbed).float()]
        if torch.rand(()) < 0.5:
            pair.reverse()
        with norms(self.online, False), self.autocast():
            h = self.online["trunk"](pair[0]).float()
        _, pair_keys = self.keys(pair[1], False)
        pair_loss = self.info_nce(h, pair_keys, self.pair_queue)
        (NU * pair_loss).backward()

        # A step that is not finite is not taken.
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.online.parameters()])
        if not torch.isfinite(norm + loss.detach() + pair_loss.detach()):
            raise FloatingPointError("the step is not finite")
        self.sgd.step()
        self.adam.step()
        self.queue.push(keys, self.indices)
        self.pair_queue.push(pair_keys, self.indices)
        self.bank.push(key_h, self.indices)
        with torch.no_grad():
            targets = list(self.key.parameters())
            torch._foreach_mul_(targets, MOMENTUM)
            torch._foreach_add_(targets, list(self.online.parameters()), alpha=1 - MOMENTUM)
        self.indices = (self.indices + len(self.indices)) % SET
