"""Results of classes and functions that the body of a `%%parallel` makes itself: they come back usable."""

import pytest

POINT = (
    "class Point:\n    scale = 10\n    def __init__(self, x): self.x = x\n"
    "    def scaled(self): return self.x * self.scale\n"
)


def test_an_instance_comes_back_and_works_and_those_of_all_tasks_have_one_class(notebook):
    notebook.ok(f"%%parallel for i in range(3) -> r\n{POINT}Point(i)")
    r = notebook.live["r"]
    assert [p.scaled() for p in r] == [0, 10, 20]
    assert len({type(p) for p in r}) == 1 and type(r[0]).__name__ == "Point"
    notebook.ok("r[0].scale = 7\nagain = [p.scaled() for p in r]")
    assert notebook.live["again"] == [0, 10, 20]


def test_a_class_that_depends_on_the_item_stays_one_for_each(notebook):
    notebook.ok("%%parallel for i in range(2) -> r\nclass C:\n    v = i\nC()")
    assert [c.v for c in notebook.live["r"]] == [0, 1]
    assert type(notebook.live["r"][0]) is not type(notebook.live["r"][1])


def test_classes_that_know_each_other(notebook):
    body = (
        "import dataclasses, enum\n"
        "class Kind(enum.Enum):\n    A = 1\n    B = 2\n"
        "class Base:\n    def who(self): return type(self).__name__\n"
        "class Node(Base):\n    kind = Kind.B\n    def __init__(self, n): self.child = Node(n - 1) if n else None\n"
        "    def me(self): return super().who()\n"
        "@dataclasses.dataclass\nclass Pair:\n    left: Node\n    right: int = 0\n"
        "Pair(Node(2), i)"
    )
    notebook.ok(f"%%parallel for i in range(2) -> r\n{body}")
    first, second = notebook.live["r"]
    assert first.left.child.child.me() == "Node" and first.left.kind.name == "B"
    assert type(first.left) is type(second.left) and first.left.kind is second.left.kind
    assert first == type(first)(first.left, 0) and second.right == 1


def test_a_class_itself_and_a_function_of_the_body_are_results_too(notebook):
    notebook.ok("base = 100")
    notebook.ok(f"%%parallel for i in range(2) -> Point, f\n{POINT}def f(x): return x + base")
    assert [cls(2).scaled() for cls in notebook.live["Point"]] == [20, 20]
    assert notebook.live["Point"][0] is notebook.live["Point"][1]
    assert notebook.live["f"][1](1) == 101


def test_what_was_made_in_a_function_of_the_body_and_names_that_are_the_same(notebook):
    body = "def make(v):\n    class Local:\n        value = v\n    return Local()\n[make(1), make(2), i]"
    notebook.ok(f"%%parallel for i in range(2) -> r\n{body}")
    assert [[x.value for x in row[:2]] for row in notebook.live["r"]] == [[1, 2], [1, 2]]


def test_a_class_of_the_notebook_that_the_body_defines_anew_leaves_that_of_the_notebook_alone(notebook):
    notebook.ok("class Point:\n    old = True\nmine = Point()")
    notebook.ok(f"%%parallel for i in range(1) -> r\n{POINT}Point(4)")
    assert notebook.live["r"][0].scaled() == 40
    assert notebook.ok("mine.old, type(mine) is Point") == (True, True)


def test_a_whole_cell_in_the_background_binds_its_classes(notebook):
    notebook.ok(f"%%background\n{POINT}p = Point(3)")
    notebook.ok("%wait")
    assert notebook.ok("type(p) is Point, p.scaled()") == (True, 30)
    notebook.ok("class Better(Point):\n    scale = 2\nq = Better(3).scaled()")
    assert notebook.live["q"] == 6


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    from tests.kernels import running

    with running(tmp_path_factory.mktemp("store"), session="classes-test") as kernel:
        yield kernel


def test_such_results_outlive_the_worker(kernel):
    result = kernel.run(f"%%parallel for i in range(2) -> r\n{POINT}Point(i)")
    assert result.status == "ok", result.shown
    kernel.kill_worker()
    assert kernel.value("[p.scaled() for p in r], type(r[0]) is type(r[1])") == ([0, 10], True)
    assert kernel.run("%%parallel for p in r -> again\np.x += 1\np").status == "error"  # the item was changed
    assert kernel.run("%%parallel for p in r -> scaled\np.scaled()").status == "ok"
    assert kernel.value("scaled") == [0, 10]
