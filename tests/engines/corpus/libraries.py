"""Numbers and tables: libraries with threads, compilers and memory of their own, loaded before the first cell or in it."""

from __future__ import annotations

from corpus.entry import Entry

LIBRARIES = (
    Entry(
        name="blas_and_threads",
        needs=("numpy", "scipy", "threadpoolctl"),
        text="""
# %%
import numpy as np
import scipy.linalg
# %%
a = np.random.default_rng(0).normal(size=(600, 600))
print((a @ a).sum().round(6), np.linalg.svd(a, compute_uv=False)[0].round(6))
print(scipy.linalg.lu(a)[2].trace().round(6))
# %%
import os, threadpoolctl
print(sorted((pool["internal_api"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()))
print([os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")])
# %%
np.set_printoptions(precision=2)
a[:2, :3]
# %%
with np.errstate(all="warn"): np.array([1.0]) / 0
np.geterr()
""",
        shows=("openblas", "['2', '2', '2']", "0.13", "divide by zero"),
    ),
    Entry(
        name="compiled",
        needs=("numba", "numpy"),
        text="""
# %%
import numba
import numpy as np
from numba import njit, prange
# %%
@njit
def total(a):
    found = 0.0
    for x in a: found += x
    return found
total(np.arange(10.0))
# %%
@njit(parallel=True)
def parallel(n):
    found = 0
    for i in prange(n): found += i
    return found
print(parallel(1000), parallel(1000), numba.get_num_threads())
# %%
@numba.vectorize(["float64(float64)"], target="parallel")
def half(x): return x / 2
half(np.arange(3.0))
# %% raises-exception
@njit
def wrong(a): return a.no_such_attribute
wrong(1)
""",
        shows=("45.0", "499500 499500 2", "TypingError"),
    ),
    Entry(
        name="estimators",
        needs=("sklearn", "joblib", "threadpoolctl"),
        text="""
# %%
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
# %%
X, y = make_blobs(n_samples=400, centers=4, random_state=0)
model = KMeans(4, n_init=2, random_state=0).fit(X)
print(round(model.inertia_, 6), sorted(map(int, (model.labels_ == 0).nonzero()[0]))[:5])
model
# %%
print(round(HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y).score(X, y), 6))
print(RandomForestClassifier(10, n_jobs=2, random_state=0).fit(X, y).predict_proba(X[:1]).round(6))
# %%
from sklearn.metrics import pairwise_distances
print(pairwise_distances(X, n_jobs=2).sum().round(3))
# %%
import threadpoolctl
print(sorted((pool["user_api"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()))
""",
        varies=(r"sk-container-id-\d+",),
        shows=("KMeans", "text/html", "('openmp', 2)"),
    ),
    Entry(
        name="tables",
        needs=("pandas", "pyarrow"),
        text="""
# %%
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
# %%
frame = pd.DataFrame({"n": range(50_000), "word": [f"w{n % 7}" for n in range(50_000)]})
frame.to_parquet("frame.parquet")
back = pd.read_parquet("frame.parquet")
print(back.equals(frame), back.groupby("word")["n"].sum().head(2), sep="\\n")
# %%
table = pq.read_table("frame.parquet", columns=["n"], use_threads=True)
print(table.num_rows, pa.compute.sum(table["n"]), table.schema)
# %%
pa.set_cpu_count(2); print(pa.cpu_count(), pa.array(["a", None]).null_count)
back.memory_usage(), back["word"].astype("category").cat.categories
""",
        shows=("True", "w0", "50000", "1249975000"),
    ),
)  # fmt: skip
