"""
``python -m nbgrid.kmeans``: compile every kernel of a fit that is not in the cache yet, so that many processes that start
at once find them there.
"""

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._cache import folder


def main() -> None:
    """
    Fit and predict small data in both precisions; do nothing where that was done before.
    """
    done = folder() / "complete"
    if done.exists():
        return
    from nbgrid.kmeans import KMeans

    # Few rows start from k-means++, many from samples.
    rows = np.random.default_rng(0).standard_normal((20_000, 2))
    for X in (rows, rows.astype(np.float32)):
        for part in (X[:1000], X):
            KMeans(2, random_state=0).fit(part).predict(part)
    if done.parent.is_dir():
        done.touch()


if __name__ == "__main__":
    main()
