"""The values that the state package gives and takes: frozen, and nothing but facts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kvs import Dot


class Cell(msgspec.Struct, frozen=True):
    """One executed cell, as the note of its commit."""

    number: int
    """Execution count n of `In[n]`; 0 for a commit that is no cell."""
    source: str
    msg_id: str
    """The request that ran it."""
    status: str
    """`ok` or `error`."""
    ename: str
    evalue: str
    filename: str
    """File name in its code objects, for tracebacks after a move."""
    started_s: float
    seconds: float
    output: str = ""
    """Text of its output as it was shown; empty if there was none, if it is long, or if it can never be shown
    otherwise."""


_CELL = Cell.__struct_fields__


class Note(msgspec.Struct, frozen=True):
    """What a commit says beside its changes: the epoch, the cell if it was one, what `_` showed."""

    epoch: int
    cell: Cell | None = None
    shown: tuple[str, str, str] = ("", "", "")
    """The names of outputs that `_`, `__` and `___` stand for."""
    restored: int = 0
    """The epoch whose names this commit brought back; 0 if none."""

    def to_bytes(self) -> bytes:
        cell = None if self.cell is None else {name: getattr(self.cell, name) for name in _CELL}
        if cell is not None and not cell["output"]:
            del cell["output"]
        said = {"epoch": self.epoch, "cell": cell, "shown": self.shown, "restored": self.restored}
        return json.dumps(said, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        said: dict[str, Any] = json.loads(data or b'{"epoch":0}')
        cell = said.get("cell")
        return cls(
            epoch=int(said["epoch"]),
            cell=Cell(**{k: v for k, v in cell.items() if k in _CELL}) if cell else None,
            shown=tuple(said.get("shown", ("", "", ""))),
            restored=int(said.get("restored", 0)),
        )


class Resident(msgspec.Struct, frozen=True):
    """A variable that cannot move: why, where in it, who made it and where it lives."""

    name: str
    type: str
    reason: str
    path: str
    """Expression that leads to the culprit, such as `cfg['log'].stream`."""
    cell: int
    worker: str


class Attached(msgspec.Struct, frozen=True):
    """What a worker found when it attached; nothing is bound yet."""

    epoch: int
    names: int
    cells: tuple[Cell, ...]
    """The log of this epoch, oldest first."""
    lost: tuple[Resident, ...]
    """Residents of workers that are gone."""
    resumed: bool
    """Whether anything had been committed before."""
    damaged: tuple[str, ...] = ()
    """Entries of the log that cannot be read any more, one line each; the values that they wrote may be whole."""
    unrestored: tuple[str, ...] = ()
    """Ambient state that could not be brought back, with the reason, one line each."""


class Committed(msgspec.Struct, frozen=True):
    """What a commit did; `dot` is None if nothing had changed and nothing was published."""

    dot: Dot | None
    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    resident: tuple[Resident, ...] = ()
    nbytes: int = 0
    seconds: float = 0.0


class NameRow(msgspec.Struct, frozen=True):
    """One variable as `%namespace` shows it."""

    name: str
    type: str
    nbytes: int
    version: str
    state: str
    """`durable`, `resident`, `lost`, `not loaded`, `damaged` or `not committed`."""
    why: str
    group: tuple[str, ...]
    """Names that share structure with it, itself included."""
    cell: int


class EpochInfo(msgspec.Struct, frozen=True):
    """One numbered span of the session: from a start or restart to the next."""

    number: int
    cells: int
    names: int
    modified_s: float
    current: bool
