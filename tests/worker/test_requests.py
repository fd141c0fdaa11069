"""What of a request and of its records is left out of the path of cells, and what must not be."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
import zmq
from jupyter_client.session import DELIM, Session

from lambdakernel.worker.kernel import _is_for_main_shell
from tests.kernels import eventually, running


def frames(header: dict[str, object], identities: Sequence[bytes] = (b"client",)) -> list[zmq.Frame]:
    session = Session(key=b"k")
    message = session.msg("execute_request", {"code": "1"})
    message["header"].update(header)
    parts = session.serialize(message)
    return [zmq.Frame(part) for part in (*identities, *parts)]


@pytest.mark.parametrize(
    ("header", "is_main"),
    [
        ({}, True),
        ({"subshell_id": None}, True),
        ({"subshell_id": "a"}, False),
        ({"subshell_id": "null"}, False),
        ({"msg_type": "comm_msg"}, False),
        ({"msg_type": "comm_close"}, False),
    ],
)
def test_a_request_goes_to_the_main_shell_at_once_if_nothing_in_it_can_say_otherwise(
    header: dict[str, object], is_main: bool
) -> None:
    assert _is_for_main_shell(frames(header)) is is_main


def test_an_escape_in_a_header_may_hide_a_subshell_and_what_is_no_message_is_not_judged() -> None:
    plain = frames({"subshell_id": "a"})
    at = [bytes(frame.buffer) for frame in plain].index(DELIM) + 2
    hidden = bytes(plain[at].buffer).replace(b'"subshell_id"', rb'"\u0073ubshell_id"')
    assert not _is_for_main_shell([*plain[:at], zmq.Frame(hidden), *plain[at + 1 :]])
    assert not _is_for_main_shell([zmq.Frame(b"stop aborting")])
    assert not _is_for_main_shell([zmq.Frame(b"client"), zmq.Frame(DELIM)])
    assert not _is_for_main_shell([])


def test_inputs_reach_ipythons_history_while_a_cell_runs_and_at_once_for_who_reads_it(tmp_path: Path) -> None:
    with running(tmp_path / "store", env={"IPYTHONDIR": str(tmp_path / "ipython")}) as kernel:
        for n in range(5):
            kernel.run(f"x = {n}")
        read = "[line for _, _, line in get_ipython().history_manager.get_tail(3, include_latest=True)]"
        assert kernel.value(read)[:2] == ["x = 3", "x = 4"]
        kernel.client.send("import time; time.sleep(60)  # long")
        (path,) = tmp_path.glob("ipython/**/history.sqlite")

        def written() -> list[str]:
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                return [source for (source,) in database.execute("select source from history order by line")]
            finally:
                database.close()

        eventually(lambda: any("# long" in source for source in written()), 10, "the running cell's input is written")
        assert written()[:5] == [f"x = {n}" for n in range(5)]


def test_a_fork_in_a_cell_does_not_wait_for_inputs_to_gather(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run("import os, time")
        assert kernel.value(
            "sorted((lambda start, pid: os._exit(0) if pid == 0 else (os.waitpid(pid, 0), time.monotonic() - start)[1])"
            "(time.monotonic(), os.fork()) for _ in range(5))[2] < 0.09"
        )


def test_records_that_no_handler_would_show_are_not_made(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run("import logging; log = get_ipython().kernel.log")
        assert kernel.value("(log.isEnabledFor(logging.DEBUG), log.isEnabledFor(logging.WARNING))") == (False, True)
        kernel.run("get_ipython().kernel.parent.log_level = logging.DEBUG")
        assert kernel.value("log.isEnabledFor(logging.DEBUG)")
