"""The gradients of a training step that fgvr wrote, beside those of PyTorch in f64 and in f32.

The error of a parameter's gradient a is max|a - b| / max|b|, where b is PyTorch's in f64.

A ReLU's gradient jumps where its input is 0. Among millions of ReLUs some inputs lie so close to 0 that
f32 cannot tell their sign, and there the gradients of two right programs differ, as do those of PyTorch's
own f32 and f64. So two errors are given: `plain`, and `decided`, for which those ReLUs of the f64 network
whose inputs lie within CLOSE of 0 (relative to the root mean square of their layer's) are decided as the
other side decided them. How that was shows in the gradient of the bias of the norm before the ReLU, which
is the sum of the ReLU's own over images and places. The gradients of all other parameters, in that layer
and before it, have no part in the decision: a wrong one shows all the more. So with the two largest places
of a window of the max-pool: which of them has the gradient shows in that of the first convolution alone.
"""

import json
from itertools import combinations

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

CLOSE = 1e-4  # f32 errs by some 1e-5 in the last layers
PRICE = 1e-5  # what turning one must gain, relative to the largest sum: as much as f32 may err without
MOST = 10  # ReLUs of one channel that are decided together, the closest to 0 first


def read(path):
    """The tensors of a safetensors file by name."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(length))
        data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    kinds = {"F32": torch.float32, "I64": torch.int64}
    return {
        name: data[entry["data_offsets"][0] : entry["data_offsets"][1]].view(kinds[entry["dtype"]]).view(entry["shape"])
        for name, entry in head.items()
        if name != "__metadata__"
    }


class Decisions:
    """Whose ReLUs are followed: the gradients of that side by name (None: nobody's), and what was found."""

    def __init__(self):
        self.norm = None  # the last norm that ran
        self.follow(None)

    def follow(self, gradients):
        self.gradients = gradients
        self.turned, self.close, self.furthest = 0, 0, 0.0


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, norm, decisions):
        ctx.save_for_backward(x)
        ctx.norm, ctx.decisions = norm, decisions
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        on = x > 0
        decisions = ctx.decisions
        if decisions.gradients is not None:
            decide(on, x, gradient, decisions.gradients[f"{ctx.norm}.bias"].double(), decisions)
        return gradient * on, None, None


def decide(on, x, gradient, wanted, decisions):
    """Turns over those of `on` (N, C, H, W) that are too close to call and bring the sums nearer to `wanted` (C)."""
    distance = x.abs() / x.square().mean().sqrt()
    close = (distance < CLOSE).nonzero()  # (K, 4)
    decisions.close += len(close)
    left = wanted - (gradient * on).sum((0, 2, 3))
    price = PRICE * wanted.abs().max().item()
    for channel in close[:, 1].unique().tolist():
        places = close[close[:, 1] == channel]
        places = places[distance[tuple(places.T)].argsort()][:MOST]
        at = tuple(places.T)
        changes = torch.where(on[at], -gradient[at], gradient[at]).tolist()
        rest = left[channel].item()
        sets = (chosen for count in range(len(changes) + 1) for chosen in combinations(range(len(changes)), count))
        best = min(sets, key=lambda chosen: price * len(chosen) + abs(rest - sum(changes[k] for k in chosen)))
        for k in best:
            place = tuple(places[k])
            on[place] = ~on[place]
            decisions.turned += 1
            decisions.furthest = max(decisions.furthest, distance[place].item())


class Decided(nn.Module):
    """In the place of a ReLU."""

    def __init__(self, decisions):
        super().__init__()
        self.decisions = decisions

    def forward(self, x):
        return Relu.apply(x, self.decisions.norm, self.decisions)


class Pool(nn.Module):
    """In the place of the max-pool: keeps what went in, and the gradient of what came out."""

    def forward(self, x):
        y = F.max_pool2d(x, 3, 2, 1)
        self.x = x.detach()
        y.register_hook(lambda gradient: setattr(self, "gradient", gradient))
        return y


def decide_pool(model, images, wanted, found, decisions):
    """`found`, the gradient of the first convolution (C, 3, 7, 7), with those windows' gradients moved from the
    largest place to the second that are too close to call and bring it nearer to `wanted`."""
    x, gradient = model.maxpool.x, model.maxpool.gradient
    windows = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2)
    values, places = windows.topk(2)  # (N, C, h, w, 2)
    distance = (values[..., 0] - values[..., 1]) / x.square().mean().sqrt()
    close = ((distance < CLOSE) & (values[..., 1] > 0)).nonzero()  # (K, 4)
    # Moving a gradient between two places of the same value leaves the sums of the norm's backward as they
    # are, so each change is the norm's scale times the difference of the two patches.
    before = F.conv2d(images, model.conv1.weight.detach(), stride=2, padding=3)
    scale = model.bn1.weight.detach() / (before.var((0, 2, 3), correction=0) + model.bn1.eps).sqrt()
    padded = F.pad(images, (3, 3, 3, 3))

    def patch(n, row, column, place):
        top, left = 2 * (2 * row - 1 + place // 3), 2 * (2 * column - 1 + place % 3)
        return padded[n, :, top : top + 7, left : left + 7]

    found = found.clone()
    for channel in close[:, 1].unique().tolist():
        at = close[close[:, 1] == channel].tolist()
        changes = []
        for n, _, row, column in at:
            first, second = places[n, channel, row, column].tolist()
            moved = patch(n, row, column, second) - patch(n, row, column, first)
            changes.append(scale[channel] * gradient[n, channel, row, column] * moved)
        columns = torch.stack(changes).flatten(1).T  # (147, K)
        left = (wanted[channel] - found[channel]).flatten()[:, None]
        share = torch.linalg.lstsq(columns, left, driver="gelsd").solution[:, 0]
        price = PRICE * wanted[channel].abs().max()
        for k, (n, _, row, column) in enumerate(at):
            if share[k] > 0.5 and changes[k].abs().max() > price:
                found[channel] += changes[k]
                decisions.turned += 1
                decisions.furthest = max(decisions.furthest, distance[n, channel, row, column].item())
    return found


def network(name, values, dtype, memory_format):
    model = getattr(torchvision.models, name)(num_classes=1000)
    missing, unknown = model.load_state_dict(values, strict=False)
    missing = [name for name in missing if "running" not in name and "num_batches" not in name]
    if missing or unknown:
        raise ValueError(f"the networks differ: {missing} are missing, {unknown} are unknown")
    return model.train().to(dtype=dtype, memory_format=memory_format)


def watched(model):
    """`model` with ReLUs that can be decided, and the decisions."""
    decisions = Decisions()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_, name=name: setattr(decisions, "norm", name))
        for child, part in list(module.named_children()):
            if isinstance(part, nn.ReLU):
                setattr(module, child, Decided(decisions))
    model.maxpool = Pool()
    return model, decisions


def gradients(model, loss, retain=False):
    names, parameters = zip(*model.named_parameters())
    return dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=retain)))


def errors(found, reference):
    """The worst parameter, its error, and the median error."""
    by_name = {}
    for name, b in reference.items():
        a = found[name].double()
        if a.shape != b.shape:
            raise ValueError(f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
        by_name[name] = ((a - b).abs().max() / b.abs().max()).item()
    if not all(error == error for error in by_name.values()):
        raise ValueError("a gradient is not a number")
    worst = max(by_name, key=by_name.get)
    median = torch.tensor(list(by_name.values()), dtype=torch.double).quantile(0.5).item()
    return {"worst": by_name[worst], "parameter": worst, "median": median}


def compare(name, path):
    """Errors of fgvr's gradients in the file at `path`, and of PyTorch's in f32."""
    tensors = read(path)
    images, labels = tensors["images"], tensors["labels"]
    values, ours = (
        {key.removeprefix(kind): tensor for key, tensor in tensors.items() if key.startswith(kind)}
        for kind in ("value/", "gradient/")
    )

    single = network(name, values, torch.float32, torch.channels_last)
    x = images.contiguous(memory_format=torch.channels_last)
    theirs = gradients(single, F.cross_entropy(single(x), labels))

    double, decisions = watched(network(name, values, torch.float64, torch.contiguous_format))
    loss = F.cross_entropy(double(images.double()), labels)
    reference = gradients(double, loss, retain=True)
    sides = {}
    for side, found in (("fgvr", ours), ("torch f32", theirs)):
        if found.keys() != reference.keys():
            raise ValueError(f"{side}: other parameters: {sorted(found.keys() ^ reference.keys())}")
        decisions.follow(found)
        decided = gradients(double, loss, retain=True)
        first = found["conv1.weight"].double()
        decided["conv1.weight"] = decide_pool(double, images.double(), first, decided["conv1.weight"], decisions)
        sides[side] = {
            "plain": errors(found, reference),
            "decided": errors(found, decided),
            "turned": decisions.turned,
            "close": decisions.close,
            "furthest": decisions.furthest,
        }
    return {"parameters": len(reference), "loss": loss.item(), "sides": sides}
