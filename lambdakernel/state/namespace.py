"""The live namespace of one worker, and its place in the store.

Theory of operation
- `live` is the dictionary of `__main__`, a real one: names of the store are bound into it when code can reach them,
  never before. A value that is live is never loaded again.
- A commit publishes one delta: units that changed, units that are gone, ambient state that differs, and the cell as
  its note. What is in the store is therefore always a state between two cells.
- Cost follows what a cell reached and changed. Names that it did not reach cost one comparison of pointers each.
"""

from __future__ import annotations

import ast
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

import kvs
from lambdakernel.errors import LambdaKernelError, ValueDamaged
from lambdakernel.state import reach
from lambdakernel.state.ambient import Ambient, AmbientState, default_ambient
from lambdakernel.state.bindings import NEVER, SHOWN, Bindings, is_output
from lambdakernel.state.cells import Attached, Cell, Committed, EpochInfo, NameRow, Note, Resident
from lambdakernel.state.changes import Changes, Detector, Item, Live, Written
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump, dump, load
from lambdakernel.state.residents import LostValue, is_lost, lost_error
from lambdakernel.state.units import Keys, Lost, Unit, resolve, unit_of

REBASE_LIMIT = 4 << 20
"""Bytes of a head up to which it is encoded once more after a load; above, a false change costs one write."""


class Namespace:
    """See the module. Used on one thread at a time; with a reader for `replica` everything but commits works."""

    def __init__(
        self,
        live: dict[str, Any],
        replica: kvs.Replica,
        *,
        ignore: Mapping[str, Any],
        worker: str,
        ambient: Sequence[Ambient] | None = None,
    ) -> None:
        self.live = live
        self._replica = replica
        self._worker = worker
        self._book = ClassBook()
        self._bindings = Bindings(live, ignore)
        self._detector = Detector(live, self._book, worker)
        self._ambient = AmbientState(tuple(default_ambient() if ambient is None else ambient))
        self._epoch = 1
        self._keys = Keys(1)
        self._units: dict[str, Unit] = {}
        self._blobs: dict[str, tuple[kvs.BlobRef, ...]] = {}
        self._versions: dict[str, kvs.Dot] = {}
        self._conflicts: list[Unit] = []
        self._name_unit: dict[str, str] = {}
        self._class_unit: dict[str, str] = {}
        self._shown: tuple[str, ...] = ("", "", "")
        self._loading: set[str] = set()
        self._damaged: list[kvs.KvsError] = []
        """Commits whose cell cannot be told any more; their values may be whole."""
        self._candidates: set[str] = set()
        self._all = False

    # -- attaching

    def attach(self) -> Attached:
        """Learn what the store holds and take over ambient state; no name is bound.

        Raises:
            kvs.KvsError: the store cannot be read. A damaged unit is not that: its names are said to be damaged.
        """
        self._replica.refresh()
        self._epoch = self.current_epoch()
        self._keys = Keys(self._epoch)
        self._read_units()
        self._ambient.restore(self._stored_ambient(self._keys))
        notes = [
            Note.from_bytes(commit.note)
            for commit in self._replica.log(newest_first=False, damaged=self._damaged.append)
        ]
        cells, shown = self._history(notes)
        self._shown = shown
        lost = tuple(self._resident(n, u) for n in self._name_unit if (u := self._units[self._name_unit[n]]).resident)
        names = sum(not is_output(n) for n in self._name_unit)
        damaged = tuple(str(error) for error in self._damaged)
        return Attached(self._epoch, names, cells, lost, bool(cells) or bool(names), damaged)

    def current_epoch(self) -> int:
        versions = self._replica.get(Keys.CURRENT)
        return max((int(v.value.payload) for v in versions), default=1)

    def _history(self, notes: Sequence[Note]) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
        """The cells of this epoch and of those that were restored into it, and what `_` showed last."""
        wanted = {self._epoch, *(n.restored for n in notes if n.epoch == self._epoch and n.restored)}
        own = [n for n in notes if n.epoch in wanted]
        shown = next((n.shown for n in reversed(own) if any(n.shown)), ("", "", ""))
        return tuple(n.cell for n in own if n.cell is not None), shown

    def _read_units(self) -> None:
        claims = []
        for key in self._replica.keys(self._keys.units):
            try:
                for version in self._replica.get(key):
                    unit = unit_of(version.value.payload)
                    claims.append(((version.hlc, *version.dot), unit))
                    self._versions[unit.id] = version.dot
            except (kvs.KvsError, msgspec.MsgspecError) as e:
                unit = Unit(key.rpartition(b"/")[2].decode(), (), resident=Lost(str(e), "", "", ""))
                claims.append(((0, 0, 0), unit))
        self._units, self._conflicts = resolve(claims)
        self._index()

    def _index(self) -> None:
        self._name_unit = {name: unit.id for unit in self._units.values() for name in unit.names}
        self._class_unit = {uid: unit.id for unit in self._units.values() for uid in unit.classes}

    def _stored_ambient(self, keys: Keys) -> dict[str, bytes]:
        prefix = keys.ambients
        found = {}
        for key in self._replica.keys(prefix):
            for version in self._replica.get(key)[:1]:
                found[key.removeprefix(prefix).decode()] = version.value.payload
        return found

    def refresh(self) -> None:
        """Join what other replicas committed; values that moved are dropped here and loaded when they are reached."""
        changed = self._replica.refresh()
        if not any(key.startswith(self._keys.units) for key in changed):
            return
        before = dict(self._units)
        self._versions.clear()
        self._read_units()
        for unit_id, unit in before.items():
            if self._units.get(unit_id) != unit:
                self._detector.drop(unit_id)
                for name in unit.names:
                    self.live.pop(name, None)
                self._bindings.forget(unit.names)

    # -- before a cell

    def prepare(self, code: str | Sequence[ast.stmt]) -> None:
        """Bind every name that the code can reach and that is not bound; they are candidates of the next commit.

        Raises:
            ResidentLost: the code itself reads a name whose value was lost with its worker; nothing was run.
            ValueDamaged: it reads one whose stored value cannot be loaded.
        """
        found = reach.of_source(code) if isinstance(code, str) else reach.of_tree(code)
        for name in found.reads:
            self._refuse_lost(name)
        if found.dynamic:
            self.touch_all()
            self._bind(self._name_unit, found.reads)
            return
        wanted = self.closure(found.names | found.hints)
        self._candidates |= wanted
        self._bind(wanted, found.reads)
        if found.resizes:
            self._bindings.let_go(wanted & self._name_unit.keys())

    def _refuse_lost(self, name: str) -> None:
        bound = self.live.get(name)
        if name in self.live and not is_lost(bound):
            return
        unit = self._units.get(self._name_unit.get(name, ""))
        if unit is not None and unit.resident is not None:
            raise lost_error(self._resident(name, unit))

    def closure(self, names: Iterable[str]) -> set[str]:
        """`names` with everything that code in their values may use; every name, if some of it can use any."""
        found, dynamic = self._reached(names)
        return found | set(self._name_unit) if dynamic else found

    def _reached(self, names: Iterable[str]) -> tuple[set[str], bool]:
        """The closure of `names`, and whether some code in it can use any name."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name in found:
                continue
            found.add(name)
            if name in reach.OUTPUT_CACHES:
                queue += [n for n in self._name_unit if is_output(n)]
            elif name in SHOWN:
                queue += [n for n in self._shown if n]
            unit = self._units.get(self._name_unit.get(name, ""))
            if unit is None:
                continue
            definitions = [unit, *self._definitions(unit)]
            if any(definition.dynamic for definition in definitions):
                return found, True
            queue += [name for definition in definitions for name in (*definition.names, *definition.refs)]
        return found, False

    def _definitions(self, unit: Unit) -> list[Unit]:
        """Units that define the classes that a unit uses, and the classes that these use."""
        found: dict[str, Unit] = {}
        queue = [*unit.uses]
        while queue:
            definition = self._units.get(self._class_unit.get(queue.pop(), ""))
            if definition is not None and definition.id not in found:
                found[definition.id] = definition
                queue += definition.uses
        return list(found.values())

    def touch(self, names: Iterable[str]) -> None:
        """These may change before the next commit."""
        self._candidates |= self.closure(names)

    def touch_all(self) -> None:
        """Anything may."""
        self._all = True

    # -- loading

    def load(self, names: Iterable[str]) -> None:
        """Bind names of the store that are not bound; others are left alone."""
        self._bind(self.closure(names), ())

    def load_all(self) -> None:
        self._bind(tuple(self._name_unit), ())

    def _bind(self, names: Iterable[str], reads: Iterable[str]) -> None:
        must = set(reads)
        for name in list(names):
            unit_id = self._name_unit.get(name)
            if unit_id is None or (name in self.live and not self._may_load_again(name, unit_id)):
                continue
            try:
                self._load(self._units[unit_id])
            except ValueDamaged as e:
                if name in must:
                    raise
                self._stand_in(self._units[unit_id], e)
        for name, output in zip(SHOWN, self._shown, strict=True):
            if (
                output in self.live and type(self.live.get(name, "")) is str and not self.live.get(name)
            ):  # what the shell starts with
                self.live[name] = self.live[output]

    def _may_load_again(self, name: str, unit_id: str) -> bool:
        """Whether a value stands in for one that could not be loaded, but may be now (an interrupt came between)."""
        if not is_lost(self.live[name]) or self._is_resident(unit_id):
            return False
        self._detector.drop(unit_id)
        return True

    def _load(self, unit: Unit) -> None:
        """Bind a unit's names and learn its classes.

        Raises:
            ValueDamaged: it cannot be loaded; nothing was bound.
        """
        if unit.id in self._detector.units:
            return
        if unit.resident is not None:
            self._stand_in(unit, None)
            return
        what = ", ".join(unit.names) or "a class"
        if unit.id in self._loading:
            raise ValueDamaged(what, "its definition refers to itself before it exists")
        self._loading.add(unit.id)
        try:
            value, blobs = self._read_value(unit, what)
        finally:
            self._loading.discard(unit.id)
        self._blobs[unit.id] = blobs
        bound = [name for name in unit.names if name not in self.live or is_lost(self.live[name])]
        for name in bound:
            self.live[name] = value["names"][name]
        self._show_outputs(bound)
        self._bindings.remember(bound)
        here = Live(unit.id, _items(unit), unit.fingerprint, uses=frozenset(unit.uses))
        self._detector.add(here)
        if unit.nbytes - sum(ref.nbytes for ref in blobs) <= REBASE_LIMIT and bound == list(unit.names):
            self._detector.rebase(here, unit.fingerprint[1:])

    def _show_outputs(self, names: Sequence[str]) -> None:
        """Put loaded outputs back into `Out`, in the order of their cells."""
        outputs, numbers = self.live.get("Out"), [int(name[1:]) for name in names if is_output(name)]
        if not numbers or not isinstance(outputs, dict):
            return
        outputs.update((number, self.live[f"_{number}"]) for number in numbers)
        ordered = sorted(outputs.items())
        outputs.clear()
        outputs.update(ordered)

    def _read_value(self, unit: Unit, what: str) -> tuple[dict[str, Any], tuple[kvs.BlobRef, ...]]:
        try:
            versions = self._replica.get(self._keys.head(unit.id))
            if not versions:
                raise ValueDamaged(what, "its value is not in the store")
            stored = versions[0].value
            buffers = [self._replica.open_blob(ref) for ref in stored.blobs]
        except kvs.KvsError as e:
            raise ValueDamaged(what, str(e)) from e
        return self._decode(what, stored.payload, buffers), stored.blobs

    def _decode(self, what: str, head: bytes, buffers: Sequence[Any]) -> Any:
        return load(what, head, buffers, self.live, self._book, self._class_of, self._name_of)

    def _class_of(self, uid: str) -> type:
        unit = self._units.get(self._class_unit.get(uid, ""))
        if unit is not None:
            self._load(unit)
        cls = self._book.get(uid)
        if cls is None:
            raise ValueDamaged("a class", f"its definition ({uid}) is not in the store")
        return cls

    def _name_of(self, name: str) -> Any:
        """What a value refers to by name in `__main__`."""
        if name not in self.live and self._name_unit.get(name, "") not in self._loading:
            self.load([name])
        if name not in self.live:
            raise AttributeError(f"__main__ has no {name!r}")
        return self.live[name]

    def _stand_in(self, unit: Unit, error: ValueDamaged | None) -> None:
        """Bind what says, when it is used, why the value is not there."""
        if error is not None:
            unit = msgspec.structs.replace(unit, resident=Lost(f"damaged: {error}", unit.names[0], "?", "its worker"))
        for name in unit.names:
            if name not in self.live or is_lost(self.live[name]):
                self.live[name] = LostValue(self._resident(name, unit))
        self._bindings.remember(n for n in unit.names if is_lost(self.live[n]))
        self._detector.add(Live(unit.id, _items(unit), ()))

    def _resident(self, name: str, unit: Unit) -> Resident:
        why = unit.resident or Lost("", name, "", "")
        return Resident(name, why.type, why.reason, why.path or name, unit.cell, why.worker)

    # -- after a cell

    def commit(self, cell: Cell | None) -> Committed:
        """Publish what changed as one delta; with a cell always, since the log has every cell.

        Raises:
            kvs.KvsError: nothing was published; the same changes are found again by the next commit.
        """
        start = time.perf_counter()
        rebound, gone = self._bindings.changes()
        gone_ours = [n for n in gone if n in self._name_unit]
        changes = self._detector.detect(self._suspects(), rebound, gone_ours)
        ambient = self._ambient.changed()
        if cell is None and not (changes.written or changes.emptied or ambient):
            self._settle()
            return Committed(None)
        number = cell.number if cell is not None else 0
        units = [self._unit(written, number) for written in changes.written]
        writes, blobs = self._writes(changes, units, ambient)
        shown = self._what_is_shown()
        dot = self._replica.publish(writes, Note(self._epoch, cell, shown).to_bytes())
        self._apply(changes, units, blobs, dot, gone)
        self._shown = shown
        self._ambient.committed(ambient)
        self._settle()
        return Committed(
            dot,
            tuple(n for unit in units for n in unit.names),
            tuple(gone_ours),
            tuple(self._resident(n, u) for u in units if u.resident for n in u.names),
            sum(w.dump.nbytes for w in changes.written if w.dump),
            time.perf_counter() - start,
        )

    def _settle(self) -> None:
        self._candidates.clear()
        self._all = False

    def _suspects(self) -> Iterable[str]:
        """Live units that may have changed since the last commit; at most once each."""
        reached, dynamic = self._reached(self._candidates)
        units = {self._name_unit[n] for n in reached if n in self._name_unit}
        if self._all or dynamic or any(map(self._is_resident, units)):
            # nobody can say what hangs on a resident, or what the code in it uses: a list that has a name of its own
            return [u for u in self._detector.units if not self._is_resident(u)]
        units |= {definition.id for u in units for definition in self._definitions(self._units[u])}
        return [u for u in units if u in self._detector.units and not self._is_resident(u)]

    def _is_resident(self, unit_id: str) -> bool:
        """A resident is looked at again only when its name is bound anew: what cannot be encoded cannot be compared."""
        unit = self._units.get(unit_id)
        return unit is not None and unit.resident is not None

    def _unit(self, written: Written, cell: int) -> Unit:
        names = tuple(key for kind, key in written.items if kind == "n")
        found = written.dump or Dump(b"", [], (), frozenset(), False, frozenset())
        return Unit(
            id=written.replaces[0] if written.replaces else uuid.uuid4().hex,
            names=names,
            classes=tuple(key for kind, key in written.items if kind == "c"),
            refs=tuple(sorted(found.refs)),
            dynamic=found.dynamic,
            uses=tuple(sorted(found.uses)),
            types={name: type(self.live[name]).__name__ for name in names},
            fingerprint=found.fingerprint,
            nbytes=found.nbytes,
            cell=cell or max((u.cell for u in map(self._units.get, written.replaces) if u), default=0),
            resident=written.lost,
        )

    def _writes(
        self, changes: Changes, units: Sequence[Unit], ambient: Mapping[str, bytes]
    ) -> tuple[dict[bytes, kvs.Value | None], dict[str, tuple[kvs.BlobRef, ...]]]:
        writes: dict[bytes, kvs.Value | None] = {}
        blobs: dict[str, tuple[kvs.BlobRef, ...]] = {}
        for unit_id in [*changes.emptied, *(u for w in changes.written for u in w.replaces)]:
            writes[self._keys.unit(unit_id)] = writes[self._keys.head(unit_id)] = None
        buffered = any(written.dump is not None and written.dump.buffers for written in changes.written)
        known = self._known_blobs() if buffered else {}
        for written, unit in zip(changes.written, units, strict=True):
            writes[self._keys.unit(unit.id)] = kvs.Value(unit.to_bytes())
            if written.dump is not None:
                blobs[unit.id] = tuple(
                    known.get((mark, buffer.nbytes)) or self._replica.put_blob(buffer)
                    for mark, buffer in zip(written.dump.fingerprint[1:], written.dump.buffers, strict=True)
                )
                writes[self._keys.head(unit.id)] = kvs.Value(written.dump.head, blobs[unit.id])
        for name, value in ambient.items():
            writes[self._keys.ambient(name)] = kvs.Value(value)
        return writes, blobs

    def _known_blobs(self) -> dict[tuple[bytes, int], kvs.BlobRef]:
        """Blobs that current units hold, by the hash of their content: not hashed nor written again."""
        return {
            (mark, ref.nbytes): ref
            for unit_id, refs in self._blobs.items()
            if unit_id in self._units
            for mark, ref in zip(self._units[unit_id].fingerprint[1:], refs, strict=False)
        }

    def _apply(
        self, changes: Changes, units: Sequence[Unit], blobs: Mapping[str, tuple[kvs.BlobRef, ...]], dot: kvs.Dot,
        gone: Sequence[str],
    ) -> None:  # fmt: skip
        """The store has it: remember it as the state to compare with."""
        for unit_id in [*changes.emptied, *(u for w in changes.written for u in w.replaces)]:
            self._detector.drop(unit_id)
            self._units.pop(unit_id, None)
            self._blobs.pop(unit_id, None)
        for written, unit in zip(changes.written, units, strict=True):
            self._units[unit.id] = unit
            self._versions[unit.id] = dot
            self._blobs[unit.id] = blobs.get(unit.id, ())
            ids = written.dump.ids if written.dump is not None else frozenset()
            self._detector.add(Live(unit.id, written.items, unit.fingerprint, ids, frozenset(unit.uses)))
            self._bindings.remember(unit.names)
        self._bindings.forget(gone)
        if changes.written or changes.emptied:
            self._index()

    def _what_is_shown(self) -> tuple[str, str, str]:
        one, two, three = (self._bindings.shown_as(self.live.get(name)) if name in self.live else "" for name in SHOWN)
        return (one, two, three)

    # -- looking

    def residents(self) -> list[Resident]:
        """Values that live in this process and nowhere else."""
        return [
            self._resident(name, unit)
            for unit in self._units.values()
            if unit.resident is not None
            for name in unit.names
            if name in self.live and not is_lost(self.live[name])
        ]

    def rows(self) -> list[NameRow]:
        """One row a variable of the user, sorted by name; outputs (`_5`) are left out."""
        rebound, _ = self._bindings.changes()
        fresh = [n for n in rebound if not is_output(n) and not n.startswith("_")]
        new = [
            NameRow(n, type(self.live[n]).__name__, 0, "", "not committed", "bound in this cell", (n,), 0)
            for n in fresh
        ]
        stored = [self._row(n) for n in self._name_unit if not is_output(n) and n not in fresh]
        return sorted(new + stored, key=lambda row: row.name)

    def _row(self, name: str) -> NameRow:
        unit = self._units[self._name_unit[name]]
        state, why = "durable", ""
        if unit.resident is not None:
            here = name in self.live and not is_lost(self.live[name])
            state, why = ("resident" if here else "lost"), f"{unit.resident.path}: {unit.resident.reason}"
        elif name not in self.live:
            state, why = "not loaded", "comes when a cell reaches it"
        elif is_lost(self.live[name]):
            state, why = "damaged", "its stored value cannot be loaded"
        version = str(self._versions.get(unit.id, ""))
        kind = unit.types.get(name, "?")
        return NameRow(name, kind, unit.nbytes, version, state, why, unit.names, unit.cell)

    # -- epochs

    def begin_epoch(self) -> int:
        """Seal the current epoch: a new, empty one is current, durably. The names bound here are left alone."""
        number = self.current_epoch() + 1
        self._replica.publish({Keys.CURRENT: kvs.Value(str(number).encode())}, Note(self._epoch).to_bytes())
        return number

    def epochs(self) -> list[EpochInfo]:
        """Every epoch that holds something, oldest first, and the current one."""
        log = self._replica.log(newest_first=False, damaged=self._damaged.append)
        notes = [(c, Note.from_bytes(c.note)) for c in log]
        numbers = sorted({n.epoch for _, n in notes} | {self._epoch})
        return [
            EpochInfo(
                number,
                sum(n.cell is not None for _, n in notes if n.epoch == number),
                len(self._names_in(number)),
                max((c.wall_time_s for c, n in notes if n.epoch == number), default=0.0),
                number == self._epoch,
            )
            for number in numbers
        ]

    def _names_in(self, epoch: int) -> list[str]:
        keys = self._replica.keys(Keys(epoch).units)
        units = [unit_of(self._replica.get(key)[0].value.payload) for key in keys]
        return sorted(n for unit in units for n in unit.names if not is_output(n))

    def restore(self, epoch: int) -> list[str]:
        """Bring the names of another epoch into this one, by reference to what is stored; they replace equal names.

        Raises:
            LambdaKernelError: there is no such epoch, or it holds nothing.
            kvs.KvsError: nothing was restored.
        """
        source = Keys(epoch)
        keys = self._replica.keys(source.units)
        if epoch == self._epoch or not keys:
            known = ", ".join(str(e.number) for e in self.epochs() if e.names and not e.current) or "none"
            raise LambdaKernelError(f"epoch {epoch} has nothing to restore; epochs with variables: {known}.")
        units = [unit_of(self._replica.get(key)[0].value.payload) for key in keys]
        self._give_way({n for unit in units for n in unit.names})
        writes: dict[bytes, kvs.Value | None] = {}
        for unit in units:
            for versions, key in (
                (self._replica.get(source.unit(unit.id)), self._keys.unit(unit.id)),
                (self._replica.get(source.head(unit.id)), self._keys.head(unit.id)),
            ):
                if versions:
                    writes[key] = versions[0].value
        stored = self._stored_ambient(source)
        writes.update({self._keys.ambient(name): kvs.Value(value) for name, value in stored.items()})
        self._replica.publish(writes, Note(self._epoch, restored=epoch).to_bytes())
        self._ambient.restore(stored)
        self._forget_live({n for unit in units for n in unit.names})
        self._versions.clear()
        self._read_units()
        return sorted(n for unit in units for n in unit.names if not is_output(n))

    def _give_way(self, names: set[str]) -> None:
        """Commit, with `names` deleted: what shared a co-variable with one of them stays."""
        clash = names & self._name_unit.keys()
        self._bind(clash, ())
        for name in clash & self.live.keys():
            del self.live[name]
        self.commit(None)

    def _forget_live(self, names: set[str]) -> None:
        for name in names & self.live.keys():
            unit_id = self._detector.unit_of(("n", name))
            if unit_id is not None:
                self._detector.drop(unit_id)
            del self.live[name]
        self._bindings.forget(names)

    # -- values between workers of one session

    def encode(self, value: Any) -> Dump:
        """A value for another worker of this session that sees this one's commits.

        Raises:
            Exception: what an object's own reducer raised; `CannotMove` for one that lives here only.
        """
        return dump(value, self.live, self._book)[0]

    def decode(self, head: bytes, buffers: Sequence[Any]) -> Any:
        """The value that another worker encoded.

        Raises:
            ValueDamaged: it cannot be loaded.
        """
        return self._decode("a value of a task", head, buffers)

    def mutated(self, except_names: Iterable[str]) -> list[str]:
        """Names among the candidates, and not in `except_names`, whose value changed in place since it was loaded."""
        rebound, gone = self._bindings.changes()
        skip = {*except_names, *rebound, *gone}
        changes = self._detector.detect(self._suspects(), (), ())
        names = {key for w in changes.written for kind, key in w.items if kind == "n" and key not in skip}
        return sorted({name for name in names if not is_output(name)} or names)


def _items(unit: Unit) -> tuple[Item, ...]:
    return (*(("n", name) for name in unit.names), *(("c", uid) for uid in unit.classes))


__all__ = ["NEVER", "Namespace"]
