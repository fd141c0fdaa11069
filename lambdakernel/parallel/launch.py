"""From a cell that has begun to the fan-out of its tasks: what they are told, and in which processes they run.

Where processes stay (`stays`) and the body reaches little, each loads that by itself. Those of the fan-out before are
taken if nothing has changed around them that they cannot join (ambient state, modules), and free ones of this are kept
for the next (`executors.spare`). In all other cases a fork server loads once what the body reaches, for all processes.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from lambdakernel.errors import NoWorker
from lambdakernel.executors.base import Executor
from lambdakernel.parallel import frontend, handover, values
from lambdakernel.parallel.again import Again, effect_of_source
from lambdakernel.parallel.analysis import Final, is_silent
from lambdakernel.parallel.attempts import Limits, most_at_once
from lambdakernel.parallel.begun import Begun, Where
from lambdakernel.parallel.fanout import FanOut
from lambdakernel.parallel.handover import born_idle
from lambdakernel.parallel.items import processors
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.known import installed_in, libraries_in
from lambdakernel.parallel.met import loaded_by
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.parcels import Sealed, pack
from lambdakernel.parallel.processes import Plan
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.stays import NEVER, Stays, stays

MOST_KEPT = 8
"""Processes that wait for the next fan-out: each holds some 28 MB meanwhile."""
MOST_LOADED_NBYTES = 16 << 20
"""Of values that a body reaches, in the store, for which each process may load them by itself."""


@contextmanager
def fan_out(
    where: Where,
    begun: Begun,
    watch: Callable[[Progress], None],
    *,
    item: Callable[[int], Sealed] | None = None,
    moment: str = "",
    again: Again | None = None,
) -> Iterator[FanOut]:
    """The fan-out of a cell, to be run inside. `item` gives parcels of items that were made before; `moment` is what
    the tasks see of the session, as `asof` reads it; `again` says whether they may run twice, if that is known."""
    options, spares = begun.prepared.header.options, where.spares
    usual = where.default_workers or processors()
    found = _stays(where, begun)
    told = _job(where, begun, moment, found)
    mark = _mark(begun, told)
    loads = mark is not None or len(begun.items) == 1
    uses = set(filter(where.durable.may_preload, found.modules))
    kept = spares.kept(mark, uses) if spares is not None and mark is not None else None
    has = found.modules | (kept.modules if kept is not None else frozenset(where.durable.modules_used()))
    job, fan = pack(told.to_bytes()), None
    try:
        with where.shares.one_more(usual) as share:
            plan = Plan(
                kept.executor if kept is not None else _executor(where, None if loads else job, found),
                job=job,
                total=len(begun.items),
                item=item or begun.item,
                limits=Limits(
                    options.workers or usual,
                    options.timeout_s,
                    options.memory_nbytes,
                    options.retries,
                    options.retry_errors,
                ),
                fan=told.fan,
                again=again or again_of(where, begun),
                share=None if options.workers else share,
                stays=told.most_items > 1,
                sends_ahead=not found.shares,
                free=kept.processes if kept is not None else (),
                keeps=min(usual, MOST_KEPT) if spares is not None and mark is not None else 0,
            )
            grouped = Grouped(frontend.write, begun.heading, frontend.display)
            fan = FanOut(plan, grouped, watch, price=where.price)
            yield fan
    finally:
        os.close(job)
        if fan is None and kept is not None:
            kept.close()
        _keep(where, begun, fan, mark, has)


def _keep(where: Where, begun: Begun, fan: FanOut | None, mark: object, has: frozenset[str]) -> None:
    """Have what the next fan-out needs first. `has` are modules that the processes of this one have."""
    if where.spares is None:
        return
    if fan is not None and fan.kept:
        where.spares.keep(fan.executor, fan.kept, mark, has)
    elif mark is not None:
        _bear_idle(where, mark, has)
    elif len(begun.items) > 1:
        where.spares.get_ready(installed_in(where.shell.user_ns))


def _bear_idle(where: Where, mark: object, has: frozenset[str]) -> None:
    """All processes have ended (after an interrupt, say): have others for the next fan-out. That there are none is
    found out by who needs them."""
    if where.spares is None:
        return
    params = {"store": where.store, "session": where.durable.session}
    count = min(where.default_workers or processors(), most_at_once(stays=True), MOST_KEPT)
    with suppress(OSError), ExitStack() as owned:
        executor = where.connect(None, _preloaded(where, has))
        owned.callback(executor.close, 0.0)
        processes = born_idle(executor, count, params, time.monotonic())
        owned.pop_all()
        where.spares.keep(executor, processes, mark, has)


def _stays(where: Where, begun: Begun) -> Stays:
    """Whether a process may take more than one item."""
    header = begun.prepared.header
    if len(begun.items) < 2 or header.options.memory_nbytes is not None:
        return NEVER
    if values.has_ambient_code(begun.namespace):
        return NEVER
    libraries = libraries_in(begun.items)
    with_code = begun.items if libraries is None else ()
    found = stays(begun.prepared.tree, header.target, header.bound, where.shell.user_ns, with_code)
    return msgspec.structs.replace(found, modules=found.modules | (libraries or frozenset()))


def _mark(begun: Begun, told: Job) -> object:
    """Equal for two fan-outs if processes of the one are fit for the other; None if this one needs a fork server."""
    if told.most_items == 1 or told.moment:
        return None
    if values.is_output_among(loaded_by(begun.prepared.tree) | begun.prepared.body.read | set(told.shared)):
        return None
    if begun.namespace.nbytes_reached(begun.prepared.tree.body) > MOST_LOADED_NBYTES:
        return None
    return values.surroundings(begun.namespace)


def again_of(where: Where, begun: Begun) -> Again:
    """Whether tasks may have a second attempt beside the first; found out when it is first asked."""
    prepared, live = begun.prepared, where.shell.user_ns

    def effect() -> str:
        bound = prepared.header.bound
        return effect_of_source(prepared.source, bound, live, lambda name: begun.namespace.load([name]), begun.items)

    return Again(prepared.header.options.again, effect)


def _executor(where: Where, job: int | None, found: Stays) -> Executor:
    """Its processes are born with the libraries that the body reaches; where that is not known, with all that the
    session has used."""
    try:
        return where.connect(job, where.durable.modules_used() if found.why else _preloaded(where, found.modules))
    except OSError as e:
        raise NoWorker(f"the process that starts tasks cannot be reached ({e.strerror or e})") from e


def _preloaded(where: Where, modules: frozenset[str]) -> list[str]:
    """Those of them that processes are born with; and numpy, whose settings each takes over."""
    settings = [name for name in where.durable.modules_used() if name == "numpy"]
    return [*settings, *sorted(filter(where.durable.may_preload, modules - set(settings)))]


def _job(where: Where, begun: Begun, moment: str, found: Stays) -> Job:
    namespace, prepared = begun.namespace, begun.prepared
    return Job(
        store=where.store,
        session=where.durable.session,
        epoch=namespace.current_epoch(),
        body=prepared.source,
        cell=prepared.cell.source,
        filename=prepared.cell.filename,
        label=prepared.cell.label,
        target=prepared.header.target,
        bound=prepared.header.bound,
        names=prepared.header.names,
        finals=tuple(c.name for c in prepared.collects if isinstance(c, Final)),
        seeds=_seeds(),
        import_path=tuple(path for path in sys.path if isinstance(path, str)),
        fan=os.urandom(6).hex(),
        memory_nbytes=prepared.header.options.memory_nbytes,
        moment=moment,
        is_whole=prepared.is_whole,
        shows_value=(prepared.is_whole or not prepared.header.names) and not is_silent(prepared.source),
        most_items=1 if found.why else handover.MOST_ITEMS,
        met=tuple(sorted(found.met)),
        shared=tuple(sorted(found.shared)),
        modules=tuple(sorted(found.modules)),
    )


def _seeds() -> dict[str, int]:
    """Drawn from the notebook's generators: two fan-outs differ, and a seeded notebook gives the same again."""
    seeds = {"random": random.getrandbits(64)}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        seeds["numpy"] = int(numpy.random.randint(2**31))
    return seeds
