"""The live namespace of one worker, and its place in the store.

Theory of operation
- `live` is the dictionary of `__main__`, a real one: names of the store are bound into it when code can reach them,
  never before. A value that is live is never loaded again.
- A commit publishes one delta: units that changed, units that are gone, ambient state that differs, and the cell as
  its note. What is in the store is therefore always a state between two cells.
- Cost follows what a cell reached and changed. Names that it did not reach cost one comparison of pointers each.

The parts: `reach` says what code touches, `catalogue` what the store holds, `loader` binds it, `changes` finds what a
cell did to it; this module puts them in order, and is the only one that writes.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state import deep, epochs, forgetful, newclasses, reach
from lambdakernel.state.ambient import (
    RANDOM,
    Ambient,
    AmbientState,
    Held,
    HeldState,
    Patches,
    default_ambient,
    is_held,
)
from lambdakernel.state.beginning import Beginning
from lambdakernel.state.bindings import SHOWN, Bindings, is_output
from lambdakernel.state.bounds import Bounds
from lambdakernel.state.buffers import Buffers
from lambdakernel.state.catalogue import Catalogue, resident
from lambdakernel.state.cells import Attached, Cell, Committed, EpochInfo, NameRow, Note, Resident
from lambdakernel.state.changes import Detector
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump, dump, unmarked
from lambdakernel.state.fixtures import Fixtures, of_python
from lambdakernel.state.following import Following
from lambdakernel.state.loader import Loader
from lambdakernel.state.moving import Parts
from lambdakernel.state.publishing import Publisher
from lambdakernel.state.residents import is_lost, lost_error, nameless, never_freed
from lambdakernel.state.scrub import Findings, examine
from lambdakernel.state.shown import Shown, shown_after
from lambdakernel.state.travel import Traveller
from lambdakernel.state.units import Keys, Unit
from lambdakernel.state.weak import never_finalized


class Namespace:
    """See the module. Used on one thread at a time; with a reader for `replica` everything but commits works."""

    def __init__(
        self,
        live: dict[str, Any],
        replica: kvs.Replica,
        *,
        ignore: Mapping[str, Any],
        worker: str,
        ambient: Sequence[Ambient | Held] | None = None,
        fixtures: Fixtures | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.live = live
        self._bounds = bounds or Bounds()
        self._replica = replica
        self._worker = worker
        items = tuple(default_ambient(live) if ambient is None else ambient)
        originals = next((item.originals for item in items if isinstance(item, Patches)), None)
        self._book = ClassBook(fixtures or Fixtures(of_python()), originals)
        self._bindings = Bindings(live, ignore)
        self._buffers = Buffers()
        self._detector = Detector(live, self._book, worker, self._buffers)
        registry = tuple(item for item in items if not isinstance(item, Held))
        self._start, self._ambient = Beginning(registry, live), AmbientState(registry)
        self._held = HeldState([item for item in items if isinstance(item, Held)], live, self._ambient.failed)
        self._catalogue = Catalogue()
        self._loader = Loader(live, replica, self._catalogue, self._bindings, self._detector, self._book, self._buffers)
        self._following = Following(replica, self._catalogue, self._loader, self._detector, self._held, self.closure)
        self._epoch = 1
        self._keys = Keys(1)
        self._damaged: list[kvs.KvsError] = []
        """Commits whose cell cannot be told any more; their values may be whole."""
        self._candidates: set[str] = set()
        self._all = False
        self._stores: set[tuple[str, ...]] = set()
        """Dotted names of attributes that code since the last commit assigns."""
        self._publisher = Publisher(live, replica, self._catalogue, self._loader, self._detector.here, self._bindings)
        self._loaded_back: set[str] = set()
        """Kinds of values that were seen to come back from their bytes."""

    # -- attaching

    def attach(self) -> Attached:
        """Learn what the store holds and take over ambient state; no name is bound.

        Raises:
            kvs.KvsError: the store cannot be read. A damaged unit is not that: its names are said to be damaged.
        """
        self._replica.refresh()
        self._epoch = self.current_epoch()
        self._keys = self._loader.keys = Keys(self._epoch)
        self._catalogue.read(self._replica, self._keys)
        self._ambient.restore(epochs.ambient_in(self._replica, self._epoch))
        cells, self._catalogue.shown = self._history()
        self._following.hold()
        names = sum(not is_output(n) and not is_held(n) for n in self._catalogue.names)
        lost = tuple(self._catalogue.residents())
        damaged = tuple(str(error) for error in self._damaged)
        unrestored = tuple(f"{name} ({why})" for name, why in self._ambient.failed.items())
        return Attached(self._epoch, names, cells, lost, bool(cells) or bool(names), damaged, unrestored)

    def _history(self) -> tuple[tuple[Cell, ...], tuple[str, str, str]]:
        log = self._replica.log(newest_first=False, damaged=self._damaged.append)
        return epochs.history([Note.from_bytes(commit.note) for commit in log], self._epoch)

    def cells(self) -> tuple[Cell, ...]:
        """Those of this epoch, as the store has them now."""
        return self._history()[0]

    def refresh(self) -> None:
        """Join what other replicas committed; values that moved are dropped here and loaded when they are reached."""
        self._following.join(self._keys)

    def start_over(self, *, anew: bool) -> None:
        """For code that has nothing to do with what ran here before: the same, and nothing is a candidate any more.
        What `_` and ambient state were, they stay. `anew`: `replica` reads by other means than it did, or somebody else
        has asked it for news."""
        self._stores.clear()
        self._settle()
        if anew:
            self._following.read(self._keys)
        else:
            self._following.join(self._keys)

    def outlive_process(self) -> None:
        """At the end of the process: no finalizer runs of values that live on in the store."""
        durable = [unit for unit in self._catalogue.units.values() if unit.resident is None]
        names = [n for unit in durable for n in unit.names if n in self.live]
        never_freed([self.live[name] for name in names if not is_lost(self.live[name])])
        here = self._detector.here.units
        never_finalized({address for unit in durable if unit.id in here for address in here[unit.id].ids})

    def close(self) -> None:
        """Watch no memory and no commit any more; the values stay."""
        self._buffers.close()
        self._bounds.close()

    def after_fork(self) -> None:
        """This process is a fork of the one that used it, and goes on; `replica` must be fit for that."""
        self._buffers.after_fork()

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
        if found.stores:
            self._stores |= found.stores
            self._held.notice(found.stores, {**_modules(found.imports), **self.live}, ran=False)
        self._bind_reached(found)
        self._ambient.settle(self.live)

    def prepare_names(self, names: Iterable[str]) -> None:
        """The same for names that code may come to read; one that is lost is refused when it is."""
        self._bind_reached(reach.Reach(names=set(names)))

    def _bind_reached(self, found: reach.Reach) -> None:
        if found.dynamic:
            self.touch_all()
            self._loader.bind(self._catalogue.names, found.reads)
            return
        wanted = self.closure(found.names | found.hints | self._held.names)
        self._candidates |= wanted
        self._loader.bind(wanted, found.reads)
        if found.resizes:
            self._bindings.let_go(name for name in wanted if name in self._catalogue)

    def _refuse_lost(self, name: str) -> None:
        if name in self.live and not is_lost(self.live[name]):
            return
        unit = self._catalogue.of_name(name)
        if unit is not None and unit.resident is not None:
            raise lost_error(resident(name, unit))

    def closure(self, names: Iterable[str]) -> set[str]:
        """`names` with everything that code in their values may use; every name, if some of it can use any."""
        found, dynamic = self._catalogue.reached(names)
        return found | set(self._catalogue.names) if dynamic else found

    def nbytes_reached(self, code: Sequence[ast.stmt]) -> int:
        """What the values that the code can reach take in the store."""
        found = reach.of_tree(code)
        names = self._catalogue.names if found.dynamic else self.closure(found.names | found.hints)
        return self._catalogue.nbytes_of(names)

    def touch(self, names: Iterable[str]) -> None:
        """These may change before the next commit."""
        self._candidates |= self.closure(names)

    def touch_all(self) -> None:
        """Anything may."""
        self._all = True

    def load(self, names: Iterable[str]) -> None:
        """Bind names of the store that are not bound; others are left alone."""
        self._loader.bind(self.closure(names))

    def output(self, number: int) -> Any:
        """The value of `Out[number]`, loaded if it has to be; None if it is nowhere."""
        name = f"_{number}"
        self.load([name])
        value = self.live.get(name)
        return None if is_lost(value) else value

    def load_all(self) -> None:
        self._loader.bind(self._catalogue.names)

    # -- after a cell

    def commit(self, cell: Cell | None) -> Committed:
        """Publish what changed as one delta; with a cell always, since the log has every cell.

        Raises:
            kvs.KvsError: nothing was published; the same changes are found again by the next commit.
        """
        with self._bounds.in_force():
            if self._stores:
                self._held.notice(self._stores, self.live, ran=True)
                self._stores.clear()
            self._held.capture()
            with self._held.bound():
                return self._commit(cell)

    def _commit(self, cell: Cell | None) -> Committed:
        start = time.perf_counter()
        rebound, gone = self._bindings.changes()
        gone_ours = [n for n in gone if n in self._catalogue]
        changes = self._detector.detect(self._suspects(), rebound, gone_ours)
        ambient = self._ambient.changed()
        if cell is None and not (changes.written or changes.emptied or ambient):
            self._settle()
            return Committed(None)
        number = cell.number if cell is not None else 0
        delta = self._publisher.delta(changes, ambient, number)
        shown = self._what_is_shown(gone)
        dot = self._replica.publish(delta.writes, Note(self._epoch, cell, shown).to_bytes())
        self._publisher.published(changes, delta, dot, gone)
        self._catalogue.shown = shown
        self._ambient.committed(ambient)
        self._settle()
        return Committed(
            dot,
            tuple(n for unit in delta.units for n in unit.names),
            tuple(gone_ours),
            tuple(resident(n, u) for u in delta.units if u.resident for n in u.names),
            delta.nbytes,
            time.perf_counter() - start,
        )

    def _settle(self) -> None:
        self._candidates.clear()
        self._all = False

    def _suspects(self) -> list[str]:
        """Live units that may have changed since the last commit."""
        reached = self._candidates | self._held.names
        return self._catalogue.suspects(self._detector.here.units, reached, everything=self._all)

    def _what_is_shown(self, gone: Iterable[str]) -> Shown:
        live, left = self.live, set(gone)
        values = [live.get(name) for name in SHOWN]
        here = [None if type(value) is str and not value else self._bindings.shown_as(value) for value in values]
        return shown_after(here, self._catalogue.shown, lambda name: name not in left)

    # -- looking

    def residents(self) -> list[Resident]:
        """Values that live in this process and nowhere else."""
        known = self._catalogue.residents()
        here = [r for r in known if r.name in self.live and not is_lost(self.live[r.name])]
        return here + nameless(self.live, self._worker)

    def type_of(self, name: str) -> str:
        """Name of the type of a stored variable, which is not loaded; empty if there is none."""
        unit = self._catalogue.of_name(name)
        return unit.types.get(name, "") if unit is not None else ""

    def rows(self, among: Collection[str] | None = None) -> list[NameRow]:
        """One row a variable, sorted by name; of those `among` these names, if some are given. As in `%who`, names with
        a leading underscore are left out."""
        rebound, _ = self._bindings.changes()
        fresh = [n for n in rebound if not n.startswith("_") and (among is None or n in among)]
        new = [
            NameRow(n, type(self.live[n]).__name__, 0, "", "not committed", "bound in this cell", (n,), 0)
            for n in fresh
        ]
        known = set(self._catalogue.names if among is None else filter(self._catalogue.__contains__, among))
        units = {n: self._catalogue.of_name(n) for n in known.difference(fresh) if not n.startswith("_")}
        stored = [self._row(n, unit) for n, unit in units.items() if unit is not None]
        odd = [
            NameRow(r.name, r.type, 0, "", "resident", r.reason, (r.name,), 0)
            for r in nameless(self.live, self._worker)
            if among is None or r.name in among
        ]
        return sorted(new + stored + odd, key=lambda row: row.name)

    def _row(self, name: str, unit: Unit) -> NameRow:
        state, why = "durable", ""
        if unit.resident is not None:
            here = name in self.live and not is_lost(self.live[name])
            state, why = ("resident" if here else "lost"), f"{unit.resident.path}: {unit.resident.reason}"
        elif name not in self.live:
            state, why = "not loaded", "comes when a cell reaches it"
        elif is_lost(self.live[name]):
            state, why = "damaged", "its stored value cannot be loaded"
        version = str(self._catalogue.versions.get(unit.id, ""))
        kind = unit.types.get(name, "?")
        return NameRow(name, kind, unit.nbytes, version, state, why, unit.names, unit.cell)

    # -- what no cell is blamed for

    def examine(self) -> Findings:
        """For a fork of this process: what a look at every value finds. Runs code of the values; commits nothing."""
        with self._held.bound(), deep.shallow():
            return examine(self._detector, self.live, self._book, frozenset(self._loaded_back))

    def take(self, findings: Findings) -> bool:
        """Whether the next commit has to do something for `findings`; it then looks at everything."""
        self._loaded_back.update(findings.kinds)
        if findings.untrue:
            self._book.untrue.update(findings.untrue)
            self._detector.here.distrust()
        marks = {mark for unit in self._detector.here.units.values() for mark in unit.fingerprint[1:]}
        if findings.changed or findings.untrue or self._buffers.any_written(marks):
            self.touch_all()
            return True
        return False

    # -- ambient state

    @property
    def held_names(self) -> list[str]:
        """Of ambient state that is stored as units."""
        return [*self._catalogue.held]

    def surroundings(self) -> frozenset[tuple[str, object]]:
        """Equal while the ambient state that is committed stays as it is, but for the state of random generators."""
        plain = epochs.ambient_versions(self._replica, self._epoch)
        held = {name: self._catalogue.version_of(name) for name in self.held_names}
        return frozenset((name, what) for name, what in (plain | held).items() if name not in RANDOM)

    # -- epochs

    def current_epoch(self) -> int:
        """Number of the current epoch: the largest that any replica began."""
        return epochs.current(self._replica)

    def begin_epoch(self) -> int:
        """Seal the current epoch: a new, empty one is current, durably. The names bound here are left alone."""
        number = self.current_epoch() + 1
        self._replica.publish({Keys.CURRENT: kvs.Value(str(number).encode())}, Note(self._epoch).to_bytes())
        return number

    def epochs(self) -> list[EpochInfo]:
        """Every epoch that holds something, oldest first, and the current one."""
        return epochs.infos(self._replica, self._epoch, self._damaged.append)

    def restore(self, epoch: int) -> list[str]:
        """Bring the names of another epoch into this one, by reference to what is stored; they replace equal names.

        Raises:
            LambdaKernelError: there is no such epoch, or it holds nothing.
            kvs.KvsError: nothing was restored.
        """
        units = epochs.units_in(self._replica, epoch)
        if epoch == self._epoch or not units:
            known = ", ".join(str(e.number) for e in self.epochs() if e.names and not e.current) or "none"
            raise LambdaKernelError(f"epoch {epoch} has nothing to restore; epochs with variables: {known}.")
        names = {n for unit in units for n in unit.names}
        self._give_way(names)
        writes = epochs.copies(self._replica, units, epoch, self._epoch)
        self._replica.publish(writes, Note(self._epoch, restored=epoch).to_bytes())
        self._ambient.restore(epochs.ambient_in(self._replica, epoch))
        self._loader.forget(names)
        self._catalogue.read(self._replica, self._keys)
        self._following.hold()
        return sorted(n for n in names if not is_output(n) and not is_held(n))

    def _give_way(self, names: set[str]) -> None:
        """Commit, with `names` deleted: what shared a co-variable with one of them stays."""
        self._held.give_way(names)
        clash = {name for name in names if name in self._catalogue}
        self._loader.bind(clash)
        for name in clash & self.live.keys():
            del self.live[name]
        self.commit(None)

    # -- time travel

    def past(self) -> Traveller:
        """What was committed in this epoch, to be looked at."""
        parts = Parts(
            self.live, self._replica, self._catalogue, self._loader, self._detector, self._book, self._ambient,
            self._following.hold,
        )  # fmt: skip
        return Traveller(parts, self._epoch, self._start)

    @contextmanager
    def travelling(self) -> Iterator[Traveller]:
        """The same, to go back to: all changes so far are committed, and what the running cell reaches stays loaded
        and a candidate of its own commit."""
        held, everything = set(self._candidates), self._all
        self.touch_all()
        self.commit(None)
        try:
            yield self.past()
        finally:
            self._candidates, self._all = held, everything
        self._loader.bind(self._catalogue.names if everything else held)

    # -- values between workers of one session

    def encode(self, value: Any) -> Dump:
        """A value for another worker of this session that sees this one's commits.

        Raises:
            Exception: what an object's own reducer raised; `CannotMove` for one that lives here only.
        """
        return dump(value, self.live, self._book, mark=unmarked)[0]

    def encode_whole(self, value: Any) -> Dump:
        """As `encode`, with the definitions of classes that are not committed. Gives these a new identity."""
        return newclasses.encode(value, self.live, self._book, lambda uid: self._catalogue.of_class(uid) is not None)

    def fingerprint(self, value: Any) -> tuple[bytes, ...]:
        """Hashes of a value as it is encoded, of a class with its definition: equal as long as it is not changed. Costs
        the encoding.

        Raises:
            Exception: what `encode` raises.
        """
        roots = (value,) if isinstance(value, type) else ()
        return dump(value, self.live, self._book, roots)[0].fingerprint

    def fingerprint_without_caches(self, value: Any) -> tuple[bytes, ...]:
        """The same without what `functools.lru_cache` and `cached_property` have kept: equal after a call of these."""
        return forgetful.fingerprint(value, self.live, self._book)

    def prepare_value(self, value: Any) -> tuple[bytes, ...]:
        """Bind every name that code in `value` can reach, as `prepare` does for a cell; and its `fingerprint`.

        Raises:
            Exception: what `encode` raises.
        """
        found = dump(value, self.live, self._book)[0]
        self._bind_reached(reach.Reach(names=set(found.refs), dynamic=found.dynamic))
        return found.fingerprint

    def decode(self, head: bytes, buffers: Sequence[Any]) -> Any:
        """The value that another worker encoded.

        Raises:
            ValueDamaged: it cannot be loaded.
        """
        return self._loader.decode("a value of a task", head, buffers)

    def mutated(self, except_names: Iterable[str]) -> tuple[list[str], dict[str, type]]:
        """Names among the candidates, and not in `except_names`, whose value changed in place since it was loaded; and
        classes of the notebook whose definition did, by what `class_of` gives them for."""
        suspects = self._suspects()
        if not suspects:
            return [], {}
        rebound, gone = self._bindings.changes()
        skip = {*except_names, *rebound, *gone}
        with self._held.bound():
            changes = self._detector.detect(suspects, (), ())
        keys = {key for w in changes.written for kind, key in w.items if kind == "n" and key not in skip}
        names = {name for name in keys if not is_held(name)}
        uids = [key for w in changes.written for kind, key in w.items if kind == "c"]
        known = [uid for uid in uids if self._catalogue.of_class(uid) is not None]  # others are the body's own
        classes = {uid: cls for uid in known if (cls := self._book.get(uid)) is not None}
        return sorted({name for name in names if not is_output(name)} or names), classes

    def class_of(self, uid: str, names: Iterable[str]) -> type | None:
        """The class that another namespace of the session told of so; loaded with `names`, or with all there are."""
        self.load(names)
        if self._book.get(uid) is None:
            self.load_all()
        return self._book.get(uid)


def _modules(imports: Mapping[str, str]) -> dict[str, Any]:
    """By the names that code will bind them to, the modules that are imported already."""
    return {name: sys.modules[module] for name, module in imports.items() if module in sys.modules}
