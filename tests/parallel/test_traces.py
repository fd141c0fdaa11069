"""Tracebacks as a person reads them: the cell's label and lines, causes, deep recursion, none of our own frames."""

import linecache

import pytest

from lambdakernel.parallel import traces

CELL = "%%parallel for i in x\ndef f(n):\n    return f(n - 1) if n else 1 / 0\nf(depth)"


@pytest.fixture(autouse=True)
def source():
    traces.add_source("cell.py", CELL)
    yield
    linecache.cache.pop("cell.py")


def error_of(source: str, **scope) -> BaseException:
    try:
        exec(compile(source, "cell.py", "exec"), scope)
    except BaseException as e:
        return e
    raise AssertionError("it did not raise")


def rendered(error: BaseException) -> str:
    return traces.render(error, {"cell.py": "Cell In[5]"}, "cell.py")


def test_frames_of_the_cell_have_its_label_and_their_lines():
    text = rendered(error_of(CELL.replace("%%parallel", "#"), depth=0))
    assert text.splitlines()[0] == "Cell In[5], line 4"
    assert "---->   4 f(depth)" in text and "Cell In[5], line 3, in f" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "test_traces" not in text


def test_a_deep_recursion_is_cut_in_the_middle():
    text = rendered(error_of(CELL.replace("%%parallel", "#"), depth=300))
    assert "... 262 more frames" in text and text.count("line 3, in f") == traces.FRAMES - 1


def test_causes_and_contexts_come_first():
    text = rendered(error_of("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e"))
    assert text.index("ZeroDivisionError") < text.index("direct cause") < text.index("KeyError")
    assert "another exception" not in rendered(
        error_of("try:\n    1 / 0\nexcept Exception:\n    raise KeyError from None")
    )


def test_an_error_that_is_its_own_context_ends():
    error = ValueError("loop")
    error.__context__ = other = KeyError("k")
    other.__context__ = error
    assert rendered(error).count("ValueError: loop") == 1
