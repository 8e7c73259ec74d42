"""One supervised training step: forward, cross-entropy on 1000 classes, backward, SGD."""

import torch
import torch.nn.functional as F
import torchvision

from mode import Feed

MODES = ("eager", "channels_last", "bf16")


class Train:
    def __init__(self, network, side, batch, mode):
        mode.check("training", MODES)
        self.mode, self.images = mode, batch
        model = getattr(torchvision.models, network)(num_classes=1000).train()
        self.model = model.to(mode.device, memory_format=mode.format)
        self.feed = Feed([torch.randn(batch, 3, side, side)], mode)
        self.labels = (torch.arange(batch) * 37 % 1000).to(mode.device)
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
        self.loss = mode.compile(self.forward)

    def forward(self, x):
        with self.mode.autocast():
            logits = self.model(x)
        return F.cross_entropy(logits.float(), self.labels)

    def step(self):
        self.sgd.zero_grad()
        self.loss(*self.feed.next()).backward()
        self.sgd.step()
