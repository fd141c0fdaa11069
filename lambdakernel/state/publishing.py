"""What a commit publishes: records of units, their values and blobs; and what this process takes over afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import kvs
from lambdakernel.state import edits
from lambdakernel.state.bindings import Bindings
from lambdakernel.state.buffers import Layers
from lambdakernel.state.catalogue import Catalogue
from lambdakernel.state.codec import Dump
from lambdakernel.state.here import Here, Live
from lambdakernel.state.loader import Loader
from lambdakernel.state.units import Unit
from lambdakernel.state.writes import Changes, Written


class Delta(NamedTuple):
    """One commit, ready to be published: its blobs are in the store, and nothing refers to them yet."""

    writes: dict[bytes, kvs.Value | None]
    units: list[Unit]
    layers: list[tuple[Layers, ...]]
    """For each unit, the blobs that make up its buffers."""
    bases: dict[int, kvs.BlobRef]
    """By the number of a unit, the dump that it edits."""
    nbytes: int
    """Of values, in blobs and beside them; what was in the store is not counted."""


class Publisher:
    """See the module."""

    def __init__(
        self,
        live: dict[str, Any],
        replica: kvs.Replica,
        catalogue: Catalogue,
        loader: Loader,
        here: Here,
        bindings: Bindings,
    ) -> None:
        self._live, self._replica, self._catalogue = live, replica, catalogue
        self._loader, self._here, self._bindings = loader, here, bindings
        self._bases: dict[str, kvs.BlobRef] = {}
        """By unit, the whole dump that its edits are edits of."""

    def delta(self, changes: Changes, ambient: Mapping[str, bytes], cell: int) -> Delta:
        """Store the blobs of `changes`, which cell number `cell` made, and say what to publish.

        Raises:
            kvs.KvsError: a blob could not be stored.
        """
        bases = self._store_bases(changes)
        layers, nbytes = self._store_buffers(changes)
        units = [self._unit(*each, cell) for each in zip(changes.written, layers, strict=True)]
        writes = self._writes(changes, units, layers, bases, ambient)
        nbytes += sum(len(written.dump.head) for written in changes.written if written.dump is not None)
        return Delta(writes, units, layers, bases, nbytes)

    def published(self, changes: Changes, delta: Delta, dot: kvs.Dot, gone: Sequence[str]) -> None:
        """The store has it: remember it as the state to compare with."""
        units, layers, bases = delta.units, delta.layers, delta.bases
        written_anew = {unit.id for unit in units}
        for unit_id in [*changes.emptied, *(u for w in changes.written for u in w.replaces)]:
            if unit_id not in written_anew:
                self._here.drop(unit_id)
            self._catalogue.remove(unit_id)
            self._loader.layers.pop(unit_id, None)
            self._bases.pop(unit_id, None)
        self._bases |= {units[number].id: ref for number, ref in bases.items()}
        for written, unit, buffers in zip(changes.written, units, layers, strict=True):
            self._catalogue.add(unit, dot)
            self._loader.layers[unit.id] = buffers
            ids = written.dump.ids if written.dump is not None else frozenset()
            look = written.dump.snapshot if written.dump is not None else None
            base = written.dump.base.stored() if written.dump is not None and written.dump.base is not None else None
            self._here.add(Live(unit.id, written.items, unit.fingerprint, ids, frozenset(unit.uses), look, base))
            self._bindings.remember(unit.names)
            views = written.dump.buffers if written.dump is not None else []
            for view, mark, refs in zip(views, unit.fingerprint[1:], buffers, strict=False):
                self._loader.buffers.committed(view, mark, refs)
        self._bindings.forget(gone)

    def _unit(self, written: Written, layers: Sequence[Layers], cell: int) -> Unit:
        names = tuple(key for kind, key in written.items if kind == "n")
        found = written.dump or Dump(b"", [], (), frozenset(), False, frozenset())
        before = self._catalogue.units[written.replaces[0]] if found.is_edit else None
        return Unit(
            id=written.replaces[0] if written.replaces else uuid.uuid4().hex,
            names=names,
            classes=tuple(key for kind, key in written.items if kind == "c"),
            refs=tuple(sorted(found.refs.union(before.refs if before is not None else ()))),
            dynamic=found.dynamic or (before is not None and before.dynamic),
            uses=tuple(sorted(found.uses)),
            types={name: type(self._live[name]).__name__ for name in names},
            fingerprint=found.fingerprint,
            nbytes=found.base.nbytes + found.base.edited_nbytes if found.base is not None else found.nbytes,
            edited=found.base is not None,
            layers=tuple(map(len, layers)) if any(len(refs) > 1 for refs in layers) else (),
            cell=cell or max((u.cell for u in map(self._catalogue.units.get, written.replaces) if u), default=0),
            resident=written.lost,
        )

    def _store_bases(self, changes: Changes) -> dict[int, kvs.BlobRef]:
        """By the number of the unit to write, the dump that it edits."""
        found: dict[int, kvs.BlobRef] = {}
        for number, written in enumerate(changes.written):
            if written.dump is None or written.dump.base is None:
                continue
            if written.dump.is_edit:
                found[number] = self._bases[written.replaces[0]]
            else:
                found[number] = self._replica.put_blob(written.dump.head)
        return found

    def _store_buffers(self, changes: Changes) -> tuple[list[tuple[Layers, ...]], int]:
        """For each unit to write, the blobs that make up its buffers, and the bytes that had to be stored for that:
        what is in the store is not written again."""
        dumps = [written.dump for written in changes.written]
        known = self._known_layers() if any(found is not None and found.buffers for found in dumps) else {}
        stored: list[int] = []

        def put(data: bytes | memoryview) -> kvs.BlobRef:
            ref = self._replica.put_blob(data)
            stored.append(ref.nbytes)
            return ref

        def layers_of(found: Dump) -> tuple[Layers, ...]:
            return tuple(
                known.get((mark, view.nbytes)) or self._loader.buffers.layers(view, mark, put)
                for mark, view in zip(found.fingerprint[1:], found.buffers, strict=True)
            )

        return [layers_of(found) if found is not None else () for found in dumps], sum(stored)

    def _known_layers(self) -> dict[tuple[bytes, int], Layers]:
        """Buffers that current units hold, by what stands for their content: not hashed nor written again."""
        units = self._catalogue.units
        return {
            (mark, refs[0].nbytes): refs
            for unit_id, buffers in self._loader.layers.items()
            if unit_id in units
            for mark, refs in zip(units[unit_id].fingerprint[1:], buffers, strict=False)
        }

    def _writes(
        self,
        changes: Changes,
        units: Sequence[Unit],
        layers: Sequence[tuple[Layers, ...]],
        bases: Mapping[int, kvs.BlobRef],
        ambient: Mapping[str, bytes],
    ) -> dict[bytes, kvs.Value | None]:
        writes: dict[bytes, kvs.Value | None] = {}
        for unit_id in [*changes.emptied, *(u for w in changes.written for u in w.replaces)]:
            writes[self._loader.keys.unit(unit_id)] = writes[self._loader.keys.head(unit_id)] = None
        for number, (written, unit, buffers) in enumerate(zip(changes.written, units, layers, strict=True)):
            writes[self._loader.keys.unit(unit.id)] = kvs.Value(unit.to_bytes())
            if written.dump is not None:
                blobs = tuple(ref for refs in buffers for ref in refs)
                whole, base = kvs.Value(written.dump.head, blobs), written.dump.base
                writes[self._loader.keys.head(unit.id)] = (
                    edits.to_value(bases[number], base.edits, blobs) if base is not None else whole
                )
        for name, value in ambient.items():
            writes[self._loader.keys.ambient(name)] = kvs.Value(value)
        return writes
