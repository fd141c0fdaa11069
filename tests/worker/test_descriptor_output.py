"""What processes that a cell started write to its descriptors: shown before the cell's reply, whole, in its cell."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from tests.kernels import Kernel, running


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("store")) as kernel:
        kernel.run("import os, subprocess, sys")
        yield kernel


def test_what_was_written_before_the_end_of_a_cell_comes_before_its_reply(kernel: Kernel) -> None:
    kernel.run("interval = sys.getswitchinterval()\nsys.setswitchinterval(100)")  # the thread that watches is late
    for n in range(40):
        result = kernel.run(f"_ = os.write(1, b'out {n}\\n'), os.write(2, b'err {n}\\n')")
        shown = {m["content"]["name"]: m["content"]["text"] for m in result.messages if m["msg_type"] == "stream"}
        assert shown == {"stdout": f"out {n}\n", "stderr": f"err {n}\n"}
    kernel.run("sys.setswitchinterval(interval)")


def test_characters_of_several_bytes_stay_whole(kernel: Kernel) -> None:
    text = "żółw " * 5000
    result = kernel.run(f"_ = subprocess.run([sys.executable, '-X', 'utf8', '-c', \"print({text!r})\"])")
    assert result.stdout == text + "\n"


def test_a_character_that_comes_in_two_writes_is_one(kernel: Kernel) -> None:
    code = """
        import time
        for byte in 'ż'.encode():
            _ = os.write(1, bytes([byte]))
            time.sleep(0.3)
    """
    assert kernel.run(textwrap.dedent(code)).stdout == "ż"


def test_more_than_a_pipe_holds_is_shown_whole(kernel: Kernel) -> None:
    result = kernel.run("_ = subprocess.run([sys.executable, '-c', 'print(\"x\" * 999_999)'])")
    assert result.stdout == "x" * 999_999 + "\n"


def test_a_descriptor_that_a_cell_closes_leaves_print(kernel: Kernel) -> None:
    result = kernel.run("kept = os.dup(1)\nos.close(1)\nprint('still here')\n_ = os.dup2(kept, 1)\nos.close(kept)")
    assert result.stdout == "still here\n"
    assert kernel.run("_ = os.write(1, b'and again\\n')").stdout == "and again\n"
