"""One pass of one convolution, channels-last."""

import re

import torch
import torch.nn.functional as F


class Convolution:
    def __init__(self, name, mode):
        if mode != "channels_last":
            raise ValueError(f"no mode `{mode}` of a convolution; there is channels_last")
        found = re.fullmatch(r"n(\d+)-h(\d+)-i(\d+)-o(\d+)-k(\d+)-s(\d+)-p(\d+)(?:-g(\d+))?/(.*)", name)
        if not found:
            raise ValueError(f"`{name}`: expected such as n16-h56-i64-o256-k1-s1-p0/forward")
        n, h, i, o, k, self.stride, self.padding, self.groups = (int(part or 1) for part in found.groups()[:-1])
        self.images = n
        passes = {"forward": self.forward, "grad-input": self.grad_input, "grad-weight": self.grad_weight}
        self.step = torch.no_grad()(passes[found.group(9)])

        def random(*shape):
            return torch.randn(*shape).contiguous(memory_format=torch.channels_last)

        self.x, self.weight = random(n, i, h, h), random(o, i // self.groups, k, k)
        with torch.no_grad():
            self.dy = torch.randn_like(self.forward())

    def forward(self):
        return F.conv2d(self.x, self.weight, stride=self.stride, padding=self.padding, groups=self.groups)

    def backward(self, mask):
        return torch.ops.aten.convolution_backward(
            self.dy, self.x, self.weight, None, [self.stride] * 2, [self.padding] * 2, [1, 1], False, [0, 0], self.groups, mask
        )

    def grad_input(self):
        return self.backward([True, False, False])

    def grad_weight(self):
        return self.backward([False, True, False])
