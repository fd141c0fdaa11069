"""Three kernels side by side: ipykernel, ours, and ours with a fresh worker for every cell.

A program's cells go to all three at once, queued, so that the machine's cores work on three kernels at a time. Between
two programs `%reset -f` empties the namespace, which takes a tenth of a restart; a program that leaves more behind than
names, or counts its cells, says so (`alone`): the kernels are restarted before and after it. A kernel that gave no
answer is replaced. Where the kernels' counts of cells differ after a program, all are restarted, so that a difference
stays in the program that has it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree

from jupyter_client.manager import KernelManager

from tests.kernels import NAME, Kernel
from tests.scenarios.parity.program import Program
from tests.scenarios.parity.seen import Message, seen

IPYKERNEL, WARM, COLD = KINDS = ("ipykernel", "warm", "cold")
ANSWER_S = 20.0
_RESET = "%reset -f"
_SAME_FOR_ALL = {
    "PYTHONHASHSEED": "0",  # our kernelspec's value: sets of strings are shown in the same order
    "PYTHONDONTWRITEBYTECODE": "1",  # a module that is written twice in one second is compiled twice
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}

Cells = list[list[Message]]
"""What each cell of a program showed."""


class One:
    """One of the three kernels, with a directory in which its cells run."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self._directory = directory / kind
        self._made = 0
        self._kernel = self._start()

    def _start(self) -> Kernel:
        self._made += 1
        cwd = self._directory / f"cwd{self._made}"
        cwd.mkdir(parents=True)
        env = _SAME_FOR_ALL | ({"LAMBDAKERNEL_COLD": "1"} if self.kind == COLD else {})
        name = "python3" if self.kind == IPYKERNEL else NAME
        # no TCP port is taken between its choice and its use
        manager = KernelManager(kernel_name=name, transport="ipc", ip=str(self._directory / f"ipc{self._made}"))
        kernel = Kernel(self._directory / f"store{self._made}", name=name, env=env, cwd=cwd, manager=manager)
        self._places = {str(cwd): "CWD", str(kernel.runtime): "RUNTIME", str(kernel.store): "STORE"}
        return kernel

    def replace(self) -> None:
        self._kernel.close()
        self._kernel = self._start()

    def restart(self) -> None:
        """Restart as a user does, without waiting until it is ready: an empty namespace, the count at 1."""
        self._kernel.manager.restart_kernel(now=self.kind == IPYKERNEL)  # a kill of ours would keep the namespace

    def wait_for_ready(self) -> None:
        self._kernel.client.wait_for_ready()

    def send(self, program: Program) -> list[str]:
        """Queue the program's cells, then what clears them away; their message ids."""
        client = self._kernel.client
        asked = {str(at): expression for at, expression in enumerate(program.ask)}
        ids = [client.send(cell, stop_on_error=False) for cell in program.cells[:-1]]
        ids.append(client.send(program.cells[-1], stop_on_error=False, user_expressions=asked))
        return ids if program.alone else [*ids, client.send(_RESET, stop_on_error=False)]

    def receive(self, program: Program, ids: list[str]) -> tuple[Cells, int]:
        """What the cells showed, and the number of the last cell that ran.

        Raises:
            TimeoutError: a cell had no answer in `ANSWER_S` seconds.
            AssertionError: the names could not be cleared away.
        """
        results = [self._kernel.client.result(msg_id, ANSWER_S) for msg_id in ids]
        cells = len(program.cells)
        for reset in results[cells:]:
            assert reset.status == "ok", f"{self.kind}: {_RESET} after {program.name!r}: {reset.shown}"
        return [seen(result, self._places) for result in results[:cells]], results[-1].reply.get("execution_count", 0)

    def close(self) -> None:
        self._kernel.close()


class Trio:
    """The three kernels; close it."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="lk-parity-"))
        self._ones: list[One] = []
        self._is_new = self._is_stale = False
        try:
            for kind in KINDS:
                self._ones.append(One(kind, self._directory))
        except BaseException:
            self.close()
            raise
        self._is_new = True

    def run(self, program: Program) -> dict[str, Cells]:
        """What the program's cells showed, by kind; a kernel that failed shows that as its only message."""
        if self._is_stale or (program.alone and not self._is_new):
            self._restart()
        self._is_stale, self._is_new = program.alone, False
        sent = [(one, one.send(program)) for one in self._ones]
        shown, counts = {}, set()
        for one, ids in sent:
            shown[one.kind], count = self._receive(one, program, ids)
            counts.add(count)
        self._is_stale |= len(counts) > 1
        return shown

    def _receive(self, one: One, program: Program, ids: list[str]) -> tuple[Cells, int]:
        try:
            return one.receive(program, ids)
        except (TimeoutError, AssertionError) as error:
            one.replace()
            return [[("no answer", str(error))] for _ in program.cells], 0

    def _restart(self) -> None:
        for one in self._ones:
            one.restart()
        for one in self._ones:
            one.wait_for_ready()

    def close(self) -> None:
        for one in self._ones:
            one.close()
        rmtree(self._directory, ignore_errors=True)
