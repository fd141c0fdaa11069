"""What others commit is joined at the cost of that, and leaves what a look at everything would leave."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvs
from lambdakernel.state.catalogue import Catalogue
from tests.state.cold import Worker, in_child

NAMES = "abcdef"
CELLS = (
    "{x} = [{n}]", "{x} = {n}", "{x} = {y}", "{x} = [{y}, {n}]", "{x} = {{'k': {y}}}; {y} = 1", "del {x}",
    "{x}.append({n})", "class K: tag = {n}", "{x} = K()", "{x} = K; {y} = K()", "def {x}(): return {y}",
    "{x} = iter([])",
    "import os; os.environ['LK_FOLLOWED'] = '{n}'", "import sys; sys.excepthook = lambda *_: {n}", "{x} = {y} = [{n}]",
    "import builtins; builtins.lk_patched = lambda: {n}", "class K: other = [{n}]; {x} = K", "{x}, {y} = {y}, {x}",
)  # fmt: skip


def random_cell(rng: random.Random) -> str:
    steps = rng.choices(CELLS, k=rng.choice([1, 1, 2]))
    return "\n".join(step.format(x=rng.choice(NAMES), y=rng.choice(NAMES), n=rng.randint(0, 9)) for step in steps)


def content(catalogue: Catalogue) -> Any:
    """All that it knows, but for the order in which it came to know it."""
    return (
        catalogue.units,
        {unit_id: catalogue.versions[unit_id] for unit_id in catalogue.units},
        sorted(unit.id for unit in catalogue.conflicts),
        dict(catalogue._by_name),
        dict(catalogue._by_class),
        catalogue.held,
    )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_joined_piecemeal_is_what_a_look_at_everything_finds(tmp_path: Path, seed: int) -> None:
    """Two writers who see each other from time to time, so that names are claimed by both, and one who only reads."""

    def work() -> list[str]:
        rng, different = random.Random(seed), list[str]()
        workers = [Worker(tmp_path / "store", name=f"w{n}") for n in range(2)]
        reader = Worker(tmp_path / "store", reader=True)
        unheard = {id(one): False for one in (*workers, reader)}
        for number in range(40):
            worker, source = rng.choice(workers), random_cell(rng)
            run_without_hearing(worker, source)
            unheard.update((id(one), True) for one in (*workers, reader) if one is not worker)
            for one in rng.sample([*workers, reader], k=rng.randint(0, 3)):
                one.namespace.refresh()
                # what a writer has made lose by its own commit is there for it until it hears of another's
                if not unheard[id(one)]:
                    continue
                unheard[id(one)] = False
                anew = Worker(tmp_path / "store", reader=True)
                if content(one.namespace._catalogue) != content(anew.namespace._catalogue):
                    different.append(f"after cell {number}: {source}")
                anew.replica.close()
        return different

    assert in_child(work) == []


def run_without_hearing(worker: Worker, source: str) -> None:
    """As `run`, of a writer who has not heard yet of what others have committed meanwhile."""
    namespace: Any = worker.namespace
    namespace.refresh = lambda: None
    try:
        worker.run(source)
    finally:
        del namespace.refresh


def asked(of: kvs.Replica, call: Callable[[], object]) -> list[bytes]:
    """The keys that `call` asks a replica for."""
    keys: list[bytes] = []
    get = type(of).get

    def noted(replica: kvs.Replica, key: bytes) -> Any:
        keys.append(key)
        return get(replica, key)

    type(of).get = noted  # type: ignore[method-assign]
    try:
        call()
    finally:
        type(of).get = get  # type: ignore[method-assign]
    return keys


def test_to_join_costs_what_was_committed_and_not_what_there_is(tmp_path: Path) -> None:
    def work() -> tuple[int, int, list[int], object]:
        writer = Worker(tmp_path / "store")
        writer.run("for k in range(500): globals()[f'v{k}'] = [k]")
        reader = Worker(tmp_path / "store", reader=True)
        reader.namespace.load(["v7", "v8"])
        writer.run("v7.append(1); new = v9")
        joined = len(asked(reader.replica, reader.namespace.refresh))
        over = len(asked(reader.replica, lambda: reader.namespace.start_over(anew=False)))
        reader.namespace.load(["v7", "v8", "new"])
        return joined, over, [*reader.live["v7"], *reader.live["v8"]], reader.live["new"]

    joined, over, values, new = in_child(work)
    assert joined <= 4 and over == 0
    assert values == [7, 1, 8] and new == [9]


@pytest.mark.parametrize("step", ["join", "of_name"])
def test_news_that_an_interrupt_kept_from_being_taken_in_are_not_lost(tmp_path: Path, step: str) -> None:
    def work() -> tuple[list[int], list[int]]:
        writer = Worker(tmp_path / "store")
        writer.run("a, b = [1], [2]\nimport sys; sys.excepthook = lambda *_: a")
        reader = Worker(tmp_path / "store", reader=True)
        reader.namespace.load_all()
        writer.run("a.append(3)\nsys.excepthook = lambda *_: b")

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        catalogue: Any = reader.namespace._catalogue
        setattr(catalogue, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.namespace.refresh()
        delattr(catalogue, step)
        writer.run("b.append(4)")
        reader.namespace.refresh()
        reader.namespace.load_all()
        return reader.live["a"], reader.live["b"]

    assert in_child(work) == ([1, 3], [2, 4])
