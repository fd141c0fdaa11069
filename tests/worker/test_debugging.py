"""The debugger: no cell waits for it, and it is there as soon as something asks."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from tests.kernels import Kernel, running

LOADED = "'debugpy' in __import__('sys').modules"


class Debugging:
    """A client of the debugger. Requests go over the control channel, whatever the main shell does meanwhile."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sequence = 0

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        raw = self._kernel.client.raw
        self._sequence += 1
        content = {"type": "request", "seq": self._sequence, "command": command, "arguments": arguments}
        message = raw.session.msg("debug_request", content)
        raw.control_channel.send(message)
        while True:
            reply = raw.get_control_msg(timeout=20)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return dict(reply["content"])

    def attach(self) -> None:
        self.ask("initialize", clientID="test", clientName="test", adapterID="", linesStartAt1=True, pathFormat="path")
        assert self.ask("attach")["success"]

    def stop_at(self, code: str, line: int) -> None:
        path = self.ask("dumpCell", code=code)["body"]["sourcePath"]
        breakpoints = [{"line": line}]
        assert self.ask("setBreakpoints", breakpoints=breakpoints, source={"path": path}, sourceModified=False)[
            "success"
        ]
        assert self.ask("configurationDone")["success"]


def test_the_first_cells_wait_for_no_debugger_and_an_idle_worker_has_one(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        assert [kernel.value(LOADED) for _ in range(3)] == [False] * 3
        for _ in range(20):
            time.sleep(1.0)
            if kernel.value(LOADED):
                break
        else:
            raise AssertionError("it was never loaded")
        assert "Debugger" in str(kernel.run("get_ipython().kernel.debugger").value)
        _, *rows = kernel.run("%log").shown.splitlines()
        assert all(re.match(r" *\d+  ok +\d\.\d\d {16,}\S", row) for row in rows), "cells wrote nothing of it"


def test_a_cell_that_asks_for_the_debugger_has_it(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        shown = kernel.run(
            "kernel = get_ipython().kernel\nprint(type(kernel.debugger), kernel.debugger is kernel.debugger)"
        )
        assert shown.stdout == "<class 'ipykernel.debugger.Debugger'> True\n"


def test_a_debugger_that_attaches_while_the_first_cell_runs_stops_the_next_at_its_breakpoint(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        first = kernel.client.send(f"import time\nbefore = {LOADED}\ntime.sleep(2)\n(before, {LOADED})")
        kernel.client.await_output(first, "execute_input")
        debugging = Debugging(kernel)
        assert debugging.ask("debugInfo")["body"]["isStarted"] is False
        debugging.attach()
        result = kernel.client.result(first)
        assert (result.value, result.shown.strip()) == ("(False, True)", "(False, True)"), "and nothing warns"
        code = "x = 20\ny = x + 1\nprint(y)"
        debugging.stop_at(code, 2)
        second = kernel.client.send(code)
        thread = kernel.client.await_debug_event("stopped")["threadId"]
        (frame, *_) = debugging.ask("stackTrace", threadId=thread)["body"]["stackFrames"]
        assert frame["line"] == 2
        assert debugging.ask("evaluate", expression="x", frameId=frame["id"])["body"]["result"] == "20"
        debugging.ask("continue", threadId=thread)
        assert kernel.client.result(second).stdout == "21\n"
        debugging.ask("disconnect", restart=False, terminateDebuggee=False)
