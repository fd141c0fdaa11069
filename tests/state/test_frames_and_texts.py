"""What need not be dumped to be called unchanged: frames of pandas by a token; and long lists of texts in one piece."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import graph
from lambdakernel.state.texts import MANY, Texts, as_texts
from tests.state.cold import Worker, cold, seen, with_worker

FRAME = """
import numpy as np, pandas as pd
pd.options.mode.string_storage = STORAGE
df = pd.DataFrame({'k': np.arange(9), 'x': np.ones(9), 'y': np.zeros(9)}, index=pd.Index(np.arange(10, 19), name='i'))
series = pd.Series(np.arange(5.0), name='s')
held = {'frames': [pd.DataFrame(np.ones((200_000, 2))) for _ in range(3)]}
words = pd.DataFrame({'w': pd.array([f'word {n}' for n in range(9)], 'string[pyarrow]'), 'n': np.arange(9)})
column = words['w']; several = pd.concat([column, column])
"""
STORAGES = ("python", "pyarrow")
"""Where pandas keeps texts: the labels of columns, too."""

CHANGES = {
    "an element": "df.iloc[2, 1] = 7.0",
    "a column of its own": "df['z'] = 1",
    "a column in place": "df['x'] = df['x'] + 1",
    "a column inserted": "df.insert(0, 'first', 3)",
    "a column gone": "del df['y']",
    "a row": "df.loc[99] = [1, 2.0, 3.0]",
    "names of columns": "df.columns = ['a', 'b', 'c']",
    "a name of columns": "df.columns = df.columns.str.upper()",
    "name of the columns": "df.columns.name = 'c'",
    "name of the index": "df.index.name = 'j'",
    "another index": "df.index = range(9)",
    "order": "df[:] = df[::-1].to_numpy()",
    "attrs": "df.attrs['unit'] = 'm'",
    "flags": "df.flags.allows_duplicate_labels = False",
    "a type": "df['k'] = df['k'].astype('int32')",
    "a block, by numpy": "b = df._mgr.blocks[1].values; b.flags.writeable = True; b[0, 3] = 5; del b",
    "a block, by a memoryview": "m = memoryview(df._mgr.blocks[1].values.view('u1')); m[0, 0] = 9; del m",
    "whether a block may be written": "df._mgr.blocks[1].values.flags.writeable ^= True",
    "labels, by numpy": "b = df.index._data; b.flags.writeable = True; b[0] = 77; del b",
    "a text": "words.loc[2, 'w'] = 'another'",
    "a column of texts": "words['w'] = words['w'].str.upper()",
    "a text gone": "words.loc[3, 'w'] = None",
    "order of texts": "words['w'] = words['w'].to_numpy()[::-1]",
    "numbers beside texts": "words.loc[2, 'n'] = 5",
    "texts, by a memoryview": "m = words['w'].array._pa_array.chunk(0).buffers()[2]; import ctypes; "
    "ctypes.memset(m.address, 90, 3); del m",
    "a text of a column alone": "column.iloc[0] = 'first'",
    "a text of several pieces": "several.iloc[11] = 'late'",
    "texts of the columns": "b = df.columns._data._ndarray; b.flags.writeable = True; b[1] = 'Q'; del b",
    "an element of a series": "series.iloc[0] = 8.0",
    "the name of a series": "series.name = 't'",
    "the index of a series": "series.index = list('abcde')",
    "attrs of a series": "series.attrs['a'] = []",
    "a series, by numpy": "b = series._mgr.blocks[0].values; b.flags.writeable = True; b[1] = 5; del b",
    "one of many frames": "held['frames'][1].iloc[77_777, 1] = 3.0",
    "one of many frames, by a view": "b = held['frames'][2]._mgr.blocks[0].values.base; "
    "b.flags.writeable = True; b[5, 0] = 3.0; del b",
    "one of many gets a column": "held['frames'][0]['new'] = 1",
}
READS = (
    "df.head(), df.describe(), df.x.mean(), len(df[df.x > 0])",
    "df.groupby('k').x.mean(), df.pivot_table(index='k', values='x'), df.index.get_loc(11), 'x' in df.columns",
    "df.iloc[2, 1], df.loc[12, 'x'], df.to_numpy(copy=True), df.index.is_unique, df.columns.get_loc('y')",
    "series.mean(), series.sort_values(), series.iloc[2]",
    "held['frames'][1].iloc[5, 1], sum(f[0].sum() for f in held['frames'])",
    "words.w.str.len().sum(), words.groupby('w').n.sum(), words.w.iloc[3], column.is_unique, several.tolist()",
)


def frame(storage: str) -> str:
    return FRAME.replace("STORAGE", repr(storage))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_a_frame_is_never_missed(tmp_path: Path, change: str, storage: str) -> None:
    if storage == "pyarrow" and "df.columns._data._ndarray" in change:
        pytest.skip("no such array there")
    name = next(name for name in ("df", "series", "held", "words", "column", "several") if name in change)

    def work(worker: Worker) -> tuple[str, bool, tuple[str, ...]]:
        assert worker.run(frame(storage)).error == ""
        has_look = not graph.FAST or worker.namespace._detector.here.units[unit_of(worker, name)].snapshot is not None
        ran = worker.run(change)
        assert ran.committed is not None
        return ran.error, has_look, ran.committed.written

    error, has_look, written = with_worker(tmp_path / "s", work)
    assert (error, has_look) == ("", True)
    assert name in written


def unit_of(worker: Worker, name: str) -> str:
    return worker.namespace._detector.here.unit_of["n", name]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("read", READS)
def test_reading_a_frame_writes_nothing(tmp_path: Path, read: str, storage: str) -> None:
    def work(worker: Worker) -> tuple[str, ...]:
        worker.run(frame(storage))
        ran = worker.run(read)
        assert ran.error == "" and ran.committed is not None
        return ran.committed.written

    assert with_worker(tmp_path / "s", work) == ()


@pytest.mark.skipif(not graph.FAST, reason="without the extension frames are dumped")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_frame_that_was_only_read_is_not_dumped(tmp_path: Path, storage: str) -> None:
    def work(worker: Worker) -> list[Any]:
        worker.run(frame(storage))
        dumped: list[Any] = []
        dumper = worker.namespace._detector.dumper
        original = dumper.encode
        dumper.encode = lambda items, *rest, **more: dumped.append(items) or original(items, *rest, **more)  # type: ignore
        worker.run("df.describe(), held['frames'][1].iloc[5, 1], len(held), len(words), len(several)")
        worker.run("df.x.mean(), held['frames'][2].iloc[5, 1], words.w.iloc[3], column.iloc[1]")
        names = [("n", name) for name in ("df", "held", "words", "column", "several")]
        return [items for items in dumped if not set(names).isdisjoint(items)]

    assert with_worker(tmp_path / "s", work) == []


def test_what_frames_share_is_shared_after_a_move(tmp_path: Path) -> None:
    program = [
        frame("pyarrow"),
        "again = df; labels = df.columns; other = [series, df]",
        "again.iloc[0, 1] = 5.0; labels.name = 'c'",
        "print(df.iloc[0, 1], df.columns.name, df is again, other[1] is df, other[0] is series)",
        "df['z'] = 1",
        "print(again.shape, other[1].shape)",
    ]
    ran = cold(tmp_path / "s", program)
    assert [r.error for r in ran] == [""] * len(program)
    assert seen(ran)[3][0] == "5.0 c True True True\n"
    assert seen(ran)[5][0] == "(9, 4) (9, 4)\n"


def test_frames_with_more_than_numbers_are_found_changed_too(tmp_path: Path) -> None:
    """Those have no token, and are dumped: dates, categories, objects, levels, subclasses."""
    setup = (
        "import numpy as np, pandas as pd\nclass Own(pd.DataFrame): pass\n"
        "odd = [pd.DataFrame({'d': pd.date_range('2020', periods=3)}),"
        " pd.DataFrame({'c': pd.Categorical(list('aba'))}), pd.DataFrame({'o': [[1], [2], [3]]}),"
        " pd.DataFrame({'s': list('abc')}), Own({'x': [1.0]}),"
        " pd.DataFrame({'m': [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 2), (3, 4)])),"
        " pd.DataFrame(np.ones((2, 2)), columns=[(1,), True])]"
    )
    changes = (
        "odd[0].iloc[0, 0] = pd.Timestamp('2021')", "odd[1].iloc[0, 0] = 'b'", "odd[2].iloc[0, 0].append(9)",
        "odd[3].iloc[1, 0] = 'z'", "odd[4].iloc[0, 0] = 2.0", "odd[5].iloc[1, 0] = 7", "odd[6].columns = [(1,), 1]",
    )  # fmt: skip

    def work(worker: Worker) -> list[tuple[str, bool]]:
        assert worker.run(setup).error == ""
        found = []
        for change in changes:
            ran = worker.run(change)
            assert ran.committed is not None
            found.append((ran.error, "odd" in ran.committed.written))
        return found

    assert with_worker(tmp_path / "s", work) == [("", True)] * len(changes)


# -- texts

WORDS = "words = ('the quick brown fox ' * 5_000).split()"


def test_a_list_of_texts_comes_back_and_its_changes_are_found(tmp_path: Path) -> None:
    program = [
        WORDS,
        "print(len(words), words[:3], type(words), {type(w) for w in words})",
        "words[1] = 'slow'",
        "words.append('end')",
        "print(words[1], words[-1], len(words))",
        "words[2] = ['no text']; alias = words[2]",
        "alias.append(1)\nprint(words[2], words[2] is alias)",
        "other = words",
        "other.pop()",
        "print(len(words), other is words)",
    ]
    ran = cold(tmp_path / "s", program)
    assert [r.error for r in ran] == [""] * len(program)
    assert [r.shown for r in ran if r.shown] == [
        "20000 ['the', 'quick', 'brown'] <class 'list'> {<class 'str'>}\n",
        "slow end 20001\n",
        "['no text', 1] True\n",
        "20000 True\n",
    ]


def test_a_warm_list_of_texts_is_edited_and_found_again_cold(tmp_path: Path) -> None:
    def work(worker: Worker) -> list[tuple[str, ...]]:
        worker.run(WORDS)
        sources = ("len(words)", "words[7] = 'one'", "words[8] = 'two'", "del words[3]", "sorted(words)[0]")
        runs = [worker.run(source).committed for source in sources]
        return [run.written for run in runs if run is not None]

    assert with_worker(tmp_path / "s", work) == [(), ("words",), ("words",), ("words",), ()]
    (ran,) = cold(tmp_path / "s", ["print(words[5:9], len(words))"])
    assert ran.shown == "['brown', 'one', 'two', 'quick'] 19999\n"


def test_only_long_lists_of_nothing_but_texts_are_written_so() -> None:
    class Own(str):
        pass

    distinct = ["".join(("t", str(n))) for n in range(MANY)]
    assert isinstance(as_texts(distinct), Texts)
    assert as_texts(distinct[1:]) is None
    assert as_texts(tuple(distinct)) is None
    assert as_texts(["the same"] * MANY) is None, "a pickler writes that once"
    assert as_texts([*distinct, 1]) is None
    assert as_texts([*distinct, Own("x")]) is None
    assert as_texts([*distinct, "\ud800", ""]) is not None
    assert pickle.loads(pickle.dumps(as_texts([*distinct, "\ud800", "", "\0"]))) == [*distinct, "\ud800", "", "\0"]
