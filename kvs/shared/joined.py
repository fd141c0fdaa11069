"""What all writers of a shared map have said, read as one. Knows no replica: it is given what was published."""

from __future__ import annotations

import warnings
from typing import Any

from kvs.errors import DamageWarning, StoreDamaged
from kvs.lattices import domain
from kvs.shared.kinds import Kind, Number, Parts
from kvs.shared.lane_file import LaneFile
from kvs.shared.part import Part
from kvs.shared.rows import Row
from kvs.shared.table import Table


class Joined:
    """See the module. One thread at a time. Owns the files that it opens or is given, and not the table."""

    def __init__(self, directory: str, key: bytes, kind: Kind, table: Table, published: Parts) -> None:
        self._directory, self._key, self._kind, self._table = directory, key, kind, table
        self._published = published
        self._parts: dict[int, Part] = {}
        self._absent: list[Part] = []
        """Of writers that have no file here."""
        self._seen = bytes(len(table.look()))
        self._idents: dict[Any, int] = {}
        """By key (as `domain.ident` has it), its place, in the order of places."""
        self._keys: list[Any] = []
        self._order: list[Any] = []
        self._rows: list[Row] = []
        self._numbers: dict[Any, Number] = {}
        """What was read last, and what of: it holds while all rows are the same objects."""
        for entries in published.values():
            for ident in entries:
                self._place(ident)
        self._find_absent()

    def put(self, lane: int, file: LaneFile) -> None:
        """The file of the lane that this process writes; nobody else puts another in its place."""
        self._parts[lane] = self._part_of(file)
        self._find_absent()

    def _part_of(self, file: LaneFile) -> Part:
        return Part(file, self._published.get(file.writer, {}))

    def _find_absent(self) -> None:
        here = {part.file.writer for part in self._parts.values() if part.file is not None}
        self._absent = [Part(None, said) for writer, said in self._published.items() if writer not in here]

    def look(self, own: int | None) -> None:
        """Take in what others have made since: files, and entries in them. `own` is the lane that `put` sees to."""
        now = self._table.look()
        if now != self._seen:
            self._find_files(now, own)
        for lane, part in list(self._parts.items()):
            try:
                for ident in part.new():
                    part.place(self._place(ident))
            except StoreDamaged as e:
                self._leave_out(lane, e)

    def _find_files(self, now: bytes, own: int | None) -> None:
        for at in range(0, len(now), 4):
            if now[at : at + 4] != self._seen[at : at + 4] and at // 4 != own:
                self._open(at // 4)
        self._seen = now
        self._find_absent()

    def _open(self, lane: int) -> None:
        if (old := self._parts.pop(lane, None)) is not None:
            old.close()
        try:
            self._parts[lane] = self._part_of(LaneFile.opened(f"{self._directory}/{lane}", self._kind))
        except (StoreDamaged, FileNotFoundError) as e:
            self._leave_out(lane, e)

    def _leave_out(self, lane: int, error: Exception) -> None:
        """Of a file that cannot be read, nothing is shown; the rest is."""
        if (old := self._parts.pop(lane, None)) is not None:
            old.close()
        warnings.warn(f"the shared map {self._key!r} is read without lane {lane}: {error}", DamageWarning, stacklevel=5)

    def _place(self, ident: Any) -> int:
        place = self._idents.setdefault(ident, len(self._keys))
        if place == len(self._keys):
            self._keys.append(domain.original(ident))
            self._order.append(ident)
        return place

    # -- of what was taken in

    def number(self, ident: Any) -> Number | None:
        """Of one entry; None if nobody has written it."""
        width = self._kind.width
        said = [slots for part in self._all() if (slots := part.slots(ident, width))]
        return self._kind.numbers([[[slots[half]] for slots in said] for half in range(width)])[0] if said else None

    def numbers(self) -> dict[Any, Number]:
        """Of every entry that somebody has written."""
        parts = self._all()
        if not parts:
            return {}
        halves = [[part.row(half, self._order) for part in parts] for half in range(self._kind.width)]
        rows = [row for half in halves for row in half]
        if list(map(id, rows)) != list(map(id, self._rows)):
            found = zip(self._keys, self._kind.numbers(halves), strict=True)
            self._numbers = {key: number for key, number in found if number is not None}
            self._rows = rows
        return dict(self._numbers)

    def parts(self) -> Parts:
        """All of it, by writer."""
        width, found = self._kind.width, {writer: dict(said) for writer, said in self._published.items()}
        for part in self._parts.values():
            if part.file is not None:
                said = ((ident, part.slots(ident, width)) for ident in self._order)
                found[part.file.writer] = {ident: tuple(slots) for ident, slots in said if slots}
        return found

    def _all(self) -> list[Part]:
        return [*self._parts.values(), *self._absent]

    def close(self) -> None:
        for part in self._parts.values():
            part.close()
        self._parts.clear()
