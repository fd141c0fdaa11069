"""What the magics show, as text and as HTML, and how they answer bad arguments."""

import os
from types import SimpleNamespace

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lambdakernel.magics import load
from lambdakernel.magics.namespace import choose_epoch, epoch_table, namespace_table, restored_line
from lambdakernel.magics.tables import Table, size
from lambdakernel.magics.workers import worker_table
from lambdakernel.worker.processes import ProcessRow


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (1536, "1.5 KB"), (1024**2 * 200, "200 MB"), (1024**4, "1024 GB")],
)
def test_sizes(nbytes, text):
    assert size(nbytes) == text


def test_a_table_as_text_has_columns_and_as_html_is_escaped():
    table = Table(("name", "n"), [("<b>", "1"), ("x" * 100, "22")], right=(1,), note="two & more")
    lines = repr(table).splitlines()
    assert lines[0] == "name" + " " * 58 + "n".rjust(2) or lines[0].startswith("name ")
    assert lines[2].endswith("...  22") and lines[-1] == "two & more"
    html = table._repr_html_()
    assert "&lt;b&gt;" in html and "two &amp; more" in html and "x" * 100 in html


def row(name, **facts):
    base = {"type": "int", "nbytes": 10, "version": "", "state": "durable", "why": ""}
    return SimpleNamespace(name=name, **{**base, **facts})


def test_the_namespace_is_listed_by_name_with_state_and_reason():
    text = repr(
        namespace_table(
            [
                row("z", version="0:17"),
                row("f", type="TextIOWrapper", state="resident", why="open file"),
            ]
        )
    )
    lines = text.splitlines()
    assert lines[1].split() == ["f", "TextIOWrapper", "10", "B", "resident", "open", "file"]
    assert "0:17" in lines[2]
    assert "No variables." in repr(namespace_table([]))


def test_epochs_are_listed_in_order():
    infos = [SimpleNamespace(number=n, cells=2, names=3, modified_s=0.0, current=n == 2) for n in (2, 1)]
    assert [line.split()[0] for line in repr(epoch_table(infos)).splitlines()] == ["epoch", "1", "2"]


def test_the_epoch_to_restore_is_the_last_but_one_or_the_one_said():
    assert choose_epoch(None, numbered([1, 2, 3])) == 2
    assert choose_epoch("1", numbered([1, 2, 3])) == 1


def numbered(numbers):
    return [SimpleNamespace(number=n, current=n == max(numbers)) for n in numbers]


@pytest.mark.parametrize(
    ("said", "numbers", "says"),
    [(None, [1], "not restarted"), ("3", [1, 2, 3], "There is: 1, 2"), ("x", [1, 2], "'x'")],
)
def test_an_epoch_that_cannot_be_restored_is_a_usage_error_with_the_choice(said, numbers, says):
    with pytest.raises(UsageError, match=says):
        choose_epoch(said, numbered(numbers))


def test_what_came_back_is_said():
    assert restored_line(2, ["b", "a"]) == "Restored 2 variables of epoch 2: a, b"
    assert restored_line(2, []).startswith("Epoch 2 holds no variables")


def test_workers_show_their_memory_and_this_one_its_cells():
    table = worker_table(
        [ProcessRow(7, "front", 1024, "sleeping", 0.1), ProcessRow(8, "worker", 2048, "running", 1.0)], 8, 5
    )
    lines = repr(table).splitlines()
    assert lines[2].split() == ["8", "worker", "2.0", "KB", "running", "1.0", "s", "5"]
    assert lines[-1] == "2 processes, 3.0 KB of memory"


@pytest.fixture
def shell():
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    epoch = SimpleNamespace(number=1, cells=1, names=1, modified_s=0.0, current=True)
    namespace = SimpleNamespace(
        rows=lambda: [row("x")],
        epochs=lambda: [epoch],
    )
    durable = SimpleNamespace(ready=lambda: namespace, session="s", store="/nowhere")
    kernel = SimpleNamespace(parent=SimpleNamespace(params={"front_pid": os.getpid()}), cells_run=0)
    load(shell, durable, kernel)
    yield shell
    InteractiveShell.clear_instance()


def test_every_magic_has_help(shell):
    for kind, name in (
        ("line", "namespace"),
        ("line", "epochs"),
        ("line", "restore"),
        ("line", "workers"),
        ("cell", "parallel"),
    ):
        magic = shell.find_magic(name, kind)
        assert magic is not None and len(magic.__doc__) > 80, name


@pytest.mark.parametrize(
    "line", ["namespace nope", "restore", "restore 99", "epochs extra", "workers extra", "namespace --what"]
)
def test_bad_arguments_are_usage_errors(shell, line):
    name, _, rest = line.partition(" ")
    with pytest.raises(UsageError):
        shell.run_line_magic(name, rest)


def test_the_magics_give_tables(shell):
    assert "x" in repr(shell.run_line_magic("namespace", "x"))
    assert str(os.getpid()) in repr(shell.run_line_magic("workers", ""))
