"""A set that is loaded lists its elements as it did, and goes on as it would have."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import graph, orders

pytestmark = pytest.mark.skipif(not graph.FAST, reason="the C extension is not built, or not used")
ROOT = Path(__file__).parents[2]


def moved(value: Any) -> Any:
    """As a load makes it in a process with the same hashes."""
    look = graph.take([value], {})
    assert look is not None
    stored: dict[str, Any] = {"names": {"value": value}}
    orders.put(stored, orders.of(look, [value]))
    loaded = pickle.loads(pickle.dumps(stored, 5))
    orders.restore(loaded)
    assert list(loaded) == ["names"]
    return loaded["names"]["value"]


def random_element(rng: random.Random) -> Any:
    return rng.choice([
        rng.randrange(-50, 2000), f"s{rng.randrange(300)}", rng.random(), (rng.randrange(9), "x", (b"b", 2j)),
        2**70 + rng.randrange(5), bool(rng.randrange(2)),
    ])  # fmt: skip


def fuzz(first: int, count: int) -> None:
    for seed in range(first, first + count):
        rng = random.Random(seed)
        value: Any = set()
        for _ in range(rng.randrange(60)):
            shrinks = value and rng.random() < 0.2
            value.discard(rng.choice(list(value))) if shrinks else value.add(random_element(rng))
        if rng.random() < 0.3:
            value = value | {random_element(rng) for _ in range(9)}
        value = frozenset(value) if rng.random() < 0.2 else value
        found = moved(value)
        assert list(found) == list(value), seed
        assert found == value
        for _ in range(20 if isinstance(value, set) else 0):
            element, grows = random_element(rng), rng.random() < 0.6
            for each in (value, found):
                (each.add if grows else each.discard)(element)
            assert list(found) == list(value), seed


def test_fuzz_a_set_goes_on_as_it_would_have() -> None:
    fuzz(0, 1500)


def test_what_is_in_order_anyway_costs_nothing() -> None:
    look = graph.take([[{1, 2, 3}, frozenset("abc"), set()]], {})
    assert look is not None
    assert look.disordered(([{1, 2, 3}],)) is None, "other objects"


def test_a_set_of_objects_is_left_alone() -> None:
    class P:
        """Its hash is its address."""

    value = {P(), P(), P()}
    value.pop()
    look = graph.take([value], {})
    assert look is not None
    assert orders.of(look, [value]) == []


def places(*where: int) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in where)


BAD: dict[str, tuple[Any, ...]] = {
    "no set": ([1], 8, places(1), b""),
    "another length": ({1, 2}, 8, places(1), b""),
    "half a place": ({1}, 8, places(1)[:3], b""),
    "half a place that was removed": ({1}, 8, places(1), b"\0\0"),
    "a size that is none": ({1}, 12, places(1), b""),
    "a place outside": ({1}, 8, places(8), b""),
    "a place far outside": ({1}, 8, places(2**32 - 1), b""),
    "one place twice": ({1, 2}, 8, places(1, 1), b""),
    "a place that was removed": ({1}, 8, places(1), places(1)),
    "places where nothing is found": ({1, 2}, 16, places(14, 15), b""),
    "a full table": ({1}, 8, places(1), places(0, 2, 3, 4, 5, 6, 7)),
}


@pytest.mark.parametrize("what", BAD)
def test_places_that_do_not_fit_change_nothing(what: str) -> None:
    value, *said = BAD[what]
    before = list(value)
    assert not graph.arrange(value, *said)
    assert list(value) == before
    assert all(element in value for element in before)


def test_places_that_are_no_bytes_are_refused() -> None:
    with pytest.raises(TypeError):
        graph.arrange({1}, 8, "x", b"")  # type: ignore[arg-type]


def test_fuzz_under_a_debugging_allocator() -> None:
    env = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    code = "from tests.state.test_orders import fuzz\nfuzz(5000, 200)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
