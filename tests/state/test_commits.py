"""What a commit writes, what attaching finds, and how several workers of one session see each other."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvs
from lambdakernel.errors import LambdaKernelError
from tests.state.cold import SPACE, Worker, cold, in_child, seen, with_worker

BIG = "import numpy as np\nbig = np.ones(1_000_000)\nsmall = [1]"


def blobs(store: Path) -> list[Path]:
    return [path for path in store.rglob("blobs/*/*") if path.is_file()]


# -- what is written


def test_a_cell_that_changes_nothing_writes_the_cell_alone(tmp_path: Path) -> None:
    ran = cold(
        tmp_path / "store", ["a = [1]; b = {1: a}\ndef f(): return a\nclass C: n = []\nc = C()", "f(); c; C; print(b)"]
    )
    done = ran[1].committed
    assert done is not None and done.dot is not None
    assert (done.written, done.deleted, done.nbytes) == ((), (), 0)


def test_a_commit_that_is_no_cell_publishes_nothing_when_nothing_changed(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("a = [1]")
        worker.namespace.touch_all()
        return worker.namespace.commit(None)

    done = with_worker(tmp_path / "store", work)
    assert done.dot is None and done.written == ()


def test_a_commit_that_is_no_cell_publishes_what_a_callback_changed(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("a = [1]; b = [1]")
        worker.live["a"].append(2)
        worker.namespace.touch(["a"])
        return worker.namespace.commit(None)

    assert with_worker(tmp_path / "store", work).written == ("a",)
    attached = with_worker(tmp_path / "store", lambda worker: worker.attached)
    assert [cell.number for cell in attached.cells] == [1]


def test_none_in_place_of_an_object_that_died_is_written(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[str, ...]:
        worker.run("class C: pass\nx = C(); y = {1}")
        ran = worker.run("x = y = None")
        assert ran.committed is not None
        return ran.committed.written

    assert sorted(with_worker(tmp_path, work)) == ["x", "y"]


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    ran = cold(
        tmp_path / "store", ["a = [1]; b = [2]; c = a", "b.append(len(a))", "a.append(1)", "x = 1", "x = 2; y = x"]
    )
    assert [sorted(r.committed.written) for r in ran if r.committed] == [
        ["a", "b", "c"],
        ["b"],
        ["a", "c"],
        ["x"],
        ["x", "y"],
    ]


def test_a_big_array_is_stored_once_and_not_again_when_its_neighbour_changes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, [BIG])
    before = blobs(store)
    assert len(before) == 1
    cold(store, ["small.append(big.sum())", "alias = big", "both = [big, small]", "small.append(1)"])
    assert blobs(store) == before


def test_a_big_array_comes_back_writable_and_the_stored_one_stays(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, [BIG])
    content = blobs(store)[0].read_bytes()
    assert seen(cold(store, ["big[0] = 7; print(big.flags.writeable)", "print(big[0], big[1])"]))[1] == (
        "7.0 1.0\n",
        "",
    )
    assert blobs(store)[0].read_bytes() == content or len(blobs(store)) == 2


def test_two_frames_that_share_a_block_are_apart_after_a_move(tmp_path: Path) -> None:
    """pandas counts who shares a block; the count does not survive a move, so the memory must not be shared either."""
    store = tmp_path / "store"
    cold(
        store,
        [
            "import pandas as pd, numpy as np\na = pd.DataFrame(np.zeros((20000, 5)))"
            "\nb = a.copy(deep=False)\nboth = [a, b]"
        ],
    )
    cells = ["a.iloc[0, 0] = 5", "print(a.iloc[0, 0], b.iloc[0, 0], both[0] is a)"]
    assert seen(cold(store, cells))[1] == ("5.0 0.0 True\n", "")


def test_a_replaced_object_dies_with_its_cell(tmp_path: Path) -> None:
    """A namespace must not keep alive what the notebook let go of: after a load or a commit."""
    store = tmp_path / "store"
    source = "import weakref, gc\nclass C: pass\no = C()"
    with_worker(store, lambda worker: worker.run(source))

    def work(worker: Worker) -> tuple[str, str]:
        import gc

        gc.disable()
        loaded = worker.run("w = weakref.ref(o); del o\nprint(w() is None)")
        worker.run("p = C()")
        committed = worker.run("w = weakref.ref(p)\np = None\nprint(w() is None)")
        return loaded.shown, committed.shown

    assert with_worker(store, work) == ("True\n", "True\n")


def test_a_commit_that_the_store_refuses_is_made_again_by_the_next(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def work(worker: Worker) -> None:
        worker.run("a = [1]; gone = 1")
        publish = worker.replica.publish
        worker.replica.publish = _refuse  # type: ignore[method-assign]
        with pytest.raises(kvs.StoreFull):
            worker.run("a.append(2); b = a; del gone")
        worker.replica.publish = publish  # type: ignore[method-assign]
        worker.run("c = 1")

    with_worker(store, work)
    assert seen(cold(store, ["print(a, b is a, c, 'gone' in globals())"])) == [("[1, 2] True 1 False\n", "")]


def _refuse(*_: Any, **__: Any) -> Any:
    raise kvs.StoreFull("here")


def test_redefining_a_class_many_times_keeps_instances_on_theirs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, [f"class C:\n    v = {n}\no{n} = C()" for n in range(4)])
    assert seen(cold(store, ["print([o.v for o in (o0, o1, o2, o3)], type(o3) is C, type(o0) is C)"])) == [
        ("[0, 1, 2, 3] True False\n", "")
    ]


def test_a_class_that_no_loaded_name_holds_is_not_lost_when_its_group_parts(tmp_path: Path) -> None:
    """A class' definition was stored empty when its co-variable was split in a worker where nothing held the class."""
    store = tmp_path / "store"
    cold(store, ["a = []\nclass K:\n    items = [a]\nk = K()"])

    def work(worker: Worker) -> None:
        import gc

        worker.namespace.load(["a"])
        gc.collect()
        worker.run("K_items = 0; a = [1]")

    with_worker(store, work)
    assert seen(cold(store, ["print(k.items, type(k) is K, a)"])) == [("[[]] True [1]\n", "")]


# -- outputs


def test_outputs_share_with_the_names_they_show(tmp_path: Path) -> None:
    def show(worker: Worker) -> None:
        worker.run("a = [1]")
        worker.live["_1"] = worker.live["Out"][1] = worker.live["_"] = worker.live["a"]
        worker.run("pass")

    store = tmp_path / "store"
    with_worker(store, show)
    cells = ["_1.append(2)", "print(a, _1 is a)", "print(Out[1] is a, list(Out))", "print(_ is a)"]
    assert seen(cold(store, cells)) == [("", ""), ("[1, 2] True\n", ""), ("True [1]\n", ""), ("True\n", "")]


# -- the log, epochs


def test_the_log_has_every_cell_in_order_with_how_it_ended(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = 1", "1/0", "a"])
    attached = with_worker(store, lambda worker: worker.attached)
    assert [(c.number, c.source, c.status, c.ename) for c in attached.cells] == [
        (1, "a = 1", "ok", ""),
        (2, "1/0", "error", "ZeroDivisionError"),
        (3, "a", "ok", ""),
    ]
    assert attached.resumed and attached.names == 1


def test_an_empty_session_is_not_resumed(tmp_path: Path) -> None:
    attached = with_worker(tmp_path / "store", lambda worker: worker.attached)
    assert (attached.resumed, attached.names, attached.cells) == (False, 0, ())


def test_a_new_epoch_is_empty_and_the_old_one_can_be_restored_with_aliases(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, [BIG + "\nalias = small\nclass C: n = 1\nc = C()"])
    before = blobs(store)
    with_worker(store, lambda worker: worker.namespace.begin_epoch())
    assert seen(cold(store, ["print('small' in globals())", "small"])) == [("False\n", ""), ("", "NameError")]
    with_worker(store, lambda worker: worker.namespace.restore(1))
    cells = ["small.append(2); print(alias, alias is small, big.sum(), type(c) is C)", "print(alias)"]
    assert seen(cold(store, cells))[1] == ("[1, 2]\n", "")
    assert blobs(store) == before
    epochs = with_worker(store, lambda worker: worker.namespace.epochs())
    assert [(e.number, e.current, e.names > 0) for e in epochs] == [(1, False, True), (2, True, True)]


def test_what_is_restored_replaces_equal_names_and_keeps_the_others(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = ['old']; b = a"])
    with_worker(store, lambda worker: worker.namespace.begin_epoch())
    cold(store, ["a = ['new']; c = [a]; d = 5"])
    names = with_worker(store, lambda worker: worker.namespace.restore(1))
    assert names == ["a", "b"]
    assert seen(cold(store, ["print(a, b, a is b, c, d)"])) == [("['old'] ['old'] True [['new']] 5\n", "")]


def test_restoring_an_epoch_that_does_not_exist_says_which_do(tmp_path: Path) -> None:
    cold(tmp_path / "store", ["a = 1"])
    with pytest.raises(LambdaKernelError, match="nothing to restore"):
        with_worker(tmp_path / "store", lambda worker: worker.namespace.restore(7))


# -- several workers


def test_a_refresh_brings_what_another_worker_committed(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def work(worker: Worker) -> list[str]:
        worker.run("a = [1]; b = [2]\nclass C: n = 1\nc = C()")
        in_child(lambda: cold(store, ["a.append(9)", "del b", "new = a"]))
        return [worker.run("print(a, new is a, c.n, type(c) is C)").shown, worker.run("b").error]

    assert with_worker(store, work) == ["[1, 9] True 1 True\n", "NameError"]


def test_two_workers_that_write_apart_both_prevail(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = [1]; b = [2]"])

    def work(worker: Worker) -> None:
        worker.namespace.load_all()
        in_child(lambda: cold(store, ["b.append(3)"]))
        worker.namespace.prepare("a.append(4)")
        worker.live["a"].append(4)
        worker.namespace.commit(None)

    with_worker(store, work)
    assert seen(cold(store, ["print(a, b)"])) == [("[1, 4] [2, 3]\n", "")]


def test_a_buffer_is_not_taken_for_what_another_worker_has_replaced(tmp_path: Path) -> None:
    """The blobs that this worker had loaded were found under the mark of the other's newer version."""
    store = tmp_path / "store"

    def work(worker: Worker) -> None:
        worker.run("import numpy as np\nbig = np.arange(300_000.)")
        in_child(lambda: cold(store, ["big = big * 2"]))
        worker.run("other = np.arange(300_000.) * 2")

    with_worker(store, work)
    assert seen(cold(store, ["print(other[1], big[1])"])) == [("2.0 2.0\n", "")]


@pytest.mark.parametrize("there", ["a.append('there')", "a = 'there'", "b = 'there'", "del a", "b = [a]", "c = a"])
def test_all_see_one_winner_of_concurrent_writes_and_aliases_stay_whole(there: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = []; b = a"])

    def work(worker: Worker) -> None:
        worker.namespace.load_all()
        in_child(lambda: cold(store, [there]))
        worker.namespace.touch_all()
        worker.live["a"].append("here")
        worker.namespace.commit(None)

    with_worker(store, work)
    look = "print({n: globals()[n] for n in 'abc' if n in globals()}, 'a' in globals() and 'b' in globals() and a is b)"
    first, second = seen(cold(store, [look, look]))
    assert first == second and first[1] == ""


# -- values between workers


VALUES = [
    "(o, [1])",
    "f",
    "C()",
    "[s, s]",
    "np.arange(100000.)",
    "C",
    "lambda: later",
    "{'k': {1, 2}}",
    "ValueError('x')",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_goes_to_a_reader_of_the_session_and_back(value: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["import numpy as np\nclass C: n = [1]\no = C(); s = []\ndef f(): return later\nlater = 5"])

    def send(worker: Worker) -> tuple[bytes, list[bytes]]:
        worker.namespace.prepare(value)
        dump = worker.namespace.encode(eval(value, worker.live))
        return dump.head, [bytes(buffer) for buffer in dump.buffers]

    def receive(worker: Worker) -> bool:
        got = worker.namespace.decode(head, [memoryview(bytearray(buffer)) for buffer in buffers])
        worker.namespace.load_all()
        live = worker.live
        checks: dict[str, Any] = {
            "(o, [1])": lambda: type(got[0]) is live["C"] and got[1] == [1],
            "f": lambda: got.__globals__ is live and got() == 5,
            "C()": lambda: isinstance(got, live["C"]),
            "[s, s]": lambda: got[0] is got[1],
            "np.arange(100000.)": lambda: got.sum() == np.arange(100000.0).sum() and got.flags.writeable,
            "C": lambda: got is live["C"],
            "lambda: later": lambda: got() == 5,
            "{'k': {1, 2}}": lambda: got == {"k": {1, 2}},
            "ValueError('x')": lambda: type(got) is ValueError and got.args == ("x",),
        }
        return bool(checks[value]())

    head, buffers = with_worker(store, send, reader=True)
    assert with_worker(store, receive, reader=True)


def test_a_reader_sees_all_and_commits_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = [1]"])
    with pytest.raises(kvs.ReadOnlyReplica):
        with_worker(store, lambda worker: worker.run("a.append(2)"), reader=True)
    assert seen(cold(store, ["print(a)"])) == [("[1]\n", "")]


READS = [
    "len(a), b, d['k']",
    "f(), C.n, c.v, str(c)",
    "df.head(), df.a.sum(), df.describe(), df.index, df.columns",
    "z.sum(), z[1:], v.mean()",
    "[x for x in a], len(s), {**d}",
    "g(1), p(2), e.A, e(1), hash(t)",
    "compute(), record.length, table['length'], bump, Record.length, Record(1)",
    "df.groupby('a').sum(), df['b'].unique(), df.T",
]
STATE = """
import numpy as np, pandas as pd, enum, functools, collections
a = [3, 1]; b = a; d = {'k': a}; s = {'x', 'y', 'z', 3}; t = (1, 'two')
z = np.arange(6.); v = z[2:]; df = pd.DataFrame({'a': [1, 1, 2], 'b': list('xyz')})
class e(enum.Enum):
    A = 1
class C:
    n = [1]
    def __init__(self): self.v = {}
c = C()
def f(): return [a, c]
def g(x): return x + len(a)
p = functools.partial(g)
o = collections.OrderedDict(q=1)
def compute(*, length: 'width' = {'length': 1}) -> 'compute': return [length, compute, 'length', Record]
class Record:
    length = 'length'
    def __init__(self, length): self.length, self.compute, self.kind = length, 'compute', {'Record', 'length', 'other'}
record = Record('record'); table = {'record': record, 'length': ['length', 'compute'], 'kind': record.kind}
def counter():
    length = 0
    def bump():
        nonlocal length
        length += 1
    return bump
bump = counter()
"""


@pytest.mark.parametrize("read", READS)
def test_reading_is_not_taken_for_a_change(read: str, tmp_path: Path) -> None:
    """A task that only reads must not be told that its change would be lost; in a process that just loaded."""
    cold(tmp_path / "store", [STATE])

    def work(worker: Worker) -> list[str]:
        worker.namespace.prepare(read)
        eval(read, worker.live)
        return worker.namespace.mutated(())[0]

    assert with_worker(tmp_path / "store", work, reader=True) == []


WRITES = {
    "a.append(1)": ["a", "b", "d"],
    "d['n'] = 1": ["a", "b", "d"],
    "z[0] = 9": ["v", "z"],
    "v[0] = 9": ["v", "z"],
    "c.v[1] = 2": ["c"],
    "df.loc[0, 'a'] = 9": ["df"],
    "s.add(5)": ["s"],
    "o.move_to_end('q'); o['r'] = 2": ["o"],
    "f.x = 1": ["f"],
    "bump()": ["bump"],
    "record.kind.add(1)": ["record", "table"],
    "table['length'].clear()": ["record", "table"],
    "compute.__kwdefaults__['length']['x'] = 1": ["compute"],
}


@pytest.mark.parametrize("write", WRITES)
def test_a_change_in_place_is_found_in_a_process_that_just_loaded(write: str, tmp_path: Path) -> None:
    cold(tmp_path / "store", [STATE])

    def work(worker: Worker) -> list[str]:
        worker.namespace.prepare(write)
        exec(write, worker.live)
        return worker.namespace.mutated(())[0]

    assert set(WRITES[write]) <= set(with_worker(tmp_path / "store", work, reader=True))


# -- damage


def flip(path: Path, needle: bytes, seed: int) -> None:
    """Change one byte inside each place of `path` that holds `needle`."""
    data = bytearray(path.read_bytes())
    at, rng = data.find(needle), random.Random(seed)
    assert at >= 0
    while at >= 0:
        data[at + rng.randrange(len(needle))] ^= 1 << rng.randrange(8)
        at = data.find(needle, at + len(needle))
    path.write_bytes(data)


def flip_everywhere(store: Path, needle: bytes, seed: int) -> None:
    for name in ("log.sqlite", "log.sqlite-wal"):
        for path in store.rglob(name):
            if needle in path.read_bytes():
                flip(path, needle, seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_byte_in_a_value_is_named_and_the_others_load(seed: int, tmp_path: Path) -> None:
    store, mark = tmp_path / "store", b"find-me-in-the-log"
    half = mark.decode()[:9], mark.decode()[9:]  # so that the cell's source does not hold it
    cold(store, [f"bad = [''.join({half})]; good = [1]\ndef f(): return bad"])
    flip_everywhere(store, mark, seed)
    with pytest.raises(LambdaKernelError, match="bad"):
        cold(store, ["print(bad)"])
    assert seen(cold(store, ["good.append(2); print(good)"])) == [("[1, 2]\n", "")]
    assert seen(cold(store, ["bad = 1", "print(bad, f(), good)"]))[1] == ("1 1 [1, 2]\n", "")


def test_a_damaged_entry_of_the_log_costs_that_entry_alone(tmp_path: Path) -> None:
    """One flipped byte in the text of an old cell must not close the whole session."""
    store, mark = tmp_path / "store", "a-comment-to-find"
    cold(store, ["a = [1]", f"a.append(2)  # {mark}", "b = a"])
    flip_everywhere(store, mark.encode(), 1)
    assert seen(cold(store, ["print(a, a is b)"])) == [("[1, 2] True\n", "")]
    attached = with_worker(store, lambda worker: worker.attached)
    assert [cell.source for cell in attached.cells] == ["a = [1]", "b = a", "print(a, a is b)"]
    epochs = with_worker(store, lambda worker: worker.namespace.epochs())
    assert [(epoch.number, epoch.cells, epoch.names) for epoch in epochs] == [(1, 3, 2)]


def test_a_blob_that_is_gone_or_short_is_named_and_the_others_load(tmp_path: Path) -> None:
    for harm in (os.unlink, lambda path: os.truncate(path, 100)):
        store = tmp_path / harm.__name__.strip("<>")
        cold(store, [BIG])
        harm(blobs(store)[0])
        with pytest.raises(LambdaKernelError, match="big cannot be loaded"):
            cold(store, ["print(big)"])
        assert seen(cold(store, ["print(small)"])) == [("[1]\n", "")]


def test_a_planted_pickle_is_never_run(tmp_path: Path) -> None:
    """Someone who can write the log but has no key puts a pickle in place of a value."""
    store, canary, mark = tmp_path / "store", tmp_path / "canary", "A" * 300
    cold(store, ["bad = 'A' * 300; good = 1"])
    payload = b"cposix\nmkdir\n(V" + str(canary).encode() + b"\ntR."
    planted = payload + b"A" * (len(mark) - len(payload))
    for name in ("log.sqlite", "log.sqlite-wal"):
        for path in store.rglob(name):
            path.write_bytes(path.read_bytes().replace(mark.encode(), planted))
    with pytest.raises(LambdaKernelError, match="bad"):
        cold(store, ["print(bad)"])
    assert not canary.exists()
    assert seen(cold(store, ["print(good)"])) == [("1\n", "")]


def test_a_worker_that_dies_inside_a_cell_leaves_nothing_of_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["a = [1]"])
    with pytest.raises(EOFError):
        cold(store, ["import os\na.append(2); b = 1\nos._exit(9)"])
    assert seen(cold(store, ["print(a, 'b' in globals())"])) == [("[1] False\n", "")]


def test_the_session_is_kept_under_its_name(tmp_path: Path) -> None:
    cold(tmp_path / "store", ["a = 1"])
    assert [space.name for space in kvs.open(tmp_path / "store").spaces()] == [SPACE]
