"""How PyTorch computes: where, in which memory format, in what numbers, compiled or not."""

import torch


class Mode:
    """Without a precision, on the CPU in f32: `eager` (NCHW), `channels_last`, `bf16` (channels-last, autocast).
    With one, as on a GPU: `eager` and `compiled` (`torch.compile` in its default mode), both channels-last, with
    autocast for bf16; f32 and tf32 say what f32 products are computed in."""

    def __init__(self, name, device="cpu", precision=None):
        self.name, self.device, self.precision = name, torch.device(device), precision
        self.bf16 = (precision or name) == "bf16"
        self.format = torch.contiguous_format if precision is None and name == "eager" else torch.channels_last
        self.compiled = precision is not None and name == "compiled"
        if precision is not None:
            torch.backends.fp32_precision = "ieee" if precision == "f32" else "tf32"
            torch.backends.cudnn.benchmark = True  # sizes stay the same: each convolution's fastest is looked for once

    def check(self, what, known):
        """Refuses a name that is not among `known`, those of the CPU."""
        known = known if self.precision is None else ("eager", "compiled")
        if self.name not in known:
            raise ValueError(f"no {what} mode `{self.name}`; there are {', '.join(known)}")

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def compile(self, function):
        return torch.compile(function) if self.compiled else function

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Feed:
    """The same batch at each step. On a GPU it comes from pinned memory by a stream of its own, the next one
    while a step computes."""

    def __init__(self, batch, mode):
        self.device, self.batch = mode.device, [x.contiguous(memory_format=mode.format) for x in batch]
        if self.device.type == "cuda":
            self.batch = [x.pin_memory() for x in self.batch]
            self.stream = torch.cuda.Stream()
            self.copy()

    def copy(self):
        with torch.cuda.stream(self.stream):
            self.ahead = [x.to(self.device, non_blocking=True) for x in self.batch]

    def next(self):
        if self.device.type != "cuda":
            return self.batch
        torch.cuda.current_stream().wait_stream(self.stream)
        batch = self.ahead
        for x in batch:
            x.record_stream(torch.cuda.current_stream())
        self.copy()
        return batch
