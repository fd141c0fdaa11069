"""Ambient state that holds objects of the notebook: a fresh process for each cell shows what one process would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state.ambient import is_held
from lambdakernel.state.ambient.held import Steady
from tests.state.cold import Worker, cold, seen, warm, with_worker

PROGRAMS = {
    "a handler of a signal": [
        "import signal\nrang = []\ndef ring(number, frame): rang.append(number)\nsignal.signal(signal.SIGUSR1, ring)",
        "signal.raise_signal(signal.SIGUSR1); print(rang, signal.getsignal(signal.SIGUSR1) is ring)",
        "def ring(number, frame): rang.append('new')",
        "signal.raise_signal(signal.SIGUSR1); print(rang, signal.getsignal(signal.SIGUSR1) is ring)",
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "signal.raise_signal(signal.SIGUSR1); print(rang, signal.getsignal(signal.SIGUSR1))",
        "signal.signal(signal.SIGUSR1, signal.SIG_DFL)",
        "print(signal.getsignal(signal.SIGUSR1))",
    ],
    "a handler of logging": [
        "import logging\nclass Keep(logging.Handler):\n    kept = []\n    def emit(self, r): self.kept.append(r.msg)",
        "log = logging.getLogger('held.a'); keep = Keep(); log.addHandler(keep); log.propagate = False",
        "log.error('one'); print(Keep.kept, log.handlers == [keep])",
        "log.setLevel('ERROR'); keep.setFormatter(logging.Formatter('%(msg)s!'))",
        "log.warning('no'); log.error('two'); print(keep.kept, log.handlers[0].formatter is keep.formatter, log.level)",
        "log.removeHandler(keep); log.propagate = True; log.setLevel(0)",
        "print(log.handlers, log.propagate, log.level, len(keep.kept))",
    ],
    "switches of logging": [
        "import logging; logging.disable(logging.INFO); logging.addLevelName(33, 'ODD')",
        "print(logging.root.manager.disable, logging.getLevelName(33))",
        "logging.disable(logging.NOTSET)",
        "print(logging.root.manager.disable)",
    ],
    "filters of warnings": [
        "import warnings\nclass Mine(Warning): pass\nwarnings.simplefilter('error', Mine)",
        "try: warnings.warn('x', Mine)\nexcept Mine as e: print(type(e) is Mine)",
        "warnings.simplefilter('ignore', Mine)",
        "warnings.warn('x', Mine); print(sum(f[2] is Mine for f in warnings.filters))",
    ],
    "options of numpy": [
        "import numpy as np\nmetre = 'm'\ndef show(x): return f'{x}{metre}'",
        "np.set_printoptions(formatter={'float': show}, precision=3); old = np.seterr(divide='raise')",
        "metre = 'km'",
        "print(np.array([1.0]), np.get_printoptions()['precision'], np.geterr())",
        "try: np.array([1.0]) / 0\nexcept FloatingPointError as e: print(e)",
        "np.set_printoptions(formatter=None, precision=8); np.seterr(**old)",
        "print(np.array([1 / 3]), np.geterr())",
    ],
    "options of pandas": [
        "import pandas as pd\ndef money(x): return f'{x} EUR'\npd.set_option('display.float_format', money)",
        "pd.options.display.max_rows = 4",
        "print(pd.DataFrame({'a': [1.5] * 9}), pd.get_option('display.float_format') is money)",
        "pd.reset_option('display.max_rows')",
        "print(pd.get_option('display.max_rows'), pd.Series([1.5]).to_string())",
    ],
    "arguments": [
        "import sys; args = sys.argv = ['prog', '-v']",
        "args.append('x'); print(sys.argv, args is sys.argv)",
        "sys.argv.clear(); print(args)",
        "sys.argv = [1]",
        "print(args, sys.argv)",
    ],
    "the system's": [
        "import locale, os, sys; before = os.umask(0o027); sys.setrecursionlimit(1500)",
        "locale.setlocale(locale.LC_NUMERIC, 'C.UTF-8')",
        "print(oct(os.umask(0o027)), sys.getrecursionlimit(), locale.setlocale(locale.LC_NUMERIC))",
        "os.umask(before); locale.setlocale(locale.LC_NUMERIC, 'C')",
        "print(oct(os.umask(before)), locale.setlocale(locale.LC_NUMERIC))",
    ],
    "open figures": [
        "import matplotlib; matplotlib.use('agg')\nimport matplotlib.pyplot as plt",
        "fig, ax = plt.subplots(); plt.figure(7)",
        "print(plt.get_fignums(), plt.gcf().number, plt.figure(1) is fig, plt.gca() is ax)",
        "plt.plot([1, 2]); print(len(ax.lines), plt.gcf() is fig)",
        "plt.close(7)",
        "print(plt.get_fignums(), matplotlib.get_backend(), fig.canvas.manager is plt.get_current_fig_manager())",
    ],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fresh_process_for_each_cell_shows_the_same(name: str, tmp_path: Path) -> None:
    cells = PROGRAMS[name]
    assert seen(cold(tmp_path / "store", cells)) == warm(cells)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_cell_that_changes_nothing_publishes_nothing(name: str, tmp_path: Path) -> None:
    """Neither in the process that changed ambient state, nor in one that took it over."""
    cells = PROGRAMS[name][:2]

    def work(worker: Worker) -> Any:
        return [worker.run(source).committed for source in [*cells, "pass", "pass"]][-1]

    done = with_worker(tmp_path / "warm", work)
    assert (done.written, done.deleted, done.nbytes) == ((), (), 0)
    done = cold(tmp_path / "cold", [*cells, "pass", "pass"])[-1].committed
    assert (done.written, done.deleted, done.nbytes) == ((), (), 0)


def test_a_log_file_is_opened_again_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = "logging.getLogger('held.file')"
    ran = cold(
        tmp_path / "store",
        [
            f"import logging; {log}.addHandler(logging.FileHandler({str(path)!r}, 'w')); {log}.error('one')",
            f"{log}.error('two')",
            f"{log}.error('three')",
        ],
    )
    assert [r.error for r in ran] == ["", "", ""]
    assert path.read_text() == "one\ntwo\nthree\n"


def test_a_stream_of_the_process_is_that_of_the_next_one(tmp_path: Path) -> None:
    cells = ["import os, sys; err, env = [sys.stderr], os.environ", "print(err[0] is sys.stderr, env is os.environ)"]
    assert seen(cold(tmp_path / "store", cells)) == warm(cells)


UNMOVABLE = """import signal
def counting():
    def handle(number, frame, steps=(n for n in range(3))): next(steps)
    return handle
signal.signal(signal.SIGUSR2, counting()); signal.signal(signal.SIGUSR1, signal.SIG_IGN)
x = [1]"""


def test_what_cannot_move_costs_itself_and_is_named_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, [UNMOVABLE])

    def work(worker: Worker) -> Any:
        ran = worker.run("print(x, signal.getsignal(signal.SIGUSR1) == 1, signal.getsignal(signal.SIGUSR2))")
        return worker.attached.unrestored, ran.shown

    unrestored, shown = with_worker(store, work)
    assert len(unrestored) == 1 and unrestored[0].startswith("signal SIGUSR2 (") and "generator" in unrestored[0]
    assert shown == "[1] True 0\n"
    unrestored, shown = with_worker(store, work)
    assert (unrestored, shown) == ((), "[1] True 0\n")


def test_a_handler_reaches_what_its_code_names_before_a_cell_does(tmp_path: Path) -> None:
    """A signal comes while no cell has named anything yet."""
    store = tmp_path / "store"
    cold(store, ["import signal\ngot = []\ndef f(n, frame): got.append(n)\nsignal.signal(signal.SIGUSR1, f)", "y = 1"])

    def work(worker: Worker) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return worker.run("pass").committed.written

    assert with_worker(store, work) == ("got",)
    assert with_worker(store, lambda worker: worker.run("print(got)").shown) == f"[{int(signal.SIGUSR1)}]\n"


def test_no_code_of_the_notebook_meets_the_names(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import signal; signal.signal(signal.SIGUSR1, print); x = 1")
        shown = worker.run("print([n for n in [*globals(), *dir()] if n.startswith('__ ')])").shown
        names = {row.name for row in worker.namespace.rows()}
        return shown, names, any(map(is_held, worker.live))

    assert with_worker(tmp_path / "store", work) == ("[]\n", {"signal", "x"}, False)


def test_an_undo_takes_a_handler_back_and_a_redo_brings_it(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        import logging

        found = []
        worker.run("import logging; log = logging.getLogger('held.undo'); x = 1")
        worker.run("log.setLevel(10); log.addHandler(logging.NullHandler())\nx = 2")
        log = logging.getLogger("held.undo")
        for move in ("undo", "redo"):
            with worker.namespace.travelling() as traveller:
                getattr(traveller, move)()
            found.append((log.level, len(log.handlers)))
        found.append(worker.run("pass").committed.written)
        return found

    assert with_worker(tmp_path / "store", work) == [(0, 0), (10, 1), ()]


def test_a_cell_that_only_sets_a_handler_can_be_undone(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import signal")
        worker.run("signal.signal(signal.SIGUSR1, signal.SIG_IGN)")
        with worker.namespace.travelling() as traveller:
            traveller.undo()
        return signal.getsignal(signal.SIGUSR1)

    assert with_worker(tmp_path / "store", work) == signal.SIG_DFL


def test_another_epoch_brings_its_own(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def begin(worker: Worker) -> int:
        worker.run("import numpy as np, sys; np.set_printoptions(precision=3); sys.argv = ['one']; x = 1")
        return worker.namespace.begin_epoch()

    def restore(worker: Worker) -> Any:
        worker.run("import numpy as np, sys; np.set_printoptions(precision=5, linewidth=60); sys.argv = argv = ['two']")
        names = worker.namespace.restore(1)
        look = "print(np.get_printoptions()['precision'], np.get_printoptions()['linewidth'], sys.argv, argv, x)"
        return names, worker.run(look).shown

    assert with_worker(store, begin) == 2
    assert with_worker(store, restore) == (["np", "sys", "x"], "3 60 ['one'] ['two'] 1\n")
    assert with_worker(store, lambda worker: worker.run("print(sys.argv, argv)").shown) == "['one'] ['two']\n"


def test_looking_imports_nothing() -> None:
    code = """import sys
from lambdakernel.state.ambient import default_ambient
items = default_ambient({})
before = set(sys.modules)
for item in items: item.capture()
assert not {"numpy", "pandas", "matplotlib"} & set(sys.modules), "imported"
assert set(sys.modules) == before, set(sys.modules) - before"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_steady_list_is_one_object_until_its_key_is_gone() -> None:
    steady, one, other = Steady(), object(), object()
    first = steady.of({"a": [one]})["a"]
    assert steady.of({"a": [one]})["a"] is first
    assert steady.of({"a": [one, other]})["a"] is first and first == [one, other]
    steady.of({})
    assert steady.of({"a": [one]})["a"] is not first
