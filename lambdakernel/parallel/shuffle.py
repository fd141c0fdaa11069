"""Group, reduce and exchange over many processes: `shuffle`, `group_by`, `reduce`, `all_to_all`.

Theory of operation
- Items are cut into chunks, and each chunk goes to a worker by a spool (see `spool`): the map side. It leaves what it
  made in a spool, split into partitions by a hash of the keys that is the same everywhere. Then, for each partition, a
  worker brings together what all map sides left for it: the reduce side.
- This process holds the files and says where things are in them; what is in them passes by it.
- Items may come from a generator: no more chunks are made than workers can take.
- In a task of a `%%parallel` cell all of it happens in that task: the processors are taken by the others.
- A `Live` that a function joins into is the caller's where it runs in this process; from the workers of an `Executor`
  what was joined comes with their answers, and there is no way back from those of other executors.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import lambdakernel
from kvs.lattices import Lattice
from lambdakernel import live
from lambdakernel.parallel.grouping import MOST_PARTITIONS, Block, CannotShuffle, Mapped, Table, combiner, reduced
from lambdakernel.parallel.memory import read_size
from lambdakernel.parallel.spool import Place, Span, Spool, Writer, dumped, get

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

CHUNKS_PER_WORKER = 4
"""So that a worker whose items are slow is helped by the others."""
FIRST_CHUNK = 256
"""Items of the first chunks, where it is not known how many there are; later ones are larger."""
FAN_IN = 8
"""Values that one step of a tree reduction joins."""


# -- what users call


def shuffle(
    items: Iterable[T],
    pairs: Callable[[T], Iterable[tuple[K, Any]]],
    combine: Any = None,
    *,
    then: Callable[[Any], Any] | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    memory: str = "256MB",
    directory: str | None = None,
) -> dict[K, Any]:
    """The values of each key, brought together: `pairs(item)` gives (key, value) pairs.

    Without `combine` they are in a list, in the order of items. A function of two values (which must be associative),
    or a lattice type, combines them where they are made and again where they meet. `then(values)` is what is kept of
    them. Keys are in the order in which they first came.

        counts = shuffle(texts, lambda text: ((word, 1) for word in text.split()), operator.add)

    `workers`: how many processes, by default one for each processor; `executor`: any of `concurrent.futures` to run on;
    `memory`: what one may hold before it writes to files in `directory`, the system's for temporary files.

    Raises:
        CannotShuffle: `pairs` gave no pair, or a key that a dictionary cannot have.
        OSError: the disk is full.
        Exception: what a function raised.
    """
    with _crew(workers, executor, directory) as crew:
        code, nbytes = crew.code((pairs, combine, then)), read_size(memory)
        combiner(combine)
        count = min(MOST_PARTITIONS, max(2, crew.workers * 2))
        calls = (
            (chunk, crew.items(part), crew.spool().place, code, count, nbytes) for chunk, part in crew.chunks(items)
        )
        mapped = crew.run(_map_chunk, calls)
        out = [(mapped, partition, crew.spool().place, code, nbytes) for partition in range(count)]
        found = crew.run(_reduce_partition, out)
        where = [(call[2], span) for call, spans in zip(out, found, strict=True) for span in spans]
        blocks = [Block(*get(place, span)) for place, span in where]
    return _as_dict(blocks)


def group_by(
    items: Iterable[T],
    key: Callable[[T], K],
    *,
    value: Callable[[T], Any] | None = None,
    combine: Any = None,
    then: Callable[[Any], Any] | None = None,
    **how: Any,
) -> dict[K, Any]:
    """Items by `key(item)`: a dictionary of lists, or of what `combine` or `then` make of each.

    `value(item)` is what is kept of an item. Other arguments are those of `shuffle`.

        by_city = group_by(people, lambda p: p.city)
        ages = group_by(people, lambda p: p.city, value=lambda p: p.age, then=statistics.mean)
    """
    return shuffle(items, _Keyed(key, value), combine, then=then, **how)


def reduce(
    how: Any,
    items: Iterable[Any],
    function: Callable[[Any], Any] | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    directory: str | None = None,
) -> Any:
    """All of `items`, or of what `function` makes of each, as one value: a tree of joins over the workers.

    `how` is a lattice, which is the start (`reduce(Max(), scores)`), a lattice type, or an associative function of two.

    Raises:
        CannotShuffle: there are no items, and `how` is a function.
        Exception: what a function raised.
    """
    combine = combiner(how)
    with _crew(workers, executor, directory) as crew:
        code = crew.code((how, function))
        calls = ((crew.items(part), crew.spool().place, code) for _, part in crew.chunks(items))
        found = crew.run(_fold_chunk, calls)
        while len(found) > FAN_IN:
            steps = [found[at : at + FAN_IN] for at in range(0, len(found), FAN_IN)]
            found = crew.run(_join_some, [(step, crew.spool().place, code) for step in steps])
        values = [get(place, span) for place, span in found]
    bottom = getattr(how, "bottom", None)
    if bottom is not None:
        return functools.reduce(combine.join, values, how if isinstance(how, Lattice) else bottom())
    if not values:
        raise CannotShuffle(
            "there are no items, and a function has no value for that. Reduce with a lattice, or give items."
        )
    return functools.reduce(combine.join, values)


def all_to_all(
    items: Iterable[T],
    split: Callable[[T, int], Sequence[Any]],
    gather: Callable[[list[Any]], Any] | None = None,
    *,
    into: int | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    directory: str | None = None,
) -> list[Any]:
    """Each item split, and the pieces exchanged: `split(item, n)` gives n pieces, `gather` gets the k-th of each item.

    The result is the list of what `gather` made (without it, the lists of pieces), n long; n is `into`, by default
    the number of workers. Large arrays are mapped at each step, and may be written to.

        parts = all_to_all(tables, lambda t, n: [t[t.key % n == k] for k in range(n)], pandas.concat, into=8)

    Raises:
        CannotShuffle: `split` gave another number of pieces.
        Exception: what a function raised.
    """
    with _crew(workers, executor, directory) as crew:
        count = into or crew.workers
        code = crew.code((split, gather))
        calls = ((crew.items(part), crew.spool().place, code, count) for _, part in crew.chunks(items))
        mapped = crew.run(_split_chunk, calls)
        out = [(mapped, partition, crew.spool().place, code) for partition in range(count)]
        return [get(place, span) for (_, _, place, _), span in zip(out, crew.run(_gather, out), strict=True)]


def _as_dict(blocks: list[Block]) -> dict[Any, Any]:
    """In the order of places."""
    places, keys, values = ([one for block in blocks for one in block[part]] for part in range(3))
    found = {keys[n]: values[n] for n in sorted(range(len(keys)), key=places.__getitem__)}
    if len(found) < len(keys):
        raise CannotShuffle(
            f"{len(keys) - len(found)} keys are equal to others and pickle differently, so they were not brought"
            " together. Use keys of plain values, or make equal ones pickle alike."
        )
    return found


class _Keyed:
    """Pairs of `group_by`."""

    def __init__(self, key: Callable[[Any], Any], value: Callable[[Any], Any] | None) -> None:
        self._key, self._value = key, value

    def __call__(self, item: Any) -> Iterable[tuple[Any, Any]]:
        return ((self._key(item), self._value(item) if self._value else item),)


# -- who does it


class Code(NamedTuple):
    """Where a worker finds the functions, and a digest of them: the same path may name another file later."""

    place: Place
    span: Span
    digest: bytes
    is_ours: bool
    """Whether it runs on an executor that brings back what is joined into a `Live`."""


class _Crew:
    """Workers and files of one shuffle."""

    def __init__(self, executor: Executor | None, workers: int, directory: str | None, owned: ExitStack) -> None:
        self.workers = workers
        self._executor, self._directory, self._owned = executor, directory, owned

    def spool(self) -> Spool:
        made = Spool(self._directory)
        self._owned.callback(made.close)
        return made

    def chunks(self, items: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
        """Numbered chunks, in the order of items."""
        wanted = CHUNKS_PER_WORKER * self.workers
        size = -(-len(items) // wanted) if isinstance(items, Sequence) else FIRST_CHUNK
        rest, number = iter(items), 0
        while part := list(islice(rest, size)):
            yield number, part
            number += 1
            if number % wanted == 0:
                size *= 2

    def items(self, part: list[Any]) -> tuple[Place, Span]:
        """Where a worker finds these items."""
        spool = self.spool()
        with Writer(spool.place) as writer:
            return spool.place, writer.put(part)

    def code(self, functions: tuple[Any, ...]) -> Code:
        """The functions of this shuffle, for all workers.

        Raises:
            CannotShuffle: one joins into a `Live`, and workers of this executor cannot send back what it joins.
            Exception: one of them cannot be sent to a worker.
        """
        lives: list[live.Live] = []
        data = dumped(functions, None, lambda part: lives.append(part) if type(part) is live.Live else None)
        is_ours = isinstance(self._executor, lambdakernel.Executor)
        is_here = self._executor is None or isinstance(self._executor, ThreadPoolExecutor)
        if lives and not is_ours and not is_here:
            raise CannotShuffle(
                f"a function uses {lives[0]!r}, and what it would join there is lost: the workers of"
                f" {type(self._executor).__name__} cannot send it back. Leave out `executor`, or give a"
                " lambdakernel.Executor."
            )
        spool = self.spool()
        with Writer(spool.place) as writer:
            return Code(spool.place, writer.put(data), hashlib.blake2b(data, digest_size=16).digest(), is_ours)

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """What each call returned, in order; at most two for each worker wait at a time."""
        if self._executor is None:
            return [function(*call) for call in calls]
        waiting: deque[Future[Any]] = deque()
        found: list[Any] = []
        try:
            for call in calls:
                waiting.append(self._executor.submit(function, *call))
                while len(waiting) > 2 * self.workers or (waiting and waiting[0].done()):
                    found.append(waiting.popleft().result())
            while waiting:
                found.append(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()
        return found


@contextmanager
def _crew(workers: int | None, executor: Executor | None, directory: str | None) -> Iterator[_Crew]:
    count = workers or len(os.sched_getaffinity(0))
    with ExitStack() as owned:
        if executor is None and count > 1 and not live.in_task():
            executor = _shared(count)
        yield _Crew(executor, count, directory, owned)


def _shared(workers: int) -> Executor:
    """One for all shuffles of this process that use as many workers. They leave when there is nothing to do."""
    here = (os.getpid(), workers)
    found = _executors().get(here)
    if found is None:
        end_workers()
        found = _executors()[here] = lambdakernel.Executor(max_workers=workers)
    return found


@functools.cache
def _executors() -> dict[tuple[int, int], Executor]:
    """The one that there is, by the process that made it, and its workers: after a fork it is another's."""
    return {}


def end_workers() -> None:
    """End the workers that shuffles of this process have used; the next shuffle starts others."""
    for (pid, _), executor in list(_executors().items()):
        if pid == os.getpid():
            executor.shutdown()
    _executors().clear()


# -- what workers do


@functools.lru_cache(maxsize=8)
def _loaded(code: Code) -> Any:
    if code.is_ours:
        from lambdakernel.futures import joins

        joins.begin()
    with live.adopting():
        return pickle.loads(get(code.place, code.span))


def _map_chunk(
    chunk: int, items: tuple[Place, Span], place: Place, code: Code, partitions: int, memory_nbytes: int
) -> Mapped:
    pairs, how, _ = _loaded(code)
    with Writer(place) as writer:
        table = Table(combiner(how), writer, chunk, partitions, memory_nbytes)
        for item in get(*items):
            table.take(pairs(item))
        return table.done(place)


def _reduce_partition(mapped: list[Mapped], partition: int, place: Place, code: Code, memory_nbytes: int) -> list[Span]:
    _, how, then = _loaded(code)
    with Writer(place) as writer:
        blocks = reduced(mapped, partition, combiner(how), then, memory_nbytes)
        return [writer.put(tuple(block)) for block in blocks]


def _fold_chunk(items: tuple[Place, Span], place: Place, code: Code) -> tuple[Place, Span]:
    how, function = _loaded(code)
    combine = combiner(how)
    values = map(function, get(*items)) if function else iter(get(*items))
    folded = functools.reduce(combine.more, values, combine.first(next(values)))
    with Writer(place) as writer:
        return place, writer.put(folded)


def _join_some(where: list[tuple[Place, Span]], place: Place, code: Code) -> tuple[Place, Span]:
    join = combiner(_loaded(code)[0]).join
    with Writer(place) as writer:
        return place, writer.put(functools.reduce(join, (get(*one) for one in where)))


def _split_chunk(items: tuple[Place, Span], place: Place, code: Code, count: int) -> Mapped:
    split, _ = _loaded(code)
    spans: list[list[Span]] = [[] for _ in range(count)]
    with Writer(place) as writer:
        for item in get(*items):
            pieces = split(item, count)
            if len(pieces) != count:
                raise CannotShuffle(f"split gave {len(pieces)} pieces of an item, and {count} were asked for.")
            for partition, piece in enumerate(pieces):
                spans[partition].append(writer.put(piece))
    return Mapped(place, tuple(map(tuple, spans)))


def _gather(mapped: list[Mapped], partition: int, place: Place, code: Code) -> Span:
    _, gather = _loaded(code)
    pieces = [get(one.place, span) for one in mapped for span in one.spans[partition]]
    with Writer(place) as writer:
        return writer.put(gather(pieces) if gather else pieces)
