"""Which changes in place the text of a body shows: what is surely lost, and nothing that may be as it was."""

from __future__ import annotations

import array
import ast
from collections import Counter, defaultdict, deque
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lambdakernel.parallel.analysis import analyse
from lambdakernel.parallel.in_place import InPlace, changes_in_place


class Own(list):  # type: ignore[type-arg]
    """Its `append` may do anything."""


def found(body: str, value: Any) -> InPlace | None:
    tree = ast.parse(body)
    return changes_in_place(tree, {"i", *analyse(tree).assigned}, {"x": value, "i": []})


LOST = {
    "x.append(i)": [],
    "x.extend([i])": [],
    "x.insert(0, i)": [1],
    "x[0] = i": [1],
    "x[0] += i": [1],
    "x[0], y = i, 1": None,
    "x.add(i)": set(),
    "x.update({i})": set(),
    "x.update(a=i)": {},
    "x['a'] = i": {},
    "x['a'] += 1": defaultdict(int),
    "x[i] += 1": Counter(),
    "x.appendleft(i)": deque(),
    "x[i] = 1.0": np.zeros(3),
    "x['new'] = i": pd.DataFrame({"a": [1]}),
    "x.loc[0, 'a'] = i": pd.DataFrame({"a": [1]}),
    "x.iloc[0] = i": pd.Series([1]),
    "y = i\nfor k in range(3):\n    while k:\n        x.append(k)": [],
    "import contextlib\nwith contextlib.suppress(ValueError):\n    x.append(1)": [],
    "try:\n    x.append(1)\nfinally:\n    pass": [],
}


@pytest.mark.parametrize(("body", "value"), [(b, v) for b, v in LOST.items() if v is not None])
def test_what_is_lost(body, value):
    change = found(body, value)
    assert change is not None and change.name == "x" and change.kind == type(value).__name__
    assert "x" in body.split("\n")[change.line - 1]


MAY_BE = {
    "x = list(x)\nx.append(i)": [],
    "x += [i]": [],
    "i.append(3)": [],
    "if i: x.append(i)": [],
    "def f(): x.append(1)\nf": [],
    "[x.append(k) for k in range(3)]": [],
    "x.append(i)\nx.pop()": [],
    "x[5] = 1\ndel x[5]": {},
    "x.reverse()\nx.reverse()": [1, 2],
    "x.setdefault('a', 1)": {},
    "x.append(i)": Own(),
    "x.append(i) ": array.array("i"),
    "x.update(b'a')": object(),
    "x.value.append(i)": [],
    "y[0] = 1": [],
    "x == [i]": [],
    "try:\n    i\nexcept ValueError:\n    x.append(1)": [],
}


@pytest.mark.parametrize(("body", "value"), MAY_BE.items())
def test_what_may_be_as_it_was_or_is_not_known(body, value):
    assert found(body, value) is None


def test_the_first_one_is_said():
    change = found("y = 1\nx.append(1)\nx.append(2)", [])
    assert change is not None and change.line == 2
