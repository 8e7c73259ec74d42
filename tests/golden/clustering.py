"""k-means, and how well clusters agree with classes, by scikit-learn.

python tests/golden/clustering.py tests/golden/clustering.safetensors
Made with numpy 2.4.6, safetensors 0.8.0, scikit-learn 1.9.1.
"""

import sys

import numpy as np
from safetensors.numpy import save_file
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

rng = np.random.default_rng(0)
n = 120
parts = lambda k: rng.integers(0, k, n)
five = parts(5)
pairs = {
    "random": (parts(5), five),
    "many_clusters": (parts(40), five),
    "few_clusters": (parts(2), five),
    "same": (five * 7 + 3, five),
    "shifted": (np.where(rng.random(n) < 0.2, parts(5), five), five),
    "one_cluster": (np.zeros(n, int), five),
    "one_class": (parts(5), np.zeros(n, int)),
    "one_of_each": (np.zeros(n, int), np.ones(n, int)),
    "lone_items": (np.arange(n), five),
    "lone_items_of_both": (np.arange(n), n - np.arange(n)),
    "lone_class": (parts(3), np.where(np.arange(n) == 17, 9, 4)),
}
out = {}
for name, (clusters, classes) in pairs.items():
    out[f"{name}.clusters"] = clusters.astype(np.int64)
    out[f"{name}.classes"] = classes.astype(np.int64)
    purity = contingency_matrix(classes, clusters).max(0).sum() / n
    out[f"{name}.scores"] = np.array([
        normalized_mutual_info_score(classes, clusters),
        adjusted_rand_score(classes, clusters),
        purity,
    ])

# Overlapping groups with duplicates and rows of zeros among them.
centres = 1.5 * rng.standard_normal((6, 8))
features = centres[rng.integers(0, 6, 300)] + 0.6 * rng.standard_normal((300, 8))
features[:20] = features[20:40]
features[40:45] = 0
features = features.astype(np.float32)
found = KMeans(6, n_init=100, tol=0, random_state=0).fit(features.astype(np.float64))
out["features"] = features
out["assignment"] = found.labels_.astype(np.int64)
out["inertia"] = np.array([found.inertia_])

save_file(out, sys.argv[1])
