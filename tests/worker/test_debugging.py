"""The debugger: no cell waits for it, and it is there as soon as something asks."""

from __future__ import annotations

import re
import subprocess
import sys
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

    def names(self) -> set[str]:
        """Of the variables that the client would list."""
        return {variable["name"] for variable in self.ask("inspectVariables")["body"]["variables"]}

    def stop_at(self, code: str, line: int) -> None:
        path = self.ask("dumpCell", code=code)["body"]["sourcePath"]
        breakpoints = [{"line": line}]
        assert self.ask("setBreakpoints", breakpoints=breakpoints, source={"path": path}, sourceModified=False)[
            "success"
        ]
        assert self.ask("configurationDone")["success"]


def test_a_worker_is_made_without_a_debugger() -> None:
    program = "import sys, lambdakernel.worker.app, lambdakernel.parallel.task; print('debugpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout == "False\n"
    )


def test_an_idle_worker_has_a_debugger(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
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
        first = kernel.client.send(f"import time\ntime.sleep(2)\n{LOADED}")
        kernel.client.await_output(first, "execute_input")
        debugging = Debugging(kernel)
        assert debugging.ask("debugInfo")["body"]["isStarted"] is False
        debugging.attach()
        result = kernel.client.result(first)
        assert (result.value, result.shown.strip()) == ("True", "True"), "and nothing warns"
        stops_at_its_breakpoint(kernel, debugging)
        debugging.ask("disconnect", restart=False, terminateDebuggee=False)


def stops_at_its_breakpoint(kernel: Kernel, debugging: Debugging) -> None:
    code = "x = 20\ny = x + 1\nprint(y)"
    debugging.stop_at(code, 2)
    cell = kernel.client.send(code)
    thread = kernel.client.await_debug_event("stopped")["threadId"]
    (frame, *_) = debugging.ask("stackTrace", threadId=thread)["body"]["stackFrames"]
    assert frame["line"] == 2
    assert debugging.ask("evaluate", expression="x", frameId=frame["id"])["body"]["result"] == "20"
    debugging.ask("continue", threadId=thread)
    assert kernel.client.result(cell).stdout == "21\n"


def test_a_kernel_that_is_debugged_may_be_idle(tmp_path: Path) -> None:
    """It looked at its values in a fork of itself then, and the debugger attached to that, and never let go."""
    with running(tmp_path / "store", env={"LAMBDAKERNEL_SCRUB_AFTER_S": "0.2"}) as kernel:
        debugging = Debugging(kernel)
        debugging.attach()
        assert kernel.run("kept = [1]").status == "ok"
        time.sleep(1.0)
        stops_at_its_breakpoint(kernel, debugging)
        time.sleep(1.0)
        debugging.ask("disconnect", restart=False, terminateDebuggee=False)
        assert kernel.run("kept.append(2)").status == "ok"
        time.sleep(1.0)
        assert kernel.value("kept") == [1, 2]


def test_a_debugger_lists_names_that_no_cell_has_asked_for(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run("import math\nfirst = [1]\nsecond = {'a': first}")
        kernel.kill_worker()
        kernel.run("third = 3")
        debugging = Debugging(kernel)
        assert debugging.names() >= {"first", "second", "third", "math"}
        debugging.attach()
        kernel.kill_worker()
        kernel.run("fourth = 4")
        again = Debugging(kernel)
        again.attach()
        code = "fifth = 5\nprint(fifth)"
        again.stop_at(code, 2)
        cell = kernel.client.send(code)
        thread = kernel.client.await_debug_event("stopped")["threadId"]
        (frame, *_) = again.ask("stackTrace", threadId=thread)["body"]["stackFrames"]
        assert again.ask("evaluate", expression="second['a'] is first", frameId=frame["id"])["body"]["result"] == "True"
        again.ask("continue", threadId=thread)
        assert kernel.client.result(cell).stdout == "5\n"
