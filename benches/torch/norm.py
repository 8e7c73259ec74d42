"""Batch norm with the statistics that SynthPair asks for."""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.BatchNorm2d):
    """`groups` None: statistics of the batch. Otherwise of each of so many equal parts of it. The
    running ones follow where `update` says so, in parts by their mean."""

    def __init__(self, channels):
        super().__init__(channels)
        # Of the instance from the start, or the compiler takes the first change for another kind of module.
        self.groups, self.update = None, True

    def forward(self, x):
        if self.groups is None:
            running = (self.running_mean, self.running_var) if self.update else (None, None)
            return F.batch_norm(x, *running, self.weight, self.bias, True, self.momentum, self.eps)
        mean, var = (stat.repeat(self.groups, 1) for stat in (self.running_mean, self.running_var))
        parts = []
        for part, own_mean, own_var in zip(x.chunk(self.groups), mean, var):
            own = (own_mean, own_var) if self.update else (None, None)
            parts.append(F.batch_norm(part, *own, self.weight, self.bias, True, self.momentum, self.eps))
        if self.update:
            self.running_mean.copy_(mean.mean(0))
            self.running_var.copy_(var.mean(0))
        return torch.cat(parts)


@contextmanager
def norms(network, update, groups=None):
    """All norms of `network` in one way for a while."""
    found = [module for module in network.modules() if isinstance(module, Norm)]
    for norm in found:
        norm.update, norm.groups = update, groups
    yield
    for norm in found:
        norm.update, norm.groups = True, None
