"""Epochs in the store: which is current, what each holds, and how one is copied into another. Reads only.

An epoch is a span of the session from a start or restart to the next. Its keys carry its number, so that a new one is
empty without anything being deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kvs
from lambdakernel.state.bindings import is_output
from lambdakernel.state.cells import Cell, EpochInfo, Note
from lambdakernel.state.units import Keys, Unit, unit_of


def current(replica: kvs.Replica) -> int:
    """Number of the current epoch: the largest that any replica began."""
    return max((int(v.value.payload) for v in replica.get(Keys.CURRENT)), default=1)


def history(notes: Sequence[Note], epoch: int) -> tuple[tuple[Cell, ...], tuple[str, str, str]]:
    """The cells of `epoch` and of those that were restored into it, and what `_` showed last."""
    wanted = {epoch, *(n.restored for n in notes if n.epoch == epoch and n.restored)}
    own = [n for n in notes if n.epoch in wanted]
    shown = next((n.shown for n in reversed(own) if any(n.shown)), ("", "", ""))
    return tuple(n.cell for n in own if n.cell is not None), shown


def units_in(replica: kvs.Replica, epoch: int) -> list[Unit]:
    """The units of an epoch, as they were left."""
    return [unit_of(replica.get(key)[0].value.payload) for key in replica.keys(Keys(epoch).units)]


def names_in(replica: kvs.Replica, epoch: int) -> list[str]:
    """Variables of an epoch, outputs left out."""
    return sorted(n for unit in units_in(replica, epoch) for n in unit.names if not is_output(n))


def ambient_in(replica: kvs.Replica, epoch: int) -> dict[str, bytes]:
    """Ambient state of an epoch, by name."""
    prefix = Keys(epoch).ambients
    return {
        key.removeprefix(prefix).decode(): version.value.payload
        for key in replica.keys(prefix)
        for version in replica.get(key)[:1]
    }


def ambient_versions(replica: kvs.Replica, epoch: int) -> dict[str, object]:
    """Which commits wrote the ambient state of an epoch, by name."""
    prefix = Keys(epoch).ambients
    return {key.removeprefix(prefix).decode(): replica.dots(key) for key in replica.keys(prefix)}


def infos(replica: kvs.Replica, epoch: int, damaged: Any) -> list[EpochInfo]:
    """Every epoch that holds something, oldest first, and the current one, which is `epoch`."""
    notes = [(c, Note.from_bytes(c.note)) for c in replica.log(newest_first=False, damaged=damaged)]
    return [
        EpochInfo(
            number,
            sum(n.cell is not None for _, n in notes if n.epoch == number),
            len(names_in(replica, number)),
            max((c.wall_time_s for c, n in notes if n.epoch == number), default=0.0),
            number == epoch,
        )
        for number in sorted({n.epoch for _, n in notes} | {epoch})
    ]


def copies(replica: kvs.Replica, units: Sequence[Unit], source: int, target: int) -> dict[bytes, kvs.Value | None]:
    """Writes that put `units` and the ambient state of `source` into `target`: records are copied, blobs are not."""
    old, new = Keys(source), Keys(target)
    pairs = [(f(old), f(new)) for unit in units for f in _keys_of(unit)]
    writes: dict[bytes, kvs.Value | None] = {
        there: versions[0].value for here, there in pairs if (versions := replica.get(here))
    }
    writes |= {new.ambient(name): kvs.Value(value) for name, value in ambient_in(replica, source).items()}
    return writes


def _keys_of(unit: Unit) -> tuple[Any, Any]:
    return (lambda keys: keys.unit(unit.id)), (lambda keys: keys.head(unit.id))
