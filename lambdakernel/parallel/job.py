"""What every task of one fan-out is told, as one record that travels in a parcel."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from lambdakernel.parallel.analysis import Collect, Final, LastValue


class Job(NamedTuple):
    """One fan-out, without its items."""

    store: str
    session: str
    epoch: int
    """Of the session when the cell ran: a task that finds another one refuses."""
    body: str
    """The body as Python, with so many empty lines before it that its line numbers are the cell's."""
    cell: str
    """The whole cell, as the user wrote it: what tracebacks quote."""
    filename: str
    label: str
    """`Cell In[5]`."""
    target: str
    bound: tuple[str, ...]
    """The names in `target`."""
    names: tuple[str, ...]
    finals: tuple[str, ...]
    """Those of `names` whose final value is collected; the others take the last expression's."""
    seeds: dict[str, int]
    """Of `random` and, where it is used, of `numpy`: drawn from the notebook's own generators."""
    import_path: tuple[str, ...]
    """Where the notebook's worker finds modules (`sys.path`)."""
    fan: str = ""
    """Names the fan-out, among all that ever were."""
    memory_nbytes: int | None = None
    """What the body may allocate."""
    moment: str = ""
    """Which commits the task sees, as `asof` reads it; empty for all there are when it begins."""
    is_whole: bool = False
    """The body is a whole cell: each of `finals` that it has assigned is collected, with its name."""
    shows_value: bool = False
    """The value of the body's last expression is displayed: nothing collects it."""
    most_items: int = 1
    """Items that one process takes, if it stays what it was; 1 if nobody knows that the body leaves no trace."""
    met: tuple[str, ...] = ()
    """Names by which the body may meet values of the notebook, if that is known."""
    shared: tuple[str, ...] = ()
    """Those that functions of the notebook read."""
    modules: tuple[str, ...] = ()
    """Libraries that the body or an item is known to use."""

    def collects(self) -> tuple[Collect, ...]:
        return tuple(Final(n) if n in self.finals else LastValue(n) for n in self.names)

    def to_bytes(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def from_bytes(cls, data: Any) -> Job:
        fields: dict[str, Any] = json.loads(bytes(data))
        whole: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**whole)
