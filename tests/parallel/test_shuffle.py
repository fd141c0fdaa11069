"""`shuffle`, `group_by`, `reduce`, `all_to_all`: against one plain loop, over real processes."""

from __future__ import annotations

import builtins
import datetime
import decimal
import doctest
import enum
import operator
import os
import random
import re
import subprocess
import sys
import zoneinfo
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from kvs.lattices import GCounter, GrowSet, Max
from lambdakernel import Executor, Live, all_to_all, group_by, reduce, shuffle
from lambdakernel.parallel.grouping import MOST_PARTITIONS, CannotShuffle, Table, combiner, reduced
from lambdakernel.parallel.hashing import stable_hash, stable_hashes
from lambdakernel.parallel.spool import Spool, Writer, get

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pool(helpers):
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def helpers():
    """Ends the two processes that `multiprocessing` keeps for later pools."""
    from multiprocessing import forkserver, resource_tracker

    yield
    for helper in (forkserver._forkserver, resource_tracker._resource_tracker):
        helper._stop()


TEXTS = [" ".join(random.Random(n).choices("abcdefghij", k=50)) for n in range(97)]


def words(text: str) -> list[tuple[str, int]]:
    return [(word, 1) for word in text.split()]


# -- results


def test_a_word_count_is_that_of_one_loop_in_its_order(pool):
    expected: dict[str, int] = {}
    for text in TEXTS:
        for word, one in words(text):
            expected[word] = expected.get(word, 0) + one
    found = shuffle(TEXTS, words, operator.add, executor=pool)
    assert list(found.items()) == list(expected.items())
    assert shuffle(iter(TEXTS), words, operator.add, executor=pool, workers=3) == expected


def test_groups_are_lists_in_the_order_of_items_whatever_the_number_of_workers(pool):
    items = [(random.Random(n).randrange(7), n) for n in range(1000)]
    expected: dict[int, list[int]] = {}
    for k, n in items:
        expected.setdefault(k, []).append(n)
    for workers in (1, 2, 5):
        found = group_by(items, operator.itemgetter(0), value=operator.itemgetter(1), executor=pool, workers=workers)
        assert list(found.items()) == list(expected.items())
    assert group_by(items, lambda i: i[0], then=len, executor=pool) == {k: len(v) for k, v in expected.items()}


def test_values_join_as_lattices(pool):
    found = shuffle(["b a", "a c"], lambda t: ((w, [t]) for w in t.split()), GrowSet, executor=pool, workers=2)
    assert set(found) == {"a", "b", "c"} and isinstance(found["a"], GrowSet)
    longest = group_by(["aa", "b", "ccc"], len, value=Max, combine=Max, executor=pool)
    assert longest == {2: Max("aa"), 1: Max("b"), 3: Max("ccc")}


def test_reduce_joins_a_lattice_or_folds_with_a_function_in_order(pool):
    assert reduce(Max(5), [1, 2], executor=pool) == Max(5)
    assert reduce(Max, range(1000), executor=pool) == Max(999)
    assert reduce(GrowSet, TEXTS, str.split, executor=pool, workers=7) == GrowSet(list("abcdefghij"))
    assert reduce(GCounter(), [GCounter({"a": 2}), GCounter({"a": 1, "b": 1})], executor=pool).total() == 3
    assert reduce(operator.add, map(str, range(300)), executor=pool) == "".join(map(str, range(300)))
    assert reduce(Max, [], executor=pool) == Max()
    with pytest.raises(CannotShuffle, match="Reduce with a lattice"):
        reduce(operator.add, [], executor=pool)


def test_arrays_are_exchanged_and_writable(pool):
    np = pytest.importorskip("numpy")
    arrays = [np.arange(n * 100_000, (n + 1) * 100_000) for n in range(8)]
    found = all_to_all(arrays, lambda a, n: [a[a % n == k] for k in range(n)], np.concatenate, into=8, executor=pool)
    assert len(found) == 8
    for k, part in enumerate(found):
        assert np.array_equal(part, np.arange(k, 800_000, 8))
    found[0][0] = 7
    assert found[0][0] == 7


def test_nothing_in_is_nothing_out_and_pieces_alone_are_lists(pool):
    assert shuffle([], words, executor=pool) == {}
    assert all_to_all([], lambda a, n: [a] * n, into=2, executor=pool) == [[], []]
    assert all_to_all("xy", lambda a, n: [a + str(k) for k in range(n)], into=2, executor=pool) == [
        ["x0", "y0"],
        ["x1", "y1"],
    ]


def test_an_executor_of_threads_does_too_and_one_worker_is_this_process():
    with ThreadPoolExecutor(2) as threads:
        assert shuffle(TEXTS, words, operator.add, executor=threads)["a"] == sum(t.split().count("a") for t in TEXTS)
    assert group_by([1, 2], lambda n: os.getpid(), workers=1) == {os.getpid(): [1, 2]}


def test_what_functions_join_into_a_live_lattice_is_the_callers():
    seen, longest = Live(GCounter()), Live(Max(0))

    def words(text):
        seen.increment()
        longest.merge(len(text))
        return ((word, 1) for word in text.split())

    def late(counts):
        seen.increment()
        return sum(counts)

    texts = ["a b", "b c d", "d"] * 10
    with ThreadPoolExecutor(2) as threads, Executor(2) as ours:
        for how in ({"executor": ours}, {"executor": threads}, {"workers": 1}, {"workers": 2}):
            before = seen.total()
            assert shuffle(texts, words, then=late, **how) == {"a": 10, "b": 20, "c": 10, "d": 20}
            assert (seen.total() - before, longest.value) == (30 + 4, 5), how


def test_a_live_lattice_whose_joins_would_be_lost_is_refused(pool):
    seen = Live(GCounter())
    with pytest.raises(CannotShuffle, match=r"what it would join there is lost.*lambdakernel\.Executor"):
        reduce(Max(), [1, 2], lambda n: (seen.increment(), n)[1], executor=pool)
    assert seen.total() == 0


def test_pairs_may_be_those_of_a_dictionary(pool):
    texts = TEXTS * 3
    found = shuffle(texts, lambda text: Counter(text.split()).items(), operator.add, executor=pool)
    assert found == dict(Counter(word for text in texts for word in text.split()))


# -- keys


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Name(enum.StrEnum):
    ADA = "ada"


class Point(NamedTuple):
    x: int
    y: int


def test_equal_keys_are_one_key_whatever_their_type(pool):
    keys = [1, 1.0, True, decimal.Decimal(1), Fraction(1), complex(1), "ada", Name.ADA, (1, 2), Point(1, 2)]
    keys += [frozenset({"a", "b"}), frozenset({"b", "a"}), Color.RED, None, b"x", Color.BLUE, datetime.date(2020, 1, 2)]
    noon = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
    keys += [noon, noon.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo")), Path("a/b"), (None, ("x", frozenset([1.0])))]
    expected: dict[Any, int] = dict(Counter(keys))
    found = group_by(keys * 3, lambda k: k, then=len, executor=pool, workers=5)
    assert found == {key: 3 * count for key, count in expected.items()}


def test_the_hash_does_not_depend_on_the_process():
    code = (
        "from lambdakernel.parallel.hashing import stable_hash\nimport uuid, pathlib as p\n"
        "keys = ['a', b'a', 1, 1.5, (1, 'x'), frozenset('abc'), None, uuid.UUID(int=5), p.PurePosixPath('a/b'), len]\n"
        "print([stable_hash(k) for k in keys])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_the_hashes_of_many_keys_are_those_of_each():
    texts = ["", "ada", "größer", "x" * 500]
    for keys in ([], texts, [*texts, "\ud800"], [*texts, Name.ADA], [*texts, 1, None], [(1, "x"), b"x"]):
        assert stable_hashes(keys) == [stable_hash(key) for key in keys]


def test_the_most_partitions_have_each_key_once_and_in_its_place(tmp_path):
    spool, combine = Spool(str(tmp_path)), combiner(operator.add)
    keys = [f"key-{n % 3000}" for n in range(5000)]
    with Writer(spool.place) as writer:
        table = Table(combine, writer, 2, MOST_PARTITIONS, memory_nbytes=1 << 40)
        table.take((key, 1) for key in keys)
        mapped = table.done(spool.place)
    blocks = [list(reduced([mapped] * 2, n, combine, None, 1 << 40)) for n in range(MOST_PARTITIONS)]
    rows = [row for some in blocks for block in some for row in zip(*block, strict=True)]
    spool.close()
    assert all(stable_hash(key) % MOST_PARTITIONS == n for n, some in enumerate(blocks) for b in some for key in b.keys)
    assert {key: value for _, key, value in rows} == {key: 2 * n for key, n in Counter(keys).items()}
    assert [(place, key) for place, key, _ in sorted(rows)] == list(enumerate(dict.fromkeys(keys), 2 << 40))


def test_the_hash_spreads_keys():
    for keys in (
        range(8000),
        [f"key-{n}" for n in range(8000)],
        [n / 7 for n in range(8000)],
        [(n, 0) for n in range(8000)],
    ):
        sizes = Counter(stable_hash(key) % 8 for key in keys)
        assert min(sizes.values()) > 800, keys


def test_keys_that_are_equal_and_pickle_differently_are_an_error_and_no_two_entries(pool):
    class Odd:
        def __init__(self, n: int) -> None:
            self.n = n

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    with pytest.raises(CannotShuffle, match="pickle differently"):
        group_by(range(64), lambda n: Odd(n), executor=pool, workers=4)


# -- bad input


def test_what_is_no_pair_or_no_key_is_told_with_its_item(pool):
    with pytest.raises(CannotShuffle, match="gave 5, which is no pair"):
        shuffle([5], lambda n: [n], executor=pool)
    with pytest.raises(CannotShuffle, match="unhashable"):
        group_by([5], lambda n: [n], executor=pool)
    with pytest.raises(CannotShuffle, match=r"function of two, or a lattice"):
        shuffle([5], words, 3, executor=pool)
    with pytest.raises(CannotShuffle, match="3 pieces of an item, and 2"):
        all_to_all([5], lambda n, into: [n] * 3, into=2, executor=pool)
    with pytest.raises(ZeroDivisionError):
        group_by([5, 0], lambda n: 1 // n, executor=pool)
    with pytest.raises(ValueError, match="much"):
        shuffle([5], words, memory="much", executor=pool)


def test_no_descriptor_is_left_after_success_and_failure(pool):
    shuffle(TEXTS, words, operator.add, executor=pool)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        shuffle(TEXTS, words, operator.add, executor=pool)
        with pytest.raises(ZeroDivisionError):
            group_by([5, 0] * 50, lambda n: 1 // n, executor=pool)
    assert len(os.listdir("/proc/self/fd")) <= before


# -- memory


def test_a_table_that_is_full_is_written_out_and_the_result_is_the_same(tmp_path):
    spool = Spool(str(tmp_path))
    combine = combiner(None)
    with Writer(spool.place) as writer:
        table = Table(combine, writer, 0, 3, memory_nbytes=4_000_000)
        pairs = [(n % 1000, "x" * 400 + str(n)) for n in range(30_000)]
        for at in range(0, len(pairs), 100):
            table.take(pairs[at : at + 100])
        mapped = table.done(spool.place)
    assert max(len(spans) for spans in mapped.spans) > 1, "it was never full"
    found = {}
    for partition in range(3):
        blocks = list(reduced([mapped], partition, combine, None, 8_000_000))
        assert len(blocks) > 1
        for block in blocks:
            found |= {key: (place, value) for place, key, value in zip(*block, strict=True)}
    assert len(found) == 1000
    assert all(value == [text for k, text in pairs if k == key] for key, (_, value) in list(found.items())[:20])
    assert [found[k][0] for k in range(3)] == [0, 1, 2]
    assert os.listdir(tmp_path) == []
    spool.close()


def test_one_key_that_has_almost_all_values_combines_to_one(pool):
    found = shuffle(range(200_000), lambda n: ((n if n % 1000 == 0 else -1, 1),), operator.add, executor=pool)
    assert found[-1] == 199_800 and len(found) == 201


def test_values_of_a_spool_come_back_and_arrays_are_its_pages():
    np = pytest.importorskip("numpy")
    spool = Spool()
    with Writer(spool.place) as writer:
        spans = [
            writer.put(v) for v in ("a", [np.arange(100_000), np.zeros(3)], {"f": lambda x: x + 1}, b"z" * 300_000)
        ]
    place = spool.place
    found = [get(place, span) for span in spans]
    spool.close()
    assert found[0] == "a" and found[1][0][99_999] == 99_999 and found[2]["f"](1) == 2 and len(found[3]) == 300_000
    found[1][0][0] = 5
    with pytest.raises(FileNotFoundError):
        get(place, spans[0])


def test_a_late_worker_does_not_write_into_the_next_file_of_that_number():
    spool = Spool()
    place = spool.place
    spool.close()
    other = Spool()
    assert other.place.path == place.path
    with pytest.raises(FileNotFoundError, match="is over"):
        Writer(place)
    other.close()


# -- where there is no executor of ours


def test_the_examples_of_the_guide_run(monkeypatch):
    pytest.importorskip("numpy")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "shuffle.md").read_text(), re.MULTILINE | re.DOTALL)
    runner, module = doctest.DocTestRunner(), ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    monkeypatch.setattr(builtins, "_", None, raising=False)
    said: list[str] = []
    for n, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, {}, f"block {n + 1}", "shuffle.md", 0)
        test.globs = module.__dict__
        runner.run(test, out=said.append, clear_globs=False)
    assert runner.tries > 10 and runner.failures == 0, "".join(said)
