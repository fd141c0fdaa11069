"""What tasks display: figures, tables, HTML; grouped, folded, bounded. Real forked tasks, a shell that captures."""

import pytest
from IPython.utils.capture import capture_output

from lambdakernel.parallel import ParallelError, displays, rich
from lambdakernel.parallel.output import Grouped, Output
from lambdakernel.parallel.rich import Display


def shown(notebook, source):
    """The bundles that a cell displayed beside the bar."""
    with capture_output() as captured:
        result = notebook.shell.run_cell(source, store_history=True)
    notebook.out = captured.stdout
    error = result.error_before_exec or result.error_in_exec
    assert error is None, f"{error!r}"
    return [o.data for o in captured.outputs if "progressbar" not in o.data.get("text/html", "")]


def test_a_display_is_folded_under_its_task_with_what_was_printed_around_it(notebook):
    body = "from IPython.display import HTML\nprint('before', i)\ndisplay(HTML(f'<b>{i}</b>'))\nprint('after', i)"
    first, second = shown(notebook, f"%%parallel for i in range(2)\n{body}")
    html = first["text/html"]
    assert html.startswith("<details open><summary>task 0 (i=0)</summary>")
    assert html.index("before 0") < html.index("<b>0</b>") < html.index("after 0")
    assert first["text/plain"].splitlines()[:2] == ["task 0 (i=0)", "before 0"]
    assert "<b>1</b>" in second["text/html"]
    assert "before" not in notebook.out


def test_a_figure_that_the_body_leaves_open_is_shown_as_an_image(notebook):
    pytest.importorskip("matplotlib")
    body = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(2, 2))\nax.plot([1, i])"
    bundles = shown(notebook, f"%%parallel for i in range(2)\n{body};")
    assert len(bundles) == 2
    assert all("data:image/png;base64,iVBOR" in b["text/html"] for b in bundles)
    assert "<Figure size" in bundles[0]["text/plain"]


def test_a_figure_that_is_shown_or_displayed_comes_once(notebook):
    pytest.importorskip("matplotlib")
    body = "import matplotlib.pyplot as plt\nfig, _ = plt.subplots(figsize=(1, 1))\n"
    for how in ("plt.show()", "display(fig)\nplt.close(fig)"):
        (bundle,) = shown(notebook, f"%%parallel for i in range(1)\n{body}{how}")
        assert bundle["text/html"].count("<img") == 1


def test_the_value_of_the_last_expression_is_shown_where_nothing_collects_it(notebook):
    pytest.importorskip("pandas")
    notebook.ok("import pandas as pd\ndf = pd.DataFrame({'x': [1, 2]})")
    (bundle,) = shown(notebook, "%%parallel for i in range(1)\ndf.head(1)")
    assert "<table" in bundle["text/html"]
    assert shown(notebook, "%%parallel for i in range(1) -> r\ndf.head(1)") == []
    assert shown(notebook, "%%parallel for i in range(1)\ndf.head(1);  # quiet") == []


def test_values_that_some_tasks_show_are_all_there_and_the_others_go_on(notebook):
    """A process that shows something takes no other task, though it may have met it."""
    notebook.ok("import time")
    body = "print('ran', i)\ntime.sleep(0.002 * (i % 5))\n{'value': i} if i % 3 == 0 else None"
    for _ in range(5):
        assert shown(notebook, f"%%parallel --workers 2 for i in range(24)\n{body}") == []
        expected = [f"task {i} (i={i})\nran {i}\n" + ("" if i % 3 else f"{{'value': {i}}}\n") for i in range(24)]
        assert notebook.out == "".join(expected)


def test_a_value_that_is_text_alone_is_printed(notebook):
    assert shown(notebook, "%%parallel for i in range(2)\ni + 40") == []
    assert notebook.out == "task 0 (i=0)\n40\ntask 1 (i=1)\n41\n"


def test_an_updated_display_takes_the_place_of_the_first(notebook):
    body = "from IPython.display import HTML\nh = display(HTML('<i>old</i>'), display_id=True)\nh.update(HTML('new'))"
    (bundle,) = shown(notebook, f"%%parallel for i in range(1)\n{body};")
    assert "new" in bundle["text/html"] and "old" not in bundle["text/html"]


def test_cleared_output_is_gone(notebook):
    body = "from IPython.display import clear_output\nfor n in range(3):\n    clear_output()\n    print('n =', n)"
    assert shown(notebook, f"%%parallel for i in range(1)\n{body}") == []
    assert "n = 2" in notebook.out and "n = 1" not in notebook.out


def test_what_a_lost_task_displayed_is_shown(notebook):
    with capture_output() as captured:
        result = notebook.shell.run_cell(
            "%%parallel for i in range(1)\nimport os\nfrom IPython.display import HTML\ndisplay(HTML('last'))\n"
            "os.kill(os.getpid(), 9)"
        )
    assert isinstance(result.error_in_exec, ParallelError)
    assert any("last" in o.data.get("text/html", "") for o in captured.outputs)


def test_a_flood_of_displays_is_cut_to_text(notebook):
    body = "from IPython.display import HTML\nfor n in range(9): display(HTML('x' * 1_000_000))"
    (bundle,) = shown(notebook, f"%%parallel for i in range(1)\n{body}")
    assert displays.TASK_NBYTES - 1_000_000 < len(bundle["text/html"]) < displays.TASK_NBYTES + 100_000
    assert bundle["text/plain"].count("not shown") == 9 - displays.TASK_NBYTES // 1_000_000


@pytest.mark.parametrize("before", ["", "from IPython import get_ipython\n"])
@pytest.mark.parametrize("call", ["system('true')", "run_cell_magic('parallel', 'for j in [1]', 'j')"])
def test_a_task_has_no_shell_for_magics_and_says_so(notebook, call, before):
    notebook.run(f"%%parallel for i in range(2) -> r\n{before}get_ipython().{call}")
    assert notebook.live["r"][0].ename == "NoShell" and "move the line" in notebook.live["r"][0].evalue


# -- how it looks


def test_what_only_a_front_end_renders_stands_between_folds():
    plot = Display({"application/vnd.plotly.v1+json": {"data": []}, "text/plain": "Figure"}, {"a": 1})
    found = list(rich.grouped("task 0", [("stdout", b"a\n"), plot, ("stderr", b"b\n")]))
    assert [set(data) for data, _ in found] == [
        {"text/plain", "text/html"},
        {"application/vnd.plotly.v1+json", "text/plain"},
        {"text/plain", "text/html"},
    ]
    assert found[1][1] == {"a": 1} and "task 0, continued" in found[2][0]["text/html"]


def test_text_in_a_fold_is_escaped_and_has_no_escapes_of_terminals():
    ((data, _),) = rich.grouped("t <1>", [("stdout", b"\x1b[31m<script>\x1b[0m"), Display({"text/html": "<p>"})])
    assert "<pre>&lt;script&gt;</pre>" in data["text/html"] and "t &lt;1&gt;" in data["text/html"]


def test_a_drawing_and_an_image_with_a_size():
    drawing = Display({"image/svg+xml": "<svg/>"})
    image = Display({"image/png": "aGk=\n"}, {"image/png": {"width": 10, "height": 5.0}})
    ((data, _),) = rich.grouped("t", [drawing, image])
    assert "data:image/svg+xml;base64,PHN2Zy8+" in data["text/html"]
    assert 'src="data:image/png;base64,aGk=" width="10" height="5"' in data["text/html"]


def test_a_widget_is_its_text():
    kind = "application/vnd.jupyter.widget-view+json"
    ((data, _),) = rich.grouped("t", [Display({kind: {"model_id": "1"}, "text/plain": "IntSlider()"})])
    assert "IntSlider()" in data["text/html"]


def test_displays_of_a_cell_are_bounded_together():
    found = []
    output = Output()
    output.show(Display({"text/html": "x" * 1000, "text/plain": "a table"}))
    grouped = Grouped(lambda *_: None, str, lambda data, _: found.append(data), left_to_display=1500)
    grouped.ended(0, output)
    grouped.ended(1, output)
    assert "xxx" in found[0]["text/html"] and "xxx" not in found[1]["text/html"] and "a table" in found[1]["text/html"]
