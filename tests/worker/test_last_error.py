"""The last error outlives its worker, costs nothing until it is asked for, and is replaced by the next."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lambdakernel.state import Namespace
from lambdakernel.worker.last_error import LastError
from tests.state.cold import Worker, execute, in_child


class Failing(Worker):
    """A worker whose cells leave their error in `sys`, as IPython's do."""

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self.last = LastError()
        ours = dict(self.live)
        self.namespace = Namespace(self.live, self.replica, ignore=ours, worker="another", ambient=(self.last,))
        self.last.namespace = self.namespace
        self.attached = self.namespace.attach()

    def fail(self, source: str) -> None:
        self.run(
            f"import sys\ntry:\n  {source}\nexcept Exception as e:\n"
            "  sys.last_type, sys.last_value, sys.last_traceback = type(e), e, e.__traceback__"
        )


def in_worker(store: Path, work: Callable[[Failing], Any]) -> Any:
    """What `work` returns with a fresh worker in a process of its own."""

    def child() -> Any:
        worker = Failing(store)
        try:
            return work(worker)
        finally:
            worker.close()

    return in_child(child)


CLASS = "class Broken(Exception): pass\ndef fail(n): raise Broken(f'code {n}')"


def test_the_next_worker_has_it_with_its_class_and_lines(tmp_path: Path) -> None:
    def first(worker: Failing) -> str:
        worker.run(CLASS)
        worker.fail("fail(3)")
        return "".join(traceback.format_exception(sys.last_value))

    def second(worker: Failing) -> tuple[str, bool]:
        hook = vars(sys)["__getattr__"]
        worker.run("x = 1")
        assert vars(sys)["__getattr__"] is hook  # nobody asked, so nothing was decoded
        text = "".join(traceback.format_exception(sys.last_value))
        worker.namespace.load(["Broken"])
        return text, sys.last_type is worker.live["Broken"] is type(sys.last_value)

    text = in_worker(tmp_path, first)
    assert "in fail" in text
    assert in_worker(tmp_path, second) == (text, True)


def test_it_goes_through_workers_that_do_not_ask_and_is_written_once(tmp_path: Path) -> None:
    in_worker(tmp_path, lambda worker: worker.fail("1 / 0"))

    def look(worker: Failing) -> str:
        before = worker.last.capture()
        assert worker.last.capture() == before
        text = repr(sys.last_value)
        assert worker.last.capture() == before  # as it was stored
        return text

    for _ in range(3):
        in_worker(tmp_path, lambda worker: worker.run("x = 1") and None)
        assert in_worker(tmp_path, look) == "ZeroDivisionError('division by zero')"


def test_the_next_error_takes_its_place_unasked(tmp_path: Path) -> None:
    in_worker(tmp_path, lambda worker: worker.fail("1 / 0"))

    def second(worker: Failing) -> str:
        worker.fail("[][2]")
        return repr(sys.last_value)

    assert in_worker(tmp_path, second).startswith("IndexError")
    assert in_worker(tmp_path, lambda worker: repr(sys.last_value)).startswith("IndexError")


def test_one_that_cannot_move_is_stood_in_for(tmp_path: Path) -> None:
    def first(worker: Failing) -> None:
        worker.run("import threading\nlock = threading.Lock(); lock.acquire()\nclass Holds(ValueError): pass")
        worker.fail("raise Holds('held', lock)")

    def second(worker: Failing) -> tuple[str, str, list[int | None]]:
        lines = [frame.lineno for frame in traceback.extract_tb(sys.last_traceback)]
        return sys.last_type.__name__, str(sys.last_value)[:8], lines

    in_worker(tmp_path, first)
    assert in_worker(tmp_path, second) == ("Holds", "('held',", [3])


def test_one_whose_class_no_variable_has_is_stood_in_for(tmp_path: Path) -> None:
    def first(worker: Failing) -> None:
        worker.run("def fail():\n  class Inner(ValueError): pass\n  raise Inner('local')")
        worker.fail("fail()")

    in_worker(tmp_path, first)
    shown = in_worker(tmp_path, lambda worker: traceback.format_exception_only(sys.last_type, sys.last_value))
    assert shown == ["fail.<locals>.Inner: local\n"]


def test_one_that_was_deleted_is_gone(tmp_path: Path) -> None:
    in_worker(tmp_path, lambda worker: worker.fail("1 / 0"))

    def second(worker: Failing) -> None:
        assert sys.last_value is not None
        worker.run("import sys; del sys.last_value, sys.last_type, sys.last_traceback")

    in_worker(tmp_path, second)
    assert in_worker(tmp_path, lambda worker: hasattr(sys, "last_value")) is False


def test_sys_still_says_what_it_does_not_have(tmp_path: Path) -> None:
    in_worker(tmp_path, lambda worker: worker.fail("1 / 0"))

    def second(worker: Failing) -> tuple[str, str]:
        shown, error = execute("import sys\ntry: sys.nothing\nexcept AttributeError as e: print(e, e.name)", {})
        assert "__getattr__" in vars(sys)
        return shown, error

    assert in_worker(tmp_path, second) == ("module 'sys' has no attribute 'nothing' nothing\n", "")
