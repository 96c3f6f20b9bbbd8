"""Notebooks that start processes: multiprocessing in its three ways, futures, joblib and dask."""

from __future__ import annotations

from corpus.entry import Entry

_SQUARES = """
def square(n):
    return n * n
"""

PROCESSES = (
    Entry(
        name="multiprocessing_by_fork",
        text="""
# %%
import multiprocessing, os
# %%
def cube(n): return n ** 3
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool: print(pool.map(cube, range(5)))
# %%
queue = context.Queue()
process = context.Process(target=lambda: queue.put("by a child"))
process.start(); print(queue.get()); process.join(); print(process.exitcode)
# %%
import threading
thread = get_ipython().kernel.iopub_thread
arrived, send = threading.Event(), thread.send_multipart
def seen(frames, *arguments, **options):
    send(frames, *arguments, **options)
    if any(b"printed by a child" in bytes(frame) for frame in frames): arrived.set()
thread.send_multipart = seen
process = context.Process(target=print, args=("printed by a child",))
process.start(); process.join()
assert arrived.wait(30)
del thread.send_multipart
# %%
with context.Manager() as manager:
    shared = manager.dict(); shared["k"] = 1; print(shared)
lock, value = context.Lock(), context.Value("i", 3)
with lock: value.value += 1
value.value
# %%
def fails(n): raise ValueError(f"in a child {n}")
pool = context.Pool(1)
try: pool.map(fails, [1])
except ValueError as error: print(error, type(error.__cause__).__name__)
"the pool is left open"
""",
        shows=("[0, 1, 8, 27, 64]", "by a child", "printed by a child", "{'k': 1}", "4", "in a child 1 RemoteTraceback"),
    ),
    Entry(
        name="multiprocessing_by_spawn",
        text="""
# %%
import multiprocessing
import squares
# %%
with multiprocessing.get_context("spawn").Pool(2) as pool: print(pool.map(squares.square, range(5)))
# %%
import concurrent.futures
with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
    print(list(pool.map(squares.square, [7])))
""",
        files={"squares.py": _SQUARES},
        shows=("[0, 1, 4, 9, 16]", "[49]"),
    ),
    Entry(
        name="multiprocessing_by_forkserver",
        text="""
# %%
import multiprocessing
# %%
import squares
context = multiprocessing.get_context("forkserver")
with context.Pool(2) as pool: print(pool.map(squares.square, range(5)))
# %%
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=10)
memory.buf[:3] = b"abc"; print(bytes(memory.buf[:3])); memory.close(); memory.unlink()
""",
        files={"squares.py": _SQUARES},
        shows=("[0, 1, 4, 9, 16]", "b'abc'"),
    ),
    Entry(
        name="futures_and_joblib",
        needs=("joblib",),
        text="""
# %%
import concurrent.futures
import joblib
# %%
def cube(n): return n ** 3
with concurrent.futures.ProcessPoolExecutor(2) as pool: print(list(pool.map(cube, range(4))))
# %%
print(joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(cube)(n) for n in range(4)))
# %%
def lost(n):
    import os
    os._exit(1)
with concurrent.futures.ProcessPoolExecutor(1) as pool:
    print(type(pool.submit(lost, 1).exception()).__name__)
# %%
import os
found = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(lambda n: (n ** 2, os.getpid()))(n) for n in range(4))
print([n for n, _ in found], os.getpid() in {pid for _, pid in found})
# %%
memory = joblib.Memory("cached", verbose=0)
cached = memory.cache(cube)
cached(3), cached.check_call_in_cache(3)
""",
        shows=("[0, 1, 8, 27]", "BrokenProcessPool", "[0, 1, 4, 9] False", "(27, True)"),
    ),
    Entry(
        name="dask_in_threads",
        needs=("dask", "numpy", "pandas", "pyarrow"),
        text="""
# %%
import dask
import dask.array as da
# %%
print(da.ones((400, 400), chunks=100).sum().compute(), dask.delayed(sum)([1, 2, 3]).compute(scheduler="threads"))
# %%
import dask.dataframe as dd, pandas as pd
dd.from_pandas(pd.DataFrame({"a": range(10)}), npartitions=2).a.sum().compute(scheduler="threads")
# %%
import dask.bag as db
db.from_sequence(range(4), npartitions=2).map(lambda n: n + 1).compute(scheduler="synchronous")
""",
        shows=("160000.0 6", "45", "[1, 2, 3, 4]"),
    ),
    Entry(
        name="a_cluster_of_its_own",
        needs=("distributed",),
        text="""
# %%
from distributed import Client, LocalCluster
# %%
cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, host="127.0.0.1")
client = Client(cluster)
# %%
def cube(n): return n ** 3
print(client.gather(client.map(cube, range(4))), client.submit(cube, 5).result())
# %%
import os
client.submit(os.getpid).result() == os.getpid()
# %%
client.close(); cluster.close()
""",
        shows=("[0, 1, 8, 27] 125", "False"),
    ),
    Entry(
        name="a_cluster_in_threads",
        needs=("distributed", "joblib"),
        text="""
# %%
from distributed import Client
import joblib
# %%
client = Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None)
def cube(n): return n ** 3
client.gather(client.map(cube, range(4)))
# %%
import os
client.submit(os.getpid).result() == os.getpid()
# %%
with joblib.parallel_config(backend="dask"): print(joblib.Parallel()(joblib.delayed(cube)(n) for n in range(5)))
# %%
import dask.array as da
float(da.ones((400, 400), chunks=100).sum().compute())
# %%
client.close()
""",
        shows=("[0, 1, 8, 27]", "True", "[0, 1, 8, 27, 64]", "160000.0"),
    ),
)  # fmt: skip
