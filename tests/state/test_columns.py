"""Columns in Arrow's memory come back as they were, and are handed out where they lie."""

from __future__ import annotations

import datetime
import io
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lambdakernel.state import columns
from lambdakernel.state.columns import Columns

ROWS = 20_000


class Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        self.buffers: list[memoryview] = []
        super().__init__(file, protocol=5, buffer_callback=self._keep)
        self._columns = Columns()

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        self.buffers.append(buffer.raw())
        return False

    def reducer_override(self, obj: Any) -> Any:
        found = self._columns.reduce(obj)
        return NotImplemented if found is None else found


def dumped(obj: object) -> tuple[bytes, list[memoryview]]:
    file = io.BytesIO()
    pickler = Pickler(file)
    pickler.dump(obj)
    return file.getvalue(), pickler.buffers


def moved(obj: Any) -> Any:
    head, buffers = dumped(obj)
    return pickle.loads(head, buffers=[bytearray(buffer) for buffer in buffers])


def address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, "u1").__array_interface__["data"][0])


def of_polars() -> pl.DataFrame:
    days = [datetime.date(2020, 1, day) for day in range(1, 5)]
    return pl.DataFrame(
        {
            "numbers": pl.Series([1, 2, None, 4], dtype=pl.Int8),
            "floats": pl.Series([1.5, float("nan"), None, -0.0], dtype=pl.Float32),
            "texts": ["a", None, "x" * 100, "é"],
            "bytes": [b"a", None, b"", b"x" * 50],
            "truths": [True, None, False, True],
            "days": days,
            "moments": pl.Series(days).cast(pl.Datetime("ms", "Europe/Paris")),
            "spans": [datetime.timedelta(seconds=n) for n in range(4)],
            "kinds": pl.Series(["u", "v", "u", None], dtype=pl.Categorical),
            "known": pl.Series(["u", "v", "u", None], dtype=pl.Enum(["u", "v"])),
            "lists": [[1], [2, 3], None, []],
            "records": [{"a": n} for n in range(4)],
            "nothing": [None] * 4,
            "wide": pl.Series(range(4), dtype=pl.Int128),
        }
    )


FRAMES = {
    "all types": of_polars,
    "numbers alone": lambda: of_polars().select("numbers", "floats"),
    "nothing that arrow has": lambda: of_polars().select("lists", "kinds"),
    "sorted": lambda: of_polars().sort("numbers", descending=True),
    "a part": lambda: of_polars()[1:3],
    "no rows": lambda: of_polars().head(0),
    "no columns": pl.DataFrame,
    "a column without a name": lambda: pl.DataFrame({"": [1, 2], "b": ["x", "y"]}),
    "several pieces": lambda: pl.concat([of_polars(), of_polars()], rechunk=False),
}


@pytest.fixture(params=["pyarrow", "without"])
def _with_and_without_pyarrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_has_pyarrow", lambda: request.param == "pyarrow")


@pytest.mark.usefixtures("_with_and_without_pyarrow")
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_polars_comes_back_as_it_was(name: str) -> None:
    frame = FRAMES[name]()
    back = moved(frame)
    assert (back.schema, back.flags) == (frame.schema, frame.flags)
    assert back.equals(frame)
    for series in frame:
        there = moved(series)
        assert (there.name, there.dtype, there.flags) == (series.name, series.dtype, series.flags)
        assert there.equals(series)


@pytest.mark.usefixtures("_with_and_without_pyarrow")
def test_what_came_back_is_written_to_without_what_it_came_from() -> None:
    series = pl.Series(range(ROWS))
    back = moved(series)
    back[5] = -1
    assert (back[5], series[5]) == (-1, 5)


VALUES: dict[str, Any] = {
    "a frame of polars": lambda: pl.DataFrame({"x": np.arange(ROWS), "s": [f"a text of row {n}" for n in range(ROWS)]}),
    "a series of polars": lambda: pl.Series(np.arange(ROWS)),
    "texts of pandas": lambda: pd.array([f"text {n}" for n in range(ROWS)], dtype="string[pyarrow]"),
    "numbers of pandas": lambda: pd.array(range(ROWS), dtype="int64[pyarrow]"),
    "pieces of pandas": lambda: pd.concat([pd.Series(range(ROWS), dtype="int64[pyarrow]")] * 2).array,
}


@pytest.mark.parametrize("name", VALUES)
def test_what_did_not_change_is_dumped_from_where_it_lies(name: str) -> None:
    value = VALUES[name]()
    (first, lay), (second, lies) = dumped(value), dumped(value)
    assert first == second
    assert [address(buffer) for buffer in lay] == [address(buffer) for buffer in lies]
    assert sum(buffer.nbytes for buffer in lay) >= 8 * ROWS, "they are not in the stream"
    back = moved(value)
    (_, again), (_, once_more) = dumped(back), dumped(back)
    assert [address(buffer) for buffer in again] == [address(buffer) for buffer in once_more]


def test_a_small_part_of_a_large_array_is_dumped_alone() -> None:
    part = pd.array(range(100 * ROWS), dtype="int64[pyarrow]")[10:20]
    head, buffers = dumped(part)
    assert len(head) + sum(buffer.nbytes for buffer in buffers) < 10_000
    assert list(moved(part)) == list(range(10, 20))


def test_arrays_of_pandas_without_pieces_come_back() -> None:
    empty = pd.array([], dtype="string[pyarrow]")
    assert list(moved(empty)) == [] and moved(empty).dtype == empty.dtype
    cached = pd.array(["a", None], dtype="string[pyarrow]")
    assert list(moved(cached).isna()) == [False, True]
