"""A worker's `In`, tracebacks and count, rebuilt from the log of cells; and what a resumed user is told."""

from __future__ import annotations

import linecache
import time
from collections.abc import Sequence
from typing import Any

from lambdakernel.state import Attached, Cell


def restore(shell: Any, cells: Sequence[Cell], cleared: int = 0) -> None:
    """Make `shell` continue after `cells`: `In`, `_i`, `_i5`, the source behind tracebacks, the next count.

    Inputs up to number `cleared` are empty, as `%reset in` left them.
    """
    numbered = [cell for cell in cells if cell.number > 0]
    if not numbered:
        return
    manager = shell.history_manager
    for cell in numbered:
        parsed = _parsed(shell, cell.source)
        _register_source(shell, cell, parsed)
        is_cleared = cell.number <= cleared
        for inputs, text in ((manager.input_hist_parsed, parsed), (manager.input_hist_raw, cell.source)):
            inputs.extend([""] * (cell.number + 1 - len(inputs)))
            inputs[cell.number] = "" if is_cleared else text.rstrip("\n")
        if not is_cleared:
            shell.user_ns[f"_i{cell.number}"] = cell.source.rstrip("\n")
    _restore_last_inputs(shell, [cell.source.rstrip("\n") for cell in numbered if cell.number > cleared])
    shell.execution_count = numbered[-1].number + 1


def _restore_last_inputs(shell: Any, sources: Sequence[str]) -> None:
    """`_i`, `_ii` and `_iii` as they were in the last cell: the ones before it. The next cell moves them on."""
    last = ["", "", "", "", *sources]
    manager = shell.history_manager
    manager._i00, manager._i, manager._ii, manager._iii = last[:-5:-1]
    shell.user_ns.update(_i=manager._i, _ii=manager._ii, _iii=manager._iii)


def _parsed(shell: Any, source: str) -> str:
    """The cell as Python; only a cell with a magic needs the transformer."""
    if not any(mark in source for mark in "%!?"):
        return source
    try:
        return str(shell.transform_cell(source))
    except SyntaxError:
        return source


def _register_source(shell: Any, cell: Cell, parsed: str) -> None:
    """So that a traceback into this cell says `Cell In[n], line k` and shows the line, under its old file name too."""
    name = shell.compile.cache(parsed, cell.number, raw_code=cell.source)
    if cell.filename and cell.filename != name:
        linecache.cache[cell.filename] = linecache.cache[name]
        shell.compile._filename_map[cell.filename] = cell.number


def resumed_line(session: str, attached: Attached) -> str:
    """One line for the first cell of a kernel that found its session again."""
    numbered = [cell for cell in attached.cells if cell.number > 0]
    name = session.rpartition("/")[2]
    count = f"{attached.names} variable" + ("" if attached.names == 1 else "s")
    line = f"Resumed session {name}: {count}"
    if numbered:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(numbered[-1].started_s))
        line += f", last cell In [{numbered[-1].number}] of {when}"
    if attached.lost:
        line += f"; gone, since they could not move: {', '.join(sorted(lost.name for lost in attached.lost))}"
    if attached.damaged:
        line += f"; {len(attached.damaged)} damaged entries of its log were left out (`python -m kvs check` names them)"
    return line + ". Restart the kernel for an empty one."


def reply_of(cell: Cell) -> dict[str, Any]:
    """The reply that a committed cell deserved, for a worker that died before it could give it."""
    content: dict[str, Any] = {"status": cell.status, "execution_count": cell.number}
    if cell.status == "error":
        content |= {"ename": cell.ename, "evalue": cell.evalue, "traceback": [f"{cell.ename}: {cell.evalue}"]}
    return content
