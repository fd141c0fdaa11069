"""Values that raise, hang, recurse or are too large: each is named with its reason, and costs nothing else anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.kernels import Kernel, Result, eventually, running

SESSION = "notebooks/bad.ipynb"
HOOK_S = 1.0
LIMIT = 3_000_000
SETTINGS = {"LAMBDAKERNEL_HOOK_DEADLINE_S": str(HOOK_S), "LAMBDAKERNEL_MAX_VALUE_BYTES": str(LIMIT)}
HOOKS = """
import functools, sys, threading, time
class Raises:
    def __reduce__(self): raise ValueError("no")
class Exits:
    def __getstate__(self): raise SystemExit(3)
class Interrupts:
    def __reduce_ex__(self, protocol): raise KeyboardInterrupt
class Recurses:
    def __getstate__(self): return self.__getstate__()
class RecursesInC:
    def __reduce__(self): return sorted([1, 2], key=lambda _: self.__reduce__())
class Endless:
    def __reduce__(self): return list, (), None, iter(int, 1)
class Nested:
    def __reduce__(self): return Nested, (), {"next": Nested()}
class Incomparable:
    def __eq__(self, other): raise ValueError("eq")
    def __hash__(self): raise ValueError("hash")
class Sleeps:
    def __reduce__(self): time.sleep(1000)
class Spins:
    def __getstate__(self):
        while True: pass
class Waits:
    def __reduce__(self):
        lock = threading.Lock()
        lock.acquire(); lock.acquire()
class Clings:
    def __getstate__(self):
        for _ in range(3):
            try: time.sleep(1000)
            except BaseException: pass
        raise ValueError("at last")
class Evasive:
    def __getattr__(self, name): raise ValueError(name)
keep = [1]
"""


@pytest.fixture(params=["warm", "cold"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    env = {**SETTINGS, "LAMBDAKERNEL_COLD": str(int(request.param == "cold"))}
    with running(tmp_path / "store", session=SESSION, env=env) as kernel:
        yield kernel


def why(kernel: Kernel, name: str) -> str:
    """Why a variable is said to be gone once its worker is."""
    kernel.kill_worker()
    result = kernel.run(name)
    assert result.ename == "ResidentLost", (name, result.shown)
    assert result.evalue.startswith(f"{name} is gone") and f"del {name}" in result.evalue
    return result.evalue


# -- code of a value that raises, recurses or hangs


def test_what_raises_or_recurses_is_named_and_the_rest_is_committed(kernel: Kernel) -> None:
    # `SystemExit` ended the worker, and after `KeyboardInterrupt` no client had an answer any more.
    kernel.run(HOOKS)
    made = kernel.run(
        "a, b, c = Raises(), {'b': [Exits()]}, Interrupts()\n"
        "d, e, f, g = Recurses(), RecursesInC(), Endless(), Nested()\n"
        "odd = Incomparable(); keep.append(2); fine = {'x': keep}"
    )
    assert made.status == "ok", made.shown
    reasons = {
        "a": "not picklable (ValueError: no)",
        "b": "b['b'][0] is not picklable (its own code raised SystemExit)",
        "c": "its own code raised KeyboardInterrupt",
        "d": "recurses without end",
        "e": "recurses without end",
        "f": "larger than max_value_bytes (3,000,000); raise that setting",
        "g": "recurses without end",
    }
    kernel.kill_worker()
    for name, reason in reasons.items():
        result = kernel.run(name)
        assert result.ename == "ResidentLost" and reason in result.evalue, (name, result.shown)
    assert kernel.value("(keep, fine['x'] is keep, type(odd).__name__)") == ([1, 2], True, "Incomparable")
    assert kernel.run("a = 1").status == "ok"
    assert kernel.value("a") == 1


def test_what_hangs_is_stopped_at_its_deadline_and_the_rest_is_committed(kernel: Kernel) -> None:
    kernel.run(HOOKS)
    start = time.monotonic()
    made = kernel.run(
        "s, t = Sleeps(), [Spins()]; w, c, x = Waits(), Clings(), Evasive(); keep.append(2); s2 = Sleeps(); n = 1"
    )
    assert made.status == "ok", made.shown
    assert time.monotonic() - start >= HOOK_S
    kernel.kill_worker()
    expected = {
        "s": "its __reduce__ did not return in",
        "t": "t[0] is not picklable (its __getstate__ did not return in",
        "w": "its __reduce__ did not return in",
        "c": "its __getstate__ did not return in",
        "s2": "its __reduce__ did not return in",
    }
    for name, reason in expected.items():
        result = kernel.run(name)
        assert result.ename == "ResidentLost" and reason in result.evalue, (name, result.shown)
    assert kernel.value("(keep, n)") == ([1, 2], 1)


def test_an_interrupt_while_a_cell_is_saved_skips_what_hangs_and_saves_the_rest(tmp_path: Path) -> None:
    with running(tmp_path / "store", session=SESSION) as kernel:  # with the deadlines of the defaults
        kernel.run(HOOKS)
        for code, pause_s in [("s = Sleeps(); keep.append(2); print('ran', flush=True)", 1.0), ("keep.append(3)", 0.0)]:
            msg_id = kernel.client.send(f"{code}; t = [Spins()]; n = len(keep); print('end', flush=True)")
            kernel.client.await_output(msg_id, "stream")
            time.sleep(pause_s)
            interrupted_until_it_replies(kernel, msg_id)  # an error, if the first one met the end of the cell itself
        assert "its __getstate__ was interrupted" in why(kernel, "t")
        assert "its __reduce__ was interrupted" in kernel.run("s").evalue
        assert kernel.value("(keep, n)") == ([1, 2, 3], 3)


def interrupted_until_it_replies(kernel: Kernel, msg_id: str) -> Result:
    """As an impatient user does it. One interrupt may meet the cell's last steps, where it is too late to matter."""
    for _ in range(10):
        kernel.manager.interrupt_kernel()
        try:
            return kernel.client.result(msg_id, 2.0)
        except TimeoutError:
            continue
    raise TimeoutError(f"{msg_id} is not answered, although it was interrupted ten times")


# -- values that are nested deeply, and values that are large


DEEP = """
import sys
N = 100_000
class Node: pass
def lists():
    x = []
    for _ in range(N): x = [x]
    return x
def dicts():
    x = {}
    for _ in range(N): x = {"next": x}
    return x
def tuples():
    x = ()
    for i in range(N): x = (i, x)
    return x
def chain(start=None):
    x = start
    for _ in range(N):
        node = Node(); node.next = x; x = node
    return x
def doubly():
    first = last = Node(); last.before = None
    for _ in range(N // 10):
        node = Node(); node.before = last; last.next = node; last = node
    last.next = None
    return first, last
"""
DEPTHS = """
def depth(x, step):
    n = 0
    while x is not None and x != () and (type(x) is Node or len(x)):
        x = step(x); n += 1
    return n
found = [
    depth(l, lambda x: x[0]), depth(d, lambda x: x["next"]), depth(t, lambda x: x[1]), depth(c, lambda x: x.next),
    depth(first, lambda x: x.next), depth(last, lambda x: x.before), first.next.before is first, end is c.next.next.end,
]
del depth
"""


def test_values_that_are_100_000_deep_move(tmp_path: Path) -> None:
    # A cell that raised the recursion limit, as one does for such values, let the pickler run over its stack's end.
    with running(tmp_path / "store", session=SESSION) as kernel:
        kernel.run(DEEP)
        worker = kernel.worker()
        made = kernel.run(
            "sys.setrecursionlimit(1_000_000)\n"
            "l, d, t, c = lists(), dicts(), tuples(), chain()\n"
            "end = [1]; c.next.next.end = end; first, last = doubly()",
            timeout=120,
        )
        assert made.status == "ok", made.shown
        assert kernel.worker() == worker
        kernel.kill_worker()
        assert kernel.run(DEPTHS, timeout=120).status == "ok"
        assert kernel.value("found[:6]") == [100_000, 100_000, 100_000, 100_000, 10_001, 10_001]
        assert kernel.value("found[6:]") == [True, True]


def test_what_is_deep_through_code_of_its_own_stays_and_ends_no_process(tmp_path: Path) -> None:
    with running(tmp_path / "store", session=SESSION) as kernel:
        kernel.run("import sys\nclass P:\n    def __init__(s, n): s.n = n\n    def __reduce__(s): return P, (s.n,)")
        made = kernel.run(
            "sys.setrecursionlimit(1_000_000)\nx = None\nfor _ in range(100_000): x = P(x)\nkeep = [1]", timeout=60
        )
        assert made.status == "ok", made.shown
        assert kernel.value("x.n.n is not None")
        assert kernel.value("sys.getrecursionlimit()") == 1_000_000
        assert "nested too deeply" in why(kernel, "x")
        assert kernel.value("keep") == [1]


def test_a_value_over_the_limit_stays_here_until_it_is_smaller(kernel: Kernel) -> None:
    made = kernel.run(
        "import numpy as np\nbig, names, small = np.zeros(1_000_000), [str(i) for i in range(600_000)], np.ones(1000)"
    )
    assert made.status == "ok", made.shown
    kernel.kill_worker()
    for name in ("big", "names"):
        result = kernel.run(f"{name}[0]")
        assert result.ename == "ResidentLost"
        assert "larger than max_value_bytes (3,000,000); raise that setting" in result.evalue, result.evalue
    assert kernel.value("float(small.sum())") == 1000.0
    kernel.run("import numpy as np; big = np.zeros(100)")
    kernel.kill_worker()
    assert kernel.value("len(big)") == 100


# -- names, classes, threads


def test_a_name_may_be_any_text_and_what_is_none_stays_here(kernel: Kernel) -> None:
    # A lone surrogate, and a key that is no text, made every commit of the session fail.
    odd = ["../../etc/passwd", "a\x00b", "a\nb", "", "x" * 10_000, "ключ", "__", "a.b"]
    made = kernel.run(f"odd = {odd!r}\nfor n, name in enumerate(odd): globals()[name] = [n]\nfine = 1")
    assert made.status == "ok", made.shown
    unstorable = kernel.run(
        "globals()['\\ud800'] = globals()[1] = globals()[(1, 'x')] = 'y'; globals()[None] = 1; fine = 2"
    )
    assert unstorable.status == "ok", unstorable.shown
    assert kernel.run("fine = 3").status == kernel.run("%namespace").status == "ok"
    kernel.kill_worker()
    names = [name for name in odd if name != "__"]
    assert kernel.value(f"[globals()[name] for name in {names!r}]") == [[odd.index(name)] for name in names]
    assert kernel.value("fine") == 3
    assert not (kernel.store.parent / "etc").exists()
    listed = kernel.run("globals()[1] = 2").status, kernel.run("%namespace")
    assert listed[0] == listed[1].status == "ok"


def test_a_class_that_is_deleted_lives_on_with_its_instances(kernel: Kernel) -> None:
    kernel.run("class Gone:\n    made = 0\n    def say(self): return 'here', self.x, type(self).made")
    kernel.run("g = Gone(); g.x = [1]; pair = (g, g.x); Gone.made = 1")
    kernel.run("del Gone")
    kernel.kill_worker()
    kernel.run("g.x.append(2); type(g).made += 1")
    kernel.kill_worker()
    assert kernel.value("(g.say(), pair[0] is g, pair[1] is g.x, 'Gone' in globals())") == (
        ("here", [1, 2], 2), True, True, False,
    )  # fmt: skip


def test_a_dictionary_that_a_thread_changes_all_the_time_is_stored_nevertheless(tmp_path: Path) -> None:
    # Three dumps in a row met a change, and the variable stayed in its worker from then on.
    with running(tmp_path / "store", session=SESSION) as kernel:
        kernel.run(
            "import threading\nclass P:\n    pass\nseen = {i: P() for i in range(2000)}; stop = threading.Event()"
        )
        kernel.run(
            "def change():\n"
            "    n = 0\n"
            "    while not stop.is_set():\n"
            "        n += 1\n"
            "        seen[-n] = P()\n"
            "        del seen[-n + 100 if n > 100 else -n]\n"
            "threading.Thread(target=change, daemon=True).start()"
        )
        for n in range(5):
            assert kernel.run(f"seen['cell'] = {n}").status == "ok"
        kernel.kill_worker()
        assert kernel.value("(seen['cell'], len(seen) > 2000)") == (4, True)


# -- finalizers


def test_a_finalizer_runs_once_and_when_its_value_is_dropped(tmp_path: Path) -> None:
    # It ran in the process that looks at everything, and at the end of each worker, for values that live on.
    for cold in ("0", "1"):
        log = tmp_path / f"log{cold}"
        env = {"LAMBDAKERNEL_COLD": cold, "LAMBDAKERNEL_SCRUB_AFTER_S": "0.2"}
        with running(tmp_path / f"store{cold}", session=SESSION, env=env) as kernel:
            kernel.run(
                "import sys\nclass D:\n    def __init__(self, n): self.n = n\n"
                "    def __setstate__(self, state): self.__dict__.update(state)\n"
                f"    def __del__(self):\n        open({str(log)!r}, 'a').write(self.n)\n"
                "        raise ValueError(self.n)"
            )
            kernel.run("a, b, c, keep = D('a'), D('b'), [D('c')], D('keep')")
            kernel.run("pass")
            time.sleep(1.0)  # in which everything is looked at
            assert not log.exists()
            assert "Exception ignored in" in kernel.run("a = None").shown
            assert log.read_text() == "a"
            kernel.run("del b")
            kernel.run("c.clear()")
            told = kernel.run("sys.unraisablehook = lambda told: print('told', told.exc_value)\nx = D('x'); x = 1")
            assert told.stdout == "told x\n"
            assert log.read_text() == "abcx"
            kernel.shutdown()
            eventually(partial(has_no_worker, kernel), 10.0, "the worker gone")
            assert log.read_text() == "abcx"


def has_no_worker(kernel: Kernel) -> bool:
    return not kernel.pids("worker")
