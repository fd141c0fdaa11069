"""A fork server that waits for the next fan-out where no process can: used, up to date, given up, and replaced where
it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, lives, running

PARENTS = "%%parallel for i in range(4) -> parents\nimport os\nos.getppid()"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("store")) as kernel:
        yield kernel


def waiting(kernel: Kernel) -> set[int]:
    """The two processes of the spare, once it is there, and those of the fan-out before it are not."""
    assert kernel.run("%%parallel for i in range(2) -> used\nimport os\nos.getppid()").status == "ok"
    used = set(kernel.value("used"))

    def found() -> set[int]:
        pids = set(kernel.pids("template"))
        return pids if len(pids) == 2 and not pids & used else set()

    return set(eventually(found, 20, "a spare"))


def test_the_next_fan_out_has_what_waited(kernel: Kernel) -> None:
    spare = waiting(kernel)
    kernel.run(PARENTS)
    assert set(kernel.value("parents")) <= spare
    again = waiting(kernel)
    assert not again & spare


def test_it_sees_what_cells_changed_since_it_is_there(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("import os\nx = 1\ndef f(i): return i + x\nos.environ['SPARE'] = 'old'")
    waiting(kernel)
    kernel.run(f"x = 10\nos.environ['SPARE'] = 'new'\nos.chdir({str(tmp_path)!r})\ndef g(i): return f(i) * 2")
    kernel.run("%%parallel for i in range(3) -> seen\nimport os\ng(i), os.environ['SPARE'], os.getcwd()")
    assert kernel.value("seen") == [(2 * (10 + i), "new", str(tmp_path)) for i in range(3)]


def test_what_has_left_the_notebook_is_not_there(kernel: Kernel) -> None:
    kernel.run("import os, warnings\nos.environ['GONE'] = 'yes'\nwarnings.simplefilter('error')")
    waiting(kernel)
    kernel.run("del os.environ['GONE']\nwarnings.resetwarnings()")
    kernel.run(
        "%%parallel for i in range(2) -> seen\nimport os, warnings\nos.environ.get('GONE'), len(warnings.filters)"
    )
    assert kernel.value("seen") == [(None, 0)] * 2


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_is_gone_is_replaced(kernel: Kernel, which: int) -> None:
    spare = sorted(waiting(kernel))
    kernel.kill(spare[which])
    result = kernel.run(PARENTS)
    assert result.status == "ok", result.shown
    assert len(kernel.value("parents")) == 4
    waiting(kernel)


def test_it_ends_with_its_worker(kernel: Kernel) -> None:
    spare = waiting(kernel)
    kernel.kill_worker()
    eventually(lambda: not any(map(lives, spare)), 10, "the spare to end")
    assert kernel.value("1 + 1") == 2


def test_one_that_lacks_a_module_that_is_used_by_now_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        spare = waiting(kernel)
        kernel.run("import numpy")
        kernel.run(PARENTS)
        assert not set(kernel.value("parents")) & spare
        eventually(lambda: not any(map(lives, spare)), 10, "the spare to end")


def test_it_has_imported_what_the_notebook_uses(kernel: Kernel) -> None:
    """Of libraries that the zygote does not import: else each fan-out would, while its cell waits."""
    found = "%%parallel for i in range(2) -> found\nimport sys\n'hypothesis' in sys.modules"
    kernel.run("import hypothesis")
    waiting(kernel)
    kernel.run(found)
    assert kernel.value("found") == [True, True]
    kernel.run("del hypothesis")
    waiting(kernel)
    kernel.run(found)
    assert kernel.value("found") == [False, False]


def test_nobody_needs_it_for_long(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run("import lambdakernel.executors.spare as spare\nkept = spare.KEEP_S\nspare.KEEP_S = 0.5")
        kernel.run("%%parallel for i in range(2) -> found\nimport os\nos.getpid() and i")
        eventually(lambda: not kernel.pids("template"), 20, "the spare to end")
        assert kernel.value("found") == [0, 1]


def test_there_is_none_where_each_cell_has_a_worker_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path / "store", env={"LAMBDAKERNEL_COLD": "1"}) as kernel:
        kernel.run("%%parallel for i in range(3) -> found\ni")
        assert kernel.value("found") == [0, 1, 2]
        assert kernel.pids("template") == []
