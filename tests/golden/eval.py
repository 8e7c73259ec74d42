"""kNN, retrieval, logistic regression and measures of spread, from their definitions.

python tests/golden/eval.py tests/golden/eval.safetensors
Made with torch 2.15.0, numpy 2.4.6, safetensors 0.8.0 (CPU).
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
classes, width = 7, 16
centres = torch.randn(classes, width)
train_labels = torch.randint(0, classes, (200,))
test_labels = torch.randint(0, classes, (100,))
spread = 1.3 * torch.linspace(0.2, 2.0, width)
train = centres[train_labels] + spread * torch.randn(200, width)
test = centres[test_labels] + spread * torch.randn(100, width)
out = {"train": train, "test": test, "train_labels": train_labels, "test_labels": test_labels}


def number(name, value):
    out[name] = torch.tensor([float(value)], dtype=torch.float64)


# kNN: k = 20, T = 0.07, in f64.
a, b = F.normalize(train.double(), dim=1), F.normalize(test.double(), dim=1)
similarity, neighbours = (b @ a.T).topk(20, dim=1)
votes = torch.zeros(100, classes, dtype=torch.float64)
votes.scatter_add_(1, train_labels[neighbours], (similarity / 0.07).exp())
ranked = votes.argsort(1, descending=True)
voted = votes.gather(1, ranked) > 0
hits = (ranked == test_labels[:, None]) & voted
number("knn_top1", hits[:, 0].double().mean())
number("knn_top5", hits[:, :5].any(1).double().mean())

# Retrieval on small integers, so that products are exact and many of them tie.
items = torch.randint(-2, 3, (120, 6)).float()
item_labels = torch.randint(0, 9, (120,))
item_labels[5] = 100  # alone in its class
scores = (items @ items.T).numpy()
labels = item_labels.numpy()
rank1, rank5, precision, at_r = [], [], [], []
for q in range(len(items)):
    order = [i for i in np.argsort(-scores[q], kind="stable") if i != q]
    relevant = labels[order] == labels[q]
    n = relevant.sum()
    if n == 0:
        continue
    at = np.cumsum(relevant) / np.arange(1, len(order) + 1)
    rank1.append(relevant[0])
    rank5.append(relevant[:5].any())
    precision.append((at * relevant).sum() / n)
    at_r.append((at * relevant)[:n].sum() / n)
out |= {"items": items, "item_labels": item_labels}
number("rank1", np.mean(rank1))
number("rank5", np.mean(rank5))
number("map", np.mean(precision))
number("map_at_r", np.mean(at_r))

# Logistic regression on standardised features: the optimum, and 30 steps of SGD.
scaled = (train - train.mean(0)) / train.std(0, unbiased=False)
out["scaled"] = scaled
x = scaled.double()
weight = torch.zeros(classes, width, dtype=torch.float64, requires_grad=True)
bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
optimiser = torch.optim.LBFGS(
    [weight, bias], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
)


def closure():
    optimiser.zero_grad()
    loss = F.cross_entropy(x @ weight.T + bias, train_labels) + 0.01 / 2 * weight.square().sum()
    loss.backward()
    return loss


optimiser.step(closure)
assert weight.grad.abs().max() < 1e-9
out |= {"optimum_weight": weight.detach(), "optimum_bias": bias.detach() - bias.detach().mean()}

weight = torch.zeros(classes, width, dtype=torch.float64, requires_grad=True)
bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
optimiser = torch.optim.SGD([weight, bias], lr=0.5, momentum=0.9, weight_decay=1e-3)
for epoch in range(30):
    optimiser.param_groups[0]["lr"] = 0.5 * 0.5 * (1 + math.cos(math.pi * epoch / 30))
    optimiser.zero_grad()
    F.cross_entropy(x @ weight.T + bias, train_labels).backward()
    optimiser.step()
out |= {"sgd_weight": weight.detach(), "sgd_bias": bias.detach()}

# Spread.
for name, rows in (("tall", train), ("wide", train[:10])):
    centred = rows.double() - rows.double().mean(0)
    values = np.linalg.eigvalsh((centred.T @ centred).numpy()).clip(0)
    p = values / values.sum()
    p = p[p > 0]
    number(f"effective_rank_{name}", math.exp(-(p * np.log(p)).sum()))
number("embedding_std", a.std(0, unbiased=False).mean())
number("alignment", (a[:100] - b).norm(dim=1).pow(2).mean())
number("uniformity", torch.pdist(a).pow(2).mul(-2).exp().mean().log())

save_file({name: tensor.contiguous() for name, tensor in out.items()}, sys.argv[1])
