"""What the scripts that make golden tensors of single layers share."""

import torch
from safetensors.torch import save_file

MASK = (1 << 32) - 1


class Cases:
    """Inputs from one generator, and what PyTorch makes of them in f64, stored as f32."""

    def __init__(self, seed, zero=0.0):
        """Gradients smaller than `zero` are stored as 0: where the exact gradient is, f64 leaves rounding."""
        self.out, self.zero = {}, zero
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def integers(self, *shape):
        """Small integers: many ties, many exact zeros."""
        return torch.randint(-2, 3, shape, generator=self.generator).float()

    def record(self, case, f, **inputs):
        """y = f(inputs) and all gradients for a random dy, computed in f64."""
        wide = {k: v.double().requires_grad_() for k, v in inputs.items()}
        y = f(**wide)
        dy = self.normal(*y.shape)
        y.backward(dy.double())
        for name, value in inputs.items():
            gradient = wide[name].grad
            gradient[gradient.abs() < self.zero] = 0
            self.out[f"{case}.{name}"], self.out[f"{case}.d_{name}"] = value, gradient.float()
        self.out[f"{case}.y"], self.out[f"{case}.dy"] = y.detach().float(), dy

    def save(self, path):
        save_file({k: v.contiguous().clone() for k, v in self.out.items()}, path)


def hashed(seed, *shape):
    """Multiples of 2^-12 in -1..1, from the number of the element and the seed."""
    count = int(torch.tensor(shape).prod())
    # The finaliser of MurmurHash3 (Austin Appleby, public domain), on numbers spread by the golden ratio.
    h = (torch.arange(count, dtype=torch.int64) * 0x9E3779B1 + seed * 0x85EBCA77) & MASK
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & MASK
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & MASK
    h = h ^ (h >> 16)
    return ((h >> 19).double() / 4096 - 1).view(*shape)
