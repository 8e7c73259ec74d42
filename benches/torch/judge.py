"""Nearest neighbours, kNN and a logistic probe by FAISS, PyTorch and scikit-learn, on the features of benches/src/judge.rs."""

import numpy as np
import torch

from formula import uniform

APART, DECAY, K, T = 0.25, 1e-3, 20, 0.07
# Rows of queries whose products PyTorch holds at once.
BLOCK = 2048


def plain(name, rows, width):
    return uniform(name, rows * width).astype(np.float32).reshape(rows, width)


def labelled(split, rows, width, classes):
    labels = np.arange(rows) % classes
    centres = plain("judge.centres", classes, width)
    return plain(f"judge.{split}", rows, width) + np.float32(APART) * centres[labels], labels


class Judge:
    def __init__(self, name, mode):
        what, size, *rest = name.split("-")
        numbers = {part[0]: int(part[1:]) for part in rest}
        rows, width = map(int, size.split("x"))
        self.k, self.inside = numbers.get("k", K), what == "inside"
        if what in ("inside", "gallery"):
            self.gallery = plain("judge.train", rows, width)
            self.queries = self.gallery if self.inside else plain("judge.test", numbers["q"], width)
            self.images = len(self.queries)
            self.step = {"faiss": self.faiss, "torch": self.torch}[mode.name]
        else:
            self.train, self.labels = labelled("train", rows, width, numbers["c"])
            self.test, self.wanted = labelled("test", numbers["q"], width, numbers["c"])
            self.images = len(self.test)
            self.step = {"sklearn": {"knn": self.knn, "probe": self.probe}[what]}[mode.name]
        if mode.name == "faiss":
            import faiss

            faiss.omp_set_num_threads(torch.get_num_threads())

    def faiss(self):
        import faiss

        gallery, queries = self.gallery.copy(), self.queries.copy()
        faiss.normalize_L2(gallery)
        faiss.normalize_L2(queries)
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        # A row is among its own best.
        return index.search(queries, self.k + self.inside)

    @torch.inference_mode()
    def torch(self):
        gallery = torch.nn.functional.normalize(torch.from_numpy(self.gallery), dim=1)
        queries = torch.nn.functional.normalize(torch.from_numpy(self.queries), dim=1)
        # Fewer rows at once where the gallery is large: 64 Mi products.
        rows = max(1, min(BLOCK, (1 << 26) // len(gallery)))
        return [(part @ gallery.T).topk(self.k + self.inside) for part in queries.split(rows)]

    def knn(self):
        from sklearn.neighbors import KNeighborsClassifier

        vote = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / T))
        return vote.fit(self.train, self.labels).score(self.test, self.wanted)

    def probe(self):
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1 / (len(self.train) * DECAY), tol=1e-4, max_iter=1000)
        return model.fit(self.train, self.labels).score(self.test, self.wanted)
