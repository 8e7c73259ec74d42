"""Nuisance covariance, mutual neighbours, and the whitening by each covariance, from their definitions in f64.

python tests/golden/adaptation.py tests/golden/adaptation.safetensors
Made with numpy 2.4.6, safetensors 0.8.0.
"""

import sys

import numpy as np
from safetensors.numpy import save_file

rng = np.random.default_rng(0)
images, views_per_image, width, k, ridge, weight = 40, 3, 12, 3, 0.3, 1.0

# Six classes; views move along few directions, images of a class along others. The mean is far from 0.
mixing = np.linalg.qr(rng.standard_normal((width, width)))[0] * np.geomspace(2.0, 0.05, width)
centres = 3 * rng.standard_normal((6, width))
images_at = centres[np.arange(images) % 6] + 0.5 * rng.standard_normal((images, width))
features = (images_at + 5).astype(np.float32)
moves = rng.standard_normal((images, views_per_image, width)) @ mixing.T
views = (images_at[:, None] + 5 + moves).astype(np.float32)
out = {"features": features, "views": views}

f, v = features.astype(np.float64), views.astype(np.float64)
mean, total = f.mean(0), np.cov(f.T)
within = np.mean([np.cov(image.T) for image in v], axis=0)
out |= {"mean": mean, "total": total, "within": within}
out["within_eigenvalues"] = np.linalg.eigvalsh(within)
shares = out["within_eigenvalues"] / np.trace(within)
out["effective_rank"] = np.array([np.exp(-(shares * np.log(shares)).sum())])


def whitening(covariance):
    """W of shape (C, C), scaled so that outputs have a mean square of 1."""
    a = covariance / np.trace(covariance) + ridge / width * np.eye(width)
    w = np.linalg.inv(np.linalg.cholesky(a))
    return w / np.sqrt(np.mean(((f - mean) @ w.T) ** 2))


y = (f - mean) @ whitening(within).T
unit = y / np.linalg.norm(y, axis=1, keepdims=True)
similarity = unit @ unit.T
np.fill_diagonal(similarity, -np.inf)
ranked = np.sort(similarity, axis=1)[:, ::-1]
# No neighbour is decided by rounding.
assert (ranked[:, k - 1] - ranked[:, k]).min() > 1e-4
nearest = np.argsort(-similarity, axis=1)[:, :k]
pairs = [(i, j) for i in range(images) for j in range(i + 1, images) if j in nearest[i] and i in nearest[j]]
differences = np.array([f[i] - f[j] for i, j in pairs])
neighbours = np.mean([np.outer(d, d) / 2 for d in differences], axis=0)
out |= {"pairs": np.array(pairs, dtype=np.int64), "neighbour_covariance": neighbours}

values, vectors = np.linalg.eigh(total - within)
assert values.min() < 0 < values.max()
between = vectors @ np.diag(values.clip(0)) @ vectors.T
kinds = {
    "nuisance": within,
    "total": total,
    "between": between,
    "neighbours": neighbours,
    "nuisance-neighbours": within / np.trace(within) + weight * neighbours / np.trace(neighbours),
}
weights = {name: whitening(covariance) for name, covariance in kinds.items()}
weights["centred"] = np.eye(width) / np.sqrt(np.mean((f - mean) ** 2))
for name, w in weights.items():
    out[f"{name}_weight"] = w
    out[f"{name}_outputs"] = (f - mean) @ w.T
save_file({name: np.ascontiguousarray(value) for name, value in out.items()}, sys.argv[1])
print(len(pairs), "pairs; eigenvalues of between", values.min(), values.max())
