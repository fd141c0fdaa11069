"""Knowing that an answer is complete: contents by writer, and the manifest of who writes.

A question that is not monotone (a mean, "all results are in", "nobody refers to it") has a safe answer once its input
is complete. Here each writer closes what it wrote, and whoever asked for the writing says who the writers are. Both
facts only grow, so every replica finds out by itself, without asking anyone, that the answer will not change any more.

A writer's part is open (a lattice value that grows), then closed (that value, for good). An open part that the closed
one does not contain, or two that were closed differently, clash: somebody wrote under a name that had finished.
Source: Conway et al., 2012 (the sealed shopping cart); Hellerstein and Alvaro, "Keeping CALM", 2020.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from kvs.lattices import codec, domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import Clash, LatticeMismatch, NotSealed, OutsideDomain
from kvs.lattices.registers import WriteOnce
from kvs.lattices.sets import GrowSet

L = TypeVar("L", bound=Lattice)

_OPEN, _CLOSED, _CLASH = range(3)


class _Part(NamedTuple):
    state: int
    content: Any  # a lattice value; None in a clash


@codec.lattice_type("sealed")
class Sealed(Lattice, Generic[L]):
    """Contents of type `L` by writer, each open or closed, and a manifest of writers that is fixed once.

    Bottom is empty, with no manifest. `sealed` is monotone: once true it stays so, and `value` stays the same.
    """

    __slots__ = ("_parts", "manifest")
    _parts: dict[Any, _Part]
    manifest: WriteOnce[Any]

    def __init__(
        self,
        open: Mapping[Any, L] | Iterable[tuple[Any, L]] = (),
        closed: Mapping[Any, L] | Iterable[tuple[Any, L]] = (),
        manifest: Iterable[Any] | None = None,
    ) -> None:
        parts: dict[Any, _Part] = {}
        for state, contents in ((_OPEN, open), (_CLOSED, closed)):
            for writer, content in contents.items() if isinstance(contents, Mapping) else contents:
                if not isinstance(content, Lattice):
                    raise OutsideDomain(f"{content!r} as content", "is no lattice", "Wrap it: GrowSet, Average, ...")
                identity = domain.ident(domain.checked(writer, "a writer"))
                part = _Part(state, content)
                parts[identity] = _joined(parts[identity], part) if identity in parts else part
        set_field(self, "_parts", parts)
        set_field(self, "manifest", WriteOnce() if manifest is None else WriteOnce(tuple(GrowSet(manifest))))

    def _join(self, other: Sealed[L]) -> Sealed[L]:
        joined = dict(self._parts)
        for identity, part in other._parts.items():
            joined[identity] = _joined(joined[identity], part) if identity in joined else part
        made = _of_parts(joined, self.manifest.join(other.manifest))
        return self if made == self else other if made == other else made

    def difference(self, known: Sealed[L]) -> Sealed[L]:
        if type(known) is not Sealed:
            raise self._mismatch(known)
        lacking = {}
        for identity, part in self._parts.items():
            theirs = known._parts.get(identity)
            if theirs is None:
                lacking[identity] = part
            elif _joined(part, theirs) != theirs:
                new = part.content.difference(theirs.content) if part.state == _OPEN else part.content
                lacking[identity] = _Part(part.state, new)
        return _of_parts(lacking, self.manifest.difference(known.manifest))

    def atoms(self) -> Iterator[Sealed[L]]:
        """Open contents split; a closed one and a clash are one atom each."""
        for identity, part in self._parts.items():
            split = [_Part(_OPEN, a) for a in part.content.atoms()] if part.state == _OPEN else []
            yield from (_of_parts({identity: p}, WriteOnce()) for p in split or [part])
        yield from (_of_parts({}, m) for m in self.manifest.atoms())

    @mutator
    def contribute(self, writer: domain.Scalar, delta: L) -> Sealed[L]:
        """The delta of `writer` joining `delta` into what it wrote.

        Raises:
            Clash: `writer` has finished, or the manifest is fixed without it.
        """
        self._check_may_write(writer)
        return Sealed([(writer, delta)]).difference(self)

    @mutator
    def finish(self, writer: domain.Scalar, last: L) -> Sealed[L]:
        """The delta of `writer` joining `last` into what it wrote and writing no more; bottom if it said so before.

        Raises:
            Clash: `writer` has finished with something else, or the manifest is fixed without it.
        """
        part = self._parts.get(domain.ident(writer))
        if part is not None and part.state == _CLOSED and type(last) is type(part.content) and last <= part.content:
            return Sealed()
        self._check_may_write(writer)
        return Sealed((), [(writer, last if part is None else part.content.join(last))])

    @mutator
    def expect(self, *writers: domain.Scalar) -> Sealed[L]:
        """The delta of fixing the manifest: these write, and nobody else."""
        delta: Sealed[L] = Sealed(manifest=writers)
        return delta.difference(self)

    def _check_may_write(self, writer: domain.Scalar) -> None:
        part = self._parts.get(domain.ident(domain.checked(writer, "a writer")))
        if part is not None and part.state != _OPEN:
            raise Clash(f"writer {domain.shown(writer)} has finished and takes no more. Write under another name.")
        expected = self._expected()
        if expected is not None and writer not in GrowSet(expected):
            raise Clash(
                f"writer {domain.shown(writer)} is not in the manifest, {domain.shown(expected)}. Name it there."
            )

    def _expected(self) -> tuple[Any, ...] | None:
        return self.manifest.value if self.manifest.is_written() and not self.manifest.is_clash() else None

    @monotone
    def sealed(self) -> bool:
        """Whether the manifest is fixed and every writer in it has finished; manifests that clash are of nobody."""
        return self.manifest.is_written() and not self.missing()

    def missing(self) -> tuple[Any, ...]:
        """The writers of the manifest that have not finished; shrinks as they do, so it is not monotone."""
        expected = self._expected() or ()
        return tuple(w for w in expected if self._parts.get(domain.ident(w), _Part(_OPEN, None)).state == _OPEN)

    @morphism
    def finished(self) -> GrowSet[Any]:
        """The writers that have finished, in the manifest or not."""
        return GrowSet(domain.original(i) for i, part in self._parts.items() if part.state != _OPEN)

    def value(self, start: L) -> L:
        """What all writers wrote, joined into `start`.

        Raises:
            NotSealed: it may still change.
            Clash: two manifests were fixed, a writer is in none, or one wrote after it had finished.
        """
        if not self.manifest.is_written():
            raise NotSealed("nobody has said who writes, so this may still change. Fix the manifest with `expect`.")
        expected = self.manifest.value
        clashed = [i for i, part in self._parts.items() if part.state == _CLASH]
        if clashed:
            raise Clash(f"writer {_shown(clashed)} wrote after it had finished. Write under another name.")
        strays = [i for i in self._parts if domain.original(i) not in GrowSet(expected)]
        if strays:
            raise Clash(f"writer {_shown(strays)} is not in the manifest, {domain.shown(expected)}. Name it there.")
        missing = self.missing()
        if missing:
            names = ", ".join(map(domain.shown, missing))
            raise NotSealed(f"not finished yet: {names}. Wait for them, or show the answer as provisional.", missing)
        for writer in expected:
            start = start.join(self._parts[domain.ident(writer)].content)
        return start

    @property
    def contents(self) -> Iterator[tuple[Any, L]]:
        """Each writer, in order, with what it has written so far.

        Raises:
            Clash: one wrote after it had finished.
        """
        for writer in sorted(map(domain.original, self._parts), key=domain.key):
            part = self._parts[domain.ident(writer)]
            if part.state == _CLASH:
                raise Clash(f"writer {domain.shown(writer)} wrote after it had finished. Write under another name.")
            yield writer, part.content

    def body(self) -> Any:
        writers = sorted(map(domain.original, self._parts), key=domain.key)
        parts = ((w, self._parts[domain.ident(w)]) for w in writers)
        return (
            self.manifest.body(),
            *((w, p.state, None if p.content is None else codec.nested(p.content)) for w, p in parts),
        )

    @classmethod
    def from_body(cls, body: Any) -> Sealed[Any]:
        manifest, *rows = body
        parts = {}
        for writer, state, content in rows:
            if type(state) is not int or not _OPEN <= state <= _CLASH or (content is None) != (state == _CLASH):
                raise ValueError("a part that is neither open nor closed")
            content = None if content is None else codec.from_nested(content)
            parts[domain.ident(domain.checked(writer))] = _Part(state, content)
        fixed: WriteOnce[Any] = WriteOnce(*manifest)
        for writers in manifest:
            if type(writers) is not tuple or tuple(GrowSet(writers)) != writers:
                raise ValueError("a manifest that is no set of writers")
        return _of_parts(parts, fixed)

    def _key(self) -> Hashable:
        return (frozenset(self._parts.items()), self.manifest)

    def __repr__(self) -> str:
        manifest = "no manifest"
        if self.manifest.is_clash():
            manifest = "manifests clash"
        elif self.manifest.is_written():
            missing = self.missing()
            manifest = f"waits for {', '.join(map(domain.shown, missing))}" if missing else "sealed"
        words = ("open {!r}", "closed {!r}", "clash")
        parts = (f"{_shown([i])} {words[p.state].format(p.content)}" for i, p in self._sorted())
        return f"Sealed({'; '.join((manifest, *parts))})"

    def _sorted(self) -> list[tuple[Any, _Part]]:
        return sorted(self._parts.items(), key=lambda pair: domain.key(domain.original(pair[0])))


def _joined(mine: _Part, theirs: _Part) -> _Part:
    if _CLASH in (mine.state, theirs.state):
        return _Part(_CLASH, None)
    if type(mine.content) is not type(theirs.content):
        raise LatticeMismatch(type(mine.content).__name__, type(theirs.content).__name__, "a writer of a Sealed")
    if mine.state == theirs.state == _OPEN:
        return _Part(_OPEN, mine.content.join(theirs.content))
    low, high = sorted((mine, theirs), key=lambda part: part.state)
    if low.state == _CLOSED:
        return high if low.content == high.content else _Part(_CLASH, None)
    return high if low.content.leq(high.content) else _Part(_CLASH, None)


def _shown(idents: list[Any]) -> str:
    return ", ".join(domain.shown(name) for name in sorted(map(domain.original, idents), key=domain.key))


def _of_parts(parts: dict[Any, _Part], manifest: WriteOnce[Any]) -> Sealed[Any]:
    made: Sealed[Any] = Sealed.__new__(Sealed)
    set_field(made, "_parts", parts)
    set_field(made, "manifest", manifest)
    return made
