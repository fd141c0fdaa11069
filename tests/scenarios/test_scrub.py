"""What an idle worker finds by itself: changes that no cell was seen to make, values that would come back wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvs
from tests.kernels import Kernel, eventually, running

KEEPER = "kept = []\ndef keep(x): kept.append(x)\ndef poke(): kept[0][0] += 1\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("LAMBDAKERNEL_SCRUB_AFTER_S", "0.3")
    (tmp_path / "keeper.py").write_text(KEEPER)
    with running(tmp_path / "store", session="scrub") as kernel:
        kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import keeper")
        yield kernel


def commits(tmp_path: Path) -> int:
    """How many commits the session has."""
    with kvs.open(tmp_path / "store").space("scrub").reader() as reader:
        return sum(1 for _ in reader.log())


def settled(tmp_path: Path) -> None:
    """Wait until something that was no cell was committed after the last cell."""
    now = commits(tmp_path)
    eventually(lambda: commits(tmp_path) > now, 10.0, "a commit of what the scrub found")


@pytest.mark.parametrize("made", ["[1]", "np.zeros(1_000_000)"])
def test_a_change_through_a_library_that_kept_the_object_is_found(kernel: Kernel, tmp_path: Path, made: str) -> None:
    kernel.run(f"import numpy as np\ndata = {made}; keeper.keep(data)")
    before = int(kernel.value("int(data[0])"))
    kernel.run("keeper.poke()")
    settled(tmp_path)
    kernel.kill_worker()
    assert kernel.value("int(data[0])") == before + 1


def test_values_that_do_not_come_back_as_they_were_are_said_to_be_resident(kernel: Kernel, tmp_path: Path) -> None:
    source = """
        class Liar:
            def __init__(self, n): self.n = n
            def __eq__(self, other): return self.n == other.n
            def __reduce__(self): return (Liar, (0,))
        class Broken:
            def __reduce__(self): return (int, ('x',))
        class Honest:
            def __init__(self, n): self.n = n
            def __eq__(self, other): return self.n == other.n
            def __reduce__(self): return (Honest, (self.n,))
        lie, broken, honest, none = Liar(5), [Broken()], Honest(5), Honest(float('nan'))
    """
    assert kernel.run(source).status == "ok"
    settled(tmp_path)
    rows = {line.split()[0]: line for line in (kernel.run("%namespace").value or "").splitlines()[1:]}
    assert "resident" in rows["lie"] and "not equal" in rows["lie"]
    assert "resident" in rows["broken"] and "come back" in rows["broken"]
    assert "durable" in rows["honest"] and "durable" in rows["none"]
    assert kernel.value("lie.n") == 5


def test_the_look_is_seen_by_nobody(kernel: Kernel, tmp_path: Path) -> None:
    source = """
        class Loud:
            def __reduce__(self):
                print('reduced')
                return (Loud, ())
            def __init__(self): print('made')
        loud = Loud()
    """
    assert kernel.run(source).stdout.count("made") == 1
    assert kernel.run("import os, time; time.sleep(1.0)").stdout == ""
    with_children = "try:\n    print(os.waitpid(-1, os.WNOHANG))\nexcept ChildProcessError:\n    print('no child')"
    assert kernel.run(with_children).stdout == "no child\n"
    eventually(lambda: not kernel.pids("scrub"), 10.0, "the fork to end")


def test_a_value_that_kills_the_look_harms_nothing_else(kernel: Kernel, tmp_path: Path) -> None:
    source = """
        import os, signal
        class Deadly:
            pid = os.getpid()
            def __setstate__(self, state): os.getpid() == self.pid or os.kill(os.getpid(), signal.SIGKILL)
            def __init__(self): self.x = 1
        deadly = Deadly(); other = [1]
    """
    worker = kernel.worker()
    kernel.run(source)
    kernel.run("import time; time.sleep(1.0); other.append(2)")
    eventually(lambda: not kernel.pids("scrub"), 10.0, "the fork to end")
    assert kernel.worker() == worker
    assert kernel.value("other") == [1, 2]


def test_the_look_ends_with_its_worker_however_that_ends(kernel: Kernel) -> None:
    source = """
        import os, time
        class Slow:
            pid = os.getpid()
            def __getstate__(self): os.getpid() == self.pid or time.sleep(50)
        slow = Slow()
    """
    kernel.run(source)
    eventually(lambda: kernel.pids("scrub"), 10.0, "a fork that looks")
    before = set(kernel.pids("scrub"))
    for pid in kernel.pids("zygote"):
        os.kill(pid, signal.SIGKILL)  # and with it, by the system's doing, its worker; but the fork is not its child
    eventually(lambda: not before & set(kernel.pids("scrub")), 3.0, "the fork to end")
