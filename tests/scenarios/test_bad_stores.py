"""A store that is corrupt, foreign, read-only, full or gone: a clear error in the cell, and the kernel lives on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, Result, running

SESSION = "s"


def is_clear(result: Result) -> None:
    """An error that names the place and ends with what to do; no traceback of ours."""
    assert result.status == "error", result.shown
    assert len(result.reply["traceback"]) < 6, result.reply["traceback"]
    assert len(result.evalue) > 30
    assert ".py" not in "\n".join(result.reply["traceback"])


def is_alive(kernel: Kernel) -> None:
    """It answers what needs no namespace."""
    kernel.client.raw.complete("zi", 2)
    assert "zip" in kernel.client.raw.get_shell_msg(timeout=20)["content"]["matches"]


def test_a_file_in_the_stores_place_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_text("something of the user's")
    with running(path, session=SESSION) as kernel:
        result = kernel.run("x = 1")
        is_clear(result)
        assert str(path) in result.evalue
        is_alive(kernel)
        assert path.read_text() == "something of the user's"
        path.unlink()
        assert kernel.run("x = 1").status == "ok"
        kernel.kill_worker()
        assert kernel.value("x") == 1


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "holiday.jpg").write_bytes(b"jpg")
    with running(path, session=SESSION) as kernel:
        result = kernel.run("x = 1")
        is_clear(result)
        assert str(path) in result.evalue
        assert [p.name for p in path.iterdir()] == ["holiday.jpg"]
        is_alive(kernel)


def test_a_store_of_a_newer_format_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as kernel:
        kernel.run("x = 1")
        kernel.shutdown()
    (path / "FORMAT").write_text("lambdakernel store 99\n")
    before = snapshot(path)
    with running(path, session=SESSION) as kernel:
        is_clear(kernel.run("x"))
        is_alive(kernel)
    assert snapshot(path) == before


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_ruined_log_is_a_clear_error_and_nothing_of_it_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as kernel:
        kernel.run("x = 1")
        kernel.shutdown()
    logs = list(path.rglob("log.sqlite"))
    assert logs
    for log in logs:
        log.write_bytes(b"\x00garbage" * 2000)
    with running(path, session=SESSION) as kernel:
        result = kernel.run("x")
        is_clear(result)
        assert "damaged" in result.evalue or "not a" in result.evalue
        is_alive(kernel)
    assert any(log.read_bytes().startswith(b"\x00garbage") for log in path.rglob("log.sqlite*"))


def test_one_damaged_blob_costs_its_variable_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as kernel:
        kernel.run("import numpy as np; big = np.arange(500_000); small = 7")
        kernel.kill_worker()
        blobs = [p for p in path.rglob("blobs/**/*") if p.is_file()]
        assert blobs
        for blob in blobs:
            os.chmod(blob, 0o600)
            blob.write_bytes(blob.read_bytes()[:1000])
        result = kernel.run("big.sum()")
        is_clear(result)
        assert "big" in result.evalue
        assert kernel.value("small") == 7
        assert kernel.run("big = 1").status == "ok"
        assert kernel.value("big") == 1


def test_a_store_deleted_while_the_kernel_runs_loses_no_live_variable(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as kernel:
        kernel.run("x = [1]; big = b'1' * 300_000")
        shutil.rmtree(path)
        for n in (2, 3):
            result = kernel.run(f"x.append({n})")
            assert result.status == "ok" or result.ename == "NotSaved", result.shown
        is_alive(kernel)
        shown = kernel.run("print(x, len(big))")
        assert shown.stdout == "[1, 2, 3] 300000\n"


def test_after_the_store_was_deleted_a_cell_is_durable_again_or_says_that_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as kernel:
        kernel.run("x = [1]")
        shutil.rmtree(path)
        promised = kernel.run("x.append(2)").status == "ok"
        kernel.kill_worker()
        seen = kernel.run("print(x)")
        assert not promised or seen.stdout == "[1, 2]\n", f"a promise was broken: {seen.shown}"


@pytest.mark.parametrize("where", ["/proc/no/store", "/dev/null/store", "/sys/store"])
def test_a_place_where_nothing_can_be_made_is_a_clear_error(where: str) -> None:
    with running(where, session=SESSION) as kernel:
        result = kernel.run("x = 1")
        is_clear(result)
        assert where.split("/")[1] in result.evalue
        is_alive(kernel)


def test_a_missing_home_is_a_clear_error_with_the_remedy(tmp_path: Path) -> None:
    env = {"HOME": "/proc/no/home", "IPYTHONDIR": str(tmp_path / "ipython")}
    with running(tmp_path, session=SESSION, env=env, unset=("LAMBDAKERNEL_STORE", "XDG_DATA_HOME")) as kernel:
        result = kernel.run("x = 1")
        is_clear(result)
        assert "/proc/no/home" in result.evalue
        assert "Choose a directory" in result.evalue
        is_alive(kernel)


# -- real file systems, full and read-only


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of our own."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root with CAP_SYS_ADMIN")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_a_clear_error_and_what_was_saved_stays(small_disk: Path) -> None:
    with running(small_disk / "store", session=SESSION) as kernel:
        assert kernel.run("x = 1").status == "ok"
        result = kernel.run("import os; big = os.urandom(8_000_000)")
        is_clear(result)
        assert result.ename == "NotSaved"
        assert "no room" in result.evalue
        assert kernel.run("len(big)").value == "8000000"
        assert kernel.run("del big; x = 2").status == "ok"
        kernel.kill_worker()
        assert kernel.value("x") == 2


def test_a_read_only_store_is_a_clear_error_and_works_once_it_is_writable(small_disk: Path) -> None:
    with running(small_disk / "store", session=SESSION) as kernel:
        assert kernel.run("x = 1").status == "ok"
        kernel.shutdown()
    remount(small_disk, "ro")
    with running(small_disk / "store", session=SESSION) as kernel:
        result = kernel.run("x")
        is_clear(result)
        assert "store" in result.evalue
        is_alive(kernel)
        remount(small_disk, "rw")
        assert kernel.value("x") == 1
        assert kernel.run("x = 3").status == "ok"
        kernel.kill_worker()
        assert kernel.value("x") == 3


def remount(path: Path, mode: str) -> None:
    """Make the file system, which is ours alone, read-only or writable."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True, capture_output=True)


# -- two kernels, one session


def test_two_kernels_on_one_session_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running(path, session=SESSION) as one, running(path, session=SESSION) as two:
        results = [one.run("from_one = 1"), two.run("from_two = 2")]
        for result in results:
            if result.status != "ok":
                is_clear(result)
        accepted = {f"from_{name}" for name, r in zip(("one", "two"), results, strict=True) if r.status == "ok"}
        assert accepted
        one.kill_worker()
        two.kill_worker()
        for name in accepted:
            kernel = one if name == "from_one" else two
            assert kernel.run(name).value is not None
        one.shutdown()
        two.shutdown()
    with running(path, session=SESSION) as after:
        assert accepted <= set(after.value("[n for n in globals() if n.startswith('from_')]"))
