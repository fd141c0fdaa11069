"""Live lattices in `%%parallel` cells: real shell, real store, real forked tasks."""

import time

import pytest

from lambdakernel.live import Live
from lambdakernel.parallel import ParallelError

SETUP = "from lambdakernel import Live\nfrom kvs.lattices import *"


@pytest.fixture
def live_notebook(notebook):
    notebook.ok(SETUP)
    return notebook


def test_tasks_join_into_the_notebooks_variable(live_notebook):
    live_notebook.ok("best, words = Live(Max(0)), Live(GrowSet(['x']))")
    live_notebook.ok("%%parallel for i in range(6) -> r\nbest.merge(i * 7 % 5)\nwords.add(f'w{i}')\nbest.value >= 0")
    assert live_notebook.live["r"] == [True] * 6
    assert live_notebook.live["best"].value == 4
    assert list(live_notebook.live["words"]) == ["w0", "w1", "w2", "w3", "w4", "w5", "x"]


def test_a_join_by_operator_is_one_too(live_notebook):
    live_notebook.ok("best = Live(Min(9))")
    live_notebook.ok("%%parallel for i in [3, 5]\nbest |= Min(i)")
    assert live_notebook.live["best"].value == 3


def test_tasks_see_each_others_joins_while_they_run(live_notebook):
    live_notebook.ok("met = Live(GrowSet())")
    live_notebook.ok(
        "%%parallel --workers 2 --timeout 30 for i in range(2) -> seen\nmet.add(i)\nmet.wait(lambda s: len(s) == 2, 25)"
    )
    assert live_notebook.live["seen"] == [True, True]


def test_a_task_that_begins_later_knows_what_was_joined_before(live_notebook):
    live_notebook.ok("top = Live(Max(0))")
    live_notebook.ok(
        "%%parallel --workers 1 for i in range(3) -> first\n"
        "first = top.wait(lambda m: m.value >= i, 20)\ntop.merge(i + 1)"
    )
    assert live_notebook.live["first"] == [True] * 3 and live_notebook.live["top"].value == 3


def test_the_notebook_sees_joins_while_a_background_job_runs(live_notebook):
    live_notebook.ok("n, go = Live(GCounter()), Live(BoolOr())")
    live_notebook.ok(
        "%%parallel --background --timeout 60 for i in range(2) -> done\nn.increment()\n"
        "import time\nend = time.time() + 30\nwhile n.total() < 2 and time.time() < end: time.sleep(0.01)\nn.total()"
    )
    assert live_notebook.ok("n.wait(lambda c: c.total() >= 2, 30)") is True
    live_notebook.ok("%wait")
    assert live_notebook.live["done"] == [2, 2]


def test_what_was_joined_is_durable(live_notebook, tmp_path):
    import kvs
    from lambdakernel.state import Namespace

    live_notebook.ok("best = Live(Max(1)); alias = {'b': best}")
    live_notebook.ok("%%parallel for i in range(2)\nbest.merge(i + 10)")
    other: dict = {}
    fresh = Namespace(other, kvs.open(live_notebook.session.store).space("test").reader(), ignore={}, worker="x")
    fresh.attach()
    fresh.load_all()
    assert other["best"].value == 11 and other["alias"]["b"] is other["best"]


def test_one_inside_another_value_is_live_too_and_that_value_is_still_guarded(live_notebook):
    live_notebook.ok("state = {'best': Live(Max(0)), 'log': []}\ndef note(x): state['best'].merge(x)")
    live_notebook.ok("%%parallel for i in range(3)\nnote(i)")
    assert live_notebook.live["state"]["best"].value == 2
    error = live_notebook.run("%%parallel for i in range(2)\nnote(i + 5); state['log'].append(i)")
    assert isinstance(error, ParallelError) and "changed 'state' in place" in str(error)
    assert live_notebook.live["state"]["best"].value == 6 and live_notebook.live["state"]["log"] == []


def test_an_item_may_hold_one(live_notebook):
    live_notebook.ok("jobs = [Live(Max(0)), Live(Max(0))]")
    live_notebook.ok("%%parallel for job in jobs\njob.merge(3)")
    assert [job.value for job in live_notebook.live["jobs"]] == [3, 3]


def test_a_result_may_be_one(live_notebook):
    live_notebook.ok("%%parallel for i in range(2) -> r\nmine = Live(Max(i)); mine.merge(i + 1); mine")
    assert all(type(x) is Live for x in live_notebook.live["r"])
    assert [x.value for x in live_notebook.live["r"]] == [1, 2]


def test_joins_of_a_task_that_died_or_raised_stay(live_notebook):
    live_notebook.ok("seen = Live(GrowSet())")
    error = live_notebook.run(
        "%%parallel for i in range(3)\nimport os, time\nseen.add(i)\nif i == 1: 1 / 0\n"
        "if i == 2: time.sleep(0.5); os.kill(os.getpid(), 9)"
    )
    assert isinstance(error, ParallelError) and len(error.failures) == 2
    assert list(live_notebook.live["seen"]) == [0, 1, 2]


def test_a_second_attempt_counts_and_averages_once(live_notebook, tmp_path):
    live_notebook.ok(f"n, mean, flag = Live(GCounter()), Live(Average()), {str(tmp_path / 'flag')!r}")
    live_notebook.ok("n.increment(by=100)")
    live_notebook.ok(
        "%%parallel --retries 1 for i in range(2)\nimport os, time\n"
        "for _ in range(5): n.increment(); mean.add(float(i))\n"
        "if i == 0 and not os.path.exists(flag): open(flag, 'w').close(); time.sleep(0.5); os.kill(os.getpid(), 9)"
    )
    assert live_notebook.live["n"].total() == 110
    assert live_notebook.live["mean"].mean() == 0.5 and live_notebook.live["mean"].rounds() == 10


def test_counts_of_two_fan_outs_and_of_cells_add_up(live_notebook):
    live_notebook.ok("n = Live(PNCounter())")
    for _ in range(2):
        live_notebook.ok("n.increment(by=1)")
        live_notebook.ok("%%parallel for i in range(3)\nn.increment(by=10); n.decrement()")
    assert live_notebook.live["n"].total() == 2 + 2 * 27


def test_causal_types_and_registers_take_writes_of_many_tasks(live_notebook):
    live_notebook.ok(
        "from kvs.causal import AddWinsSet\nitems = Live(AddWinsSet()); items.add('old')\nlast = Live(Last())"
    )
    live_notebook.ok("%%parallel for i in range(3)\nitems.add(i); items.remove('old'); last.write(i)")
    assert list(live_notebook.live["items"]) == [0, 1, 2]
    assert live_notebook.live["last"].value in (0, 1, 2)


def test_many_writes_are_few_messages_and_a_long_computation_holds_none_back(live_notebook):
    live_notebook.ok("best, seen = Live(Max(0)), Live(BoolOr())")
    live_notebook.ok(
        "%%parallel --workers 2 --timeout 60 for i in range(2) -> r\nimport time\nif i == 0:\n"
        "    for n in range(20000): best.merge(n)\n"
        "    end = time.monotonic() + 30\n"
        "    while not seen.value and time.monotonic() < end: time.sleep(0.05)  # looks, but writes no more\n"
        "else:\n    if best.wait(lambda m: m.value == 19999, 30): seen.set()\nseen.value"
    )
    assert live_notebook.live["r"] == [True, True]


def test_large_deltas_go_around(live_notebook):
    live_notebook.ok("graph = Live(Map())")
    live_notebook.ok(
        "%%parallel --workers 2 --timeout 60 for i in range(2) -> r\n"
        "graph.merge({(i, n): Max('x' * 50) for n in range(4000)})\ngraph.wait(lambda g: len(g) == 8000, 40)"
    )
    assert live_notebook.live["r"] == [True, True] and len(live_notebook.live["graph"]) == 8000


def test_a_process_that_the_body_forks_may_join(live_notebook):
    live_notebook.ok("n, seen = Live(GCounter()), Live(GrowSet())")
    live_notebook.ok(
        "%%parallel for i in range(2)\nimport os\nn.increment()\npid = os.fork()\n"
        "if not pid:\n    n.increment(); n.increment(); seen.add(i); os._exit(0)\nos.waitpid(pid, 0)"
    )
    assert live_notebook.live["n"].total() == 6 and list(live_notebook.live["seen"]) == [0, 1]


def test_a_lattice_that_is_not_live_is_refused_before_anything_runs(live_notebook):
    live_notebook.ok("best = Max(0)")
    live_notebook.run("%%parallel for i in range(2)\nx = i\nbest |= Max(x)")
    assert "line 3 joins into best, a Max" in live_notebook.err and "Live(best)" in live_notebook.err
    live_notebook.ok("%%parallel for i in range(2) -> best\nbest |= Max(i)")
    assert [m.value for m in live_notebook.live["best"]] == [0, 1]


def test_a_lattice_of_the_notebooks_own(live_notebook):
    live_notebook.ok(
        "from kvs.lattices.base import set_field\n@lattice_type('test.longest')\nclass Longest(Lattice):\n"
        "    __slots__ = ('word',)\n    def __init__(self, word=''): set_field(self, 'word', word)\n"
        "    def _join(self, other): return max(self, other, key=lambda s: (len(s.word), s.word))\n"
        "    def body(self): return self.word\n    @classmethod\n    def from_body(cls, body): return cls(body)\n"
        "    def __repr__(self): return f'Longest({self.word})'"
    )
    live_notebook.ok("w = Live(Longest())")
    live_notebook.ok("%%parallel for x in ['a', 'ccc', 'bb']\nw.merge(x)")
    assert live_notebook.live["w"].word == "ccc"


def test_a_result_or_an_item_that_is_a_variable_is_that_object(live_notebook):
    live_notebook.ok("best = Live(Max(0)); other = [best]")
    live_notebook.ok("%%parallel for b in other -> r, same\nsame = b is best\nb.merge(4)\n{'found': b}")
    assert live_notebook.live["same"] == [True]
    assert live_notebook.live["r"][0]["found"] is live_notebook.live["best"]
    live_notebook.ok("%%background\nbest |= 7")
    live_notebook.ok("%wait")
    assert live_notebook.live["best"] is live_notebook.live["other"][0] and live_notebook.live["best"].value == 7


def test_a_join_that_does_not_fit_fails_its_task_alone(live_notebook):
    live_notebook.ok("best = Live(Max(0))")
    error = live_notebook.run(
        "%%parallel for i in range(2) -> r\nimport lambdakernel.live as live\n"
        "if i: live._here.outlet.wrote(best._uid, Min(3))\nelse: import time; time.sleep(0.5); best.merge(2)\ni"
    )
    assert isinstance(error, ParallelError) and "does not join with" in str(error)
    assert live_notebook.live["r"][0] == 0 and len(error.failures) == 1 and live_notebook.live["best"].value == 2


def test_an_interrupt_keeps_what_was_joined(live_notebook):
    from parallel_notebook import interrupted_after

    live_notebook.ok("seen = Live(GrowSet())")
    with interrupted_after(2.0):
        began = time.monotonic()
        error = live_notebook.run("%%parallel for i in range(2)\nimport time\nseen.add(i); time.sleep(60)")
    assert isinstance(error, KeyboardInterrupt) and time.monotonic() - began < 30
    assert list(live_notebook.live["seen"]) == [0, 1]
