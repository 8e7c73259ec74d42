"""One supervised training step: forward, cross-entropy on 1000 classes, backward, SGD."""

import torch
import torch.nn.functional as F
import torchvision


def layout(mode):
    """The memory format of a training mode, and whether it computes in bf16 where autocast does."""
    known = {
        "eager": (torch.contiguous_format, False),
        "channels_last": (torch.channels_last, False),
        "bf16": (torch.channels_last, True),
    }
    if mode not in known:
        raise ValueError(f"no training mode `{mode}`; there are {', '.join(known)}")
    return known[mode]


class Train:
    def __init__(self, network, side, batch, mode):
        memory_format, self.bf16 = layout(mode)
        self.model = getattr(torchvision.models, network)(num_classes=1000)
        self.model = self.model.train().to(memory_format=memory_format)
        self.images = batch
        self.x = torch.randn(batch, 3, side, side).contiguous(memory_format=memory_format)
        self.labels = torch.arange(batch) * 37 % 1000
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    def step(self):
        self.sgd.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.model(self.x)
        F.cross_entropy(logits.float(), self.labels).backward()
        self.sgd.step()
