"""joblib and scikit-learn over our executor."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed

import lambdakernel

ROOT = Path(lambdakernel.__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def two_jobs() -> Iterator[None]:
    assert lambdakernel.__version__
    with joblib.parallel_config("lambdakernel", n_jobs=2):
        yield
    gc.collect()  # the workers end with their backend
    for thread in threading.enumerate():
        if thread.name == "lambdakernel-executor":
            thread.join(60)


def test_calls_run_in_workers_and_keep_the_order() -> None:
    assert Parallel()(delayed(lambda x: x * x)(n) for n in range(20)) == [n * n for n in range(20)]
    pids = set(Parallel()(delayed(os.getpid)() for _ in range(40)))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


@pytest.mark.parametrize("order", ["import lambdakernel, joblib", "import joblib, lambdakernel"])
def test_import_registers_it_in_either_order(order: str) -> None:
    code = f"""{order}
with joblib.parallel_config("lambdakernel", n_jobs=2):
    print(joblib.Parallel()(joblib.delayed(abs)(-n) for n in range(3)), joblib.parallel.get_active_backend()[0])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("[0, 1, 2]")
    assert "LambdaKernelBackend" in done.stdout


def test_calls_of_one_context_share_its_workers() -> None:
    first = {*Parallel()(delayed(os.getpid)() for _ in range(10))}
    assert {*Parallel()(delayed(os.getpid)() for _ in range(10))} & first


def test_a_missing_joblib_leaves_the_hook_in_place() -> None:
    code = """import sys
sys.path = [p for p in sys.path if "packages" not in p] + [%r]
import lambdakernel
try:
    import joblib
except ImportError as e:
    print(e, sum(type(f).__name__ == "_WhenJoblibComes" for f in sys.meta_path))"""
    done = subprocess.run([sys.executable, "-c", code % str(ROOT)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("No module named 'joblib' 1\n", "")


def test_an_error_comes_through_and_stops_the_rest() -> None:
    def work(n: int) -> None:
        if n == 0:
            raise ValueError("bad item")
        time.sleep(300)

    with pytest.raises(ValueError, match="bad item"):
        Parallel()(delayed(work)(n) for n in range(2))
    assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_a_parallel_call_inside_a_task_does_not_deadlock() -> None:
    def outer(n: int) -> int:
        return sum(Parallel(n_jobs=2)(delayed(abs)(-n) for _ in range(3)))

    assert Parallel()(delayed(outer)(n) for n in range(4)) == [0, 3, 6, 9]


def test_scikit_learn_gives_the_same_scores_as_without_it() -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    ours = cross_val_score(RandomForestClassifier(10, random_state=0), x, y, cv=3)
    with joblib.parallel_config("sequential"):
        plain = cross_val_score(RandomForestClassifier(10, random_state=0), x, y, cv=3)
    assert ours.tolist() == plain.tolist()
    assert RandomForestClassifier(10, random_state=0).fit(x, y).score(x, y) > 0.9
