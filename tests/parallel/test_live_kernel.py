"""Live lattices in a whole kernel: durable, shared, and shown."""

import pytest

from tests.kernels import Kernel, eventually, running


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with running(tmp_path_factory.mktemp("store"), session="live-test") as kernel:
        assert kernel.run("from lambdakernel import Live\nfrom kvs.lattices import *").status == "ok"
        yield kernel


def test_a_live_lattice_outlives_its_worker_with_its_aliases(kernel: Kernel):
    kernel.run("best = Live(Max(1)); state = {'best': best}; words = Live(GrowSet())")
    kernel.run("state['best'].merge(5)")
    kernel.run("words.add('a')")
    kernel.kill_worker()
    assert kernel.value("best.value, state['best'] is best, list(words)") == (5, True, ["a"])
    assert kernel.run("best").value == "Live(Max(5))"


def test_joins_of_tasks_outlive_the_worker(kernel: Kernel):
    kernel.run("best, n = Live(Min(99)), Live(GCounter())\ndef seen(x): n.increment(); best.merge(x)")
    result = kernel.run("%%parallel for i in range(4)\nseen(10 - i)")
    assert result.status == "ok", result.shown
    kernel.kill_worker()
    assert kernel.value("best.value, n.total()") == (7, 4)


def test_a_background_job_joins_while_cells_run_and_it_is_durable(kernel: Kernel):
    kernel.run("done, go = Live(GrowSet()), Live(BoolOr())")
    assert kernel.run("%%parallel --background --workers 2 for i in range(4)\ndone.add(i)").status == "ok"
    assert kernel.value("done.wait(lambda s: len(s) == 4, 30)") is True
    kernel.run("%wait")
    kernel.kill_worker()
    assert kernel.value("list(done)") == [0, 1, 2, 3]


def test_tasks_that_display_hear_joins_meanwhile(kernel: Kernel):
    kernel.run("n = Live(GCounter())")
    body = "for _ in range(30):\n    display(i)\n    n.increment()\nn.wait(lambda c: c.total() == 60, 30)"
    result = kernel.run(f"%%parallel --workers 2 --timeout 60 for i in range(2) -> ok\n{body}")
    assert result.status == "ok", result.shown
    assert kernel.value("ok, n.total()") == ([True, True], 60)


def test_a_live_lattice_completes_with_what_its_lattice_has(kernel: Kernel):
    kernel.run("words = Live(GrowSet())")
    eventually(lambda: "words.add" in _completions(kernel, "words."), 10, "completions")


def _completions(kernel: Kernel, text: str) -> list[str]:
    kernel.run(
        "from IPython.core.completer import provisionalcompleter\nwith provisionalcompleter():\n"
        f"    found = [c.text for c in get_ipython().Completer.completions({text!r}, {len(text)})]"
    )
    return [text + found.removeprefix(".") for found in kernel.value("found")]


def test_a_shuffle_in_a_cell_and_in_tasks_uses_what_the_notebook_defines(kernel: Kernel):
    kernel.run(
        "import operator\nfrom lambdakernel import group_by, shuffle\none = 1\nclass P:\n"
        "    def __init__(self, n): self.n = n\ndef words(text): return [(w, one) for w in text.split()]"
    )
    assert kernel.value("shuffle(['a b', 'b'] * 40, words, operator.add)") == {"a": 40, "b": 80}
    kernel.run("made = group_by(range(4), lambda n: n % 2, value=P)")
    assert kernel.value("[[type(p) is P, p.n] for p in made[1]]") == [[True, 1], [True, 3]]
    result = kernel.run("%%parallel for i in range(2) -> counts\nshuffle(['a b', 'b'] * (i + 1), words, operator.add)")
    assert result.status == "ok", result.shown
    assert kernel.value("counts") == [{"a": 1, "b": 2}, {"a": 2, "b": 4}]


def test_time_travel_brings_back_an_earlier_value_of_its_own(kernel: Kernel):
    kernel.run("top = Live(Max(1))")
    kernel.run("top.merge(8)")
    result = kernel.run("%undo")
    assert result.status == "ok", result.shown
    assert kernel.value("top.value") == 1
    kernel.run("top.merge(3)")
    assert kernel.value("top.value") == 3
