"""One step of SynthPair on MoCo v2, as fgvr's trainer does it by default (docs/methods.md).

Every step is a whole one: queues and bank are full, the pair's weight is at its height. The pair's own
augmentation is left out, here and in fgvr. So is what fgvr computes only to report it.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mode import Feed
from moco import MoCo, Ring, check
from norm import Norm, norms
from train import MODES

ALPHA, NU = 0.05, 0.5
QUEUE, BANK, DIM = 4096, 4096, 256
LOW = 0.25  # of the channels, by variance and by importance
SET = 10_000
SMALL = 96  # the largest side of images for which the small stem is meant


class Decoder(nn.Module):
    """Two linear layers, four blocks [nearest x2, 3x3 convolution, norm, ReLU], a convolution, and a bilinear
    resize where the blocks end at another size."""

    def __init__(self, features, side, stride, memory_format):
        super().__init__()
        self.start, self.side, self.memory_format = -(-side // stride), side, memory_format
        self.fc1 = nn.Linear(features, 512)
        self.fc2 = nn.Linear(512, 512 * self.start**2)
        blocks, channels, reached = [], 512, self.start
        for c in (128, 64, 32, 16):
            reached *= 2
            if reached > side:
                break
            blocks += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, c, 3, padding=1, bias=False), Norm(c), nn.ReLU(True)]
            channels = c
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, h):
        x = self.fc2(self.fc1(h)).view(-1, 512, self.start, self.start)
        x = self.blocks(x.contiguous(memory_format=self.memory_format))
        return x if x.shape[-1] == self.side else F.interpolate(x, self.side, mode="bilinear")


class SynthPairStep:
    def __init__(self, network, side, batch, mode):
        mode.check("training", MODES)
        self.mode, self.images = mode, batch
        small = side <= SMALL
        self.moco = moco = MoCo(network, small, DIM, mode)
        decoder = Decoder(moco.width, side, 16 if small else 32, mode.format).train()
        self.decoder = decoder.to(mode.device, memory_format=mode.format)
        self.queue = Ring(F.normalize(torch.randn(QUEUE, DIM)), SET, mode.device)
        self.pair_queue = Ring(F.normalize(torch.randn(QUEUE, DIM)), SET, mode.device)
        self.bank = Ring(torch.randn(BANK, moco.width).relu(), SET, mode.device)
        self.feed = Feed([torch.randn(batch, 3, side, side) for _ in range(2)], mode)
        self.indices = torch.arange(batch, device=mode.device)
        self.adam = torch.optim.Adam(self.decoder.parameters(), lr=1e-3, fused=True)
        self.decode = mode.compile(self._decode)
        self.reconstruct = mode.compile(self._reconstruct)
        self.perturbed = mode.compile(self._perturbed)

    def _decode(self, h):
        with self.mode.autocast():
            return self.decoder(h).float()

    def _reconstruct(self, h, x):
        decoded = self._decode(h)
        return decoded, F.mse_loss(decoded, x)

    def _perturbed(self, h, gradient, bank):
        """Noise on the channels of low variance over the bank, or of low importance to the loss."""
        low = int(LOW * h.shape[1])
        variance = F.normalize(bank).var(0, correction=0)
        sigma = bank.std(0, correction=0)
        mask = torch.zeros_like(h, dtype=torch.bool)
        mask[:, variance.topk(low, largest=False).indices] = True
        mask.scatter_(1, (h * gradient).abs().topk(low, largest=False).indices, True)
        noise = torch.maximum(sigma, sigma.median()) * torch.randn_like(h)
        return torch.where(mask, (h + noise).clamp_min(0), h)

    def contrast(self, h, keys, queue):
        return self.moco.info_nce(h, keys, self.indices, queue.rows, queue.images)

    def step(self):
        moco = self.moco
        x, other = self.feed.next()
        moco.sgd.zero_grad()
        self.adam.zero_grad()

        # Contrastive loss, back to the features and no further.
        h = moco.features(x)
        at_head = h.detach().requires_grad_()
        key_h, keys = moco.keys(other, True)
        loss = self.contrast(at_head, keys, self.queue)
        loss.backward()
        perturbed = self.perturbed(at_head.detach(), at_head.grad, self.bank.rows)

        # Reconstruction; its gradient joins the other's, and the trunk runs back once.
        at_decoder = h.detach().requires_grad_()
        decoded, distance = self.reconstruct(at_decoder, x)
        distance.backward()
        h.backward(at_head.grad + ALPHA * at_decoder.grad)

        # The pair.
        with torch.no_grad(), norms(self.decoder, False):
            pair = [decoded.detach(), self.decode(perturbed)]
        if torch.rand(()) < 0.5:
            pair.reverse()
        with norms(moco.online, False):
            h = moco.features(pair[0])
        _, pair_keys = moco.keys(pair[1], False)
        pair_loss = self.contrast(h, pair_keys, self.pair_queue)
        (NU * pair_loss).backward()

        norm = moco.gradient_norm()
        moco.sgd.step()
        self.adam.step()
        self.queue.push(keys, self.indices)
        self.pair_queue.push(pair_keys, self.indices)
        self.bank.push(key_h, self.indices)
        moco.follow()
        self.indices = (self.indices + self.images) % SET
        check(norm + loss.detach() + pair_loss.detach())
