"""The message conformance suite that every kernel is held to, with every optional sample filled in."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import jupyter_kernel_test  # type: ignore[import-untyped]
import pytest

from tests.kernels import NAME


@pytest.fixture(scope="module", autouse=True)
def _own_store() -> Any:
    """Kernels of this module write to a store of their own, not to the user's."""
    with tempfile.TemporaryDirectory(prefix="lk-") as folder:
        settings = {"LAMBDAKERNEL_STORE": str(Path(folder) / "store"), "IPYTHONDIR": str(Path(folder) / "ipython")}
        with mock.patch.dict(os.environ, settings):
            yield


class TestMessages(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """`test_stdin` and others the suite lacks are in `tests/scenarios`."""

    kernel_name = NAME
    language_name = "python"
    file_extension = ".py"

    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import tempfil", "matches": {"tempfile"}},
    ]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q", "print 'hello'"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('on purpose')"
    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {"code": "from IPython.display import HTML; HTML('<b>bold</b>')", "mime": "text/html"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    # The suite's "range" expects that rows of the running session carry its number. IPython numbers them 0, so that
    # ipykernel fails it too; `test_history_range` below holds us to what IPython does.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    def test_history_range(self) -> None:
        self.flush_channels()
        reply, _ = self.execute_helper("1 + 2 + 4")
        number = reply["content"]["execution_count"]
        self.flush_channels()
        self.kc.history(raw=True, output=True, hist_access_type="range", session=0, start=number, stop=number + 1)
        found = self.kc.get_shell_msg(timeout=10)["content"]["history"]
        self.assertEqual(found, [[0, number, ["1 + 2 + 4", "7"]]])


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    kernel_name = NAME
    support_iopub_welcome = True


def test_no_optional_sample_is_left_out() -> None:
    """A new version of the suite with a new sample must not shrink our claim silently."""
    samples = {n for n in vars(jupyter_kernel_test.KernelTests) if n.endswith(("samples", "_pattern"))}
    samples |= {n for n in vars(jupyter_kernel_test.KernelTests) if n.startswith("code_")}
    assert samples
    left_out = {n for n in samples if not vars(TestMessages).get(n)}
    assert left_out == set()
