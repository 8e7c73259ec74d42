"""Nearest neighbours, kNN, retrieval and logistic regression by FAISS, scikit-learn and pytorch-metric-learning, on random
and on awkward sets: ties, duplicates, rows of zeros, classes of one row, a single class.

python tests/golden/judging.py tests/golden/judging.safetensors
Made with faiss-cpu 1.15.1, scikit-learn 1.9.1, pytorch-metric-learning 2.9.0, torch 2.15.0, numpy 2.4.6 (CPU).
"""

import sys

import faiss
import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
WIDTH, K, T = 12, 7, 0.07


def blobs(rows, classes, spread):
    labels = rng.integers(0, classes, rows)
    centres = np.random.default_rng(1).normal(size=(classes, WIDTH))
    return (centres[labels] + spread * rng.normal(size=(rows, WIDTH))).astype(np.float32), labels


def cases():
    """name: training rows and labels, test rows and labels."""
    yield "random", *blobs(150, 6, 0.8), *blobs(90, 6, 0.8)
    train, labels = blobs(120, 5, 0.9)
    test, wanted = blobs(60, 5, 0.9)
    yield "duplicates", np.concatenate([train, train[:40], train[:40]]), np.concatenate([labels, labels[:40], rng.permutation(labels[:40])]), np.concatenate([test, train[:20], test[:20]]), np.concatenate([wanted, labels[:20], wanted[:20]])
    # Few different rows of small whole numbers with equal lengths: products are exact, and most of them tie.
    def signs(rows):
        return rng.choice([-0.5, 0.5], size=(rows, 4)).astype(np.float32)
    yield "ties", signs(130), rng.integers(0, 4, 130), signs(50), rng.integers(0, 4, 50)
    train, labels = blobs(100, 5, 0.7)
    test, wanted = blobs(50, 5, 0.7)
    train, test = train.copy(), test.copy()
    train[::9], test[::7] = 0, 0
    yield "zeros", train, labels, test, wanted
    train, labels = blobs(80, 4, 0.8)
    test, wanted = blobs(40, 4, 0.8)
    labels, wanted = labels.copy(), wanted.copy()
    labels[[3, 50]], wanted[[0, 7, 39]] = [100, 101], [200, 201, 100]
    yield "lone", train, labels, test, wanted
    yield "one_class", blobs(40, 3, 1)[0], np.zeros(40, int), blobs(20, 3, 1)[0], np.zeros(20, int)


def unit(rows):
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows, dtype=np.float64), where=lengths > 0)


def stable(query, k, reference, ref_includes_query):
    """What pytorch-metric-learning ranks by: cosine, equal ones by index, the query itself left out."""
    scores = (query @ reference.T).double().numpy()
    if ref_includes_query:
        np.fill_diagonal(scores, -np.inf)
        k = min(k - 1, len(reference) - 1)
    # Equal rows are equally similar: f64 products of the same numbers may differ in their last bits.
    order = np.argsort(-np.round(scores, 12), axis=1, kind="stable")[:, :k]
    return torch.from_numpy(order), torch.from_numpy(np.take_along_axis(scores, order, 1))


class Ranker:
    def __call__(self, query, k, reference, ref_includes_query=False):
        distances_last = stable(query, k, reference, ref_includes_query)
        return distances_last[1], distances_last[0]


def retrieval(query, wanted, reference, labels, inside):
    """mAP, MAP@R, R-precision and rank 1, over the queries whose class there is to find."""
    query, reference = torch.from_numpy(unit(query)), torch.from_numpy(unit(reference))
    calculator = AccuracyCalculator(
        include=("mean_average_precision", "mean_average_precision_at_r", "r_precision", "precision_at_1"),
        k=len(reference),
        knn_func=Ranker(),
        device=torch.device("cpu"),
    )
    found = calculator.get_accuracy(query, torch.from_numpy(wanted), reference, torch.from_numpy(labels), ref_includes_query=inside)
    names = ("mean_average_precision", "mean_average_precision_at_r", "r_precision", "precision_at_1")
    return torch.tensor([found[name] for name in names], dtype=torch.float64)


out = {}
for name, train, labels, test, wanted in cases():
    out |= {f"{name}.train": torch.from_numpy(train), f"{name}.test": torch.from_numpy(test)}
    out |= {f"{name}.labels": torch.from_numpy(labels), f"{name}.wanted": torch.from_numpy(wanted)}
    # FAISS: similarities only, since its order of equal ones is its own.
    a, b = unit(train).astype(np.float32), unit(test).astype(np.float32)
    index = faiss.IndexFlatIP(a.shape[1])
    index.add(a)
    out[f"{name}.faiss"] = torch.from_numpy(index.search(b, K)[0])
    index = faiss.IndexFlatIP(b.shape[1])
    index.add(b)
    # The row itself is among its own K + 1 best in similarity, with the highest or an equal one.
    out[f"{name}.faiss_inside"] = torch.from_numpy(index.search(b, K + 1)[0])
    out[f"{name}.retrieval"] = retrieval(test, wanted, test, wanted, True)
    out[f"{name}.cross"] = retrieval(test, wanted, train, labels, False)
    if name != "ties":  # scikit-learn takes any of equally near neighbours
        for k in (1, 5, 20):
            vote = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / T), metric="cosine", algorithm="brute")
            hits = vote.fit(train.astype(np.float64), labels).predict(test.astype(np.float64)) == wanted
            out[f"{name}.knn{k}"] = torch.from_numpy(hits.astype(np.uint8))
    if len(set(labels)) > 1:
        scaler = StandardScaler().fit(train)
        for decay in (1e-3, 1e-1):
            model = LogisticRegression(C=1 / (len(train) * decay), tol=1e-8, max_iter=10_000)
            model.fit(scaler.transform(train).astype(np.float64), labels)
            hits = model.predict(scaler.transform(test).astype(np.float64)) == wanted
            out[f"{name}.probe{decay:g}"] = torch.from_numpy(hits.astype(np.uint8))
save_file({name: value.contiguous() for name, value in out.items()}, sys.argv[1])
print(f"{len(out)} tensors")
