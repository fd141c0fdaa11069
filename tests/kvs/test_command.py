"""`python -m kvs`: what it says, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvs
from kvs import Value

ROOT = Path(kvs.__file__).parent.parent


def run(command: str, path: Path, *more: str, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kvs", command, str(path), *more],
        capture_output=True, text=True, timeout=30, cwd=ROOT, env=os.environ | environ,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with kvs.open(tmp_path / "store").space("a \x1b[31mname").replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n, (replica.put_blob(b"%d" % n * 5000),)), b"b": Value(b"1")})
    return tmp_path / "store"


def test_a_whole_store_is_said_to_be_whole(path: Path) -> None:
    assert run("check", path) == (0, "1 spaces, 0 damaged records\n", "")


def test_damage_is_named_and_the_exit_code_says_so(path: Path) -> None:
    blobs = sorted(p for p in path.rglob("blobs/*/*") if p.is_file())
    os.truncate(blobs[0], 10)
    code, out, _ = run("check", path)
    assert code == 1 and str(blobs[0]) in out and "1 damaged records" in out


def test_a_log_that_cannot_be_opened_is_named(path: Path) -> None:
    (log,) = path.rglob("log.sqlite")
    log.write_bytes(b"not a database" * 1000)
    for command in ("check", "stats", "gc"):
        code, out, _ = run(command, path)
        assert code == 1 and str(log) in out, command


def test_repair_moves_damage_aside_and_forget_makes_the_store_whole(path: Path) -> None:
    (log,) = path.rglob("log.sqlite")
    log.write_bytes(log.read_bytes()[: 2 << 14])  # its entries are gone
    code, out, err = run("repair", path)
    assert (code, err) == (1, "") and "lost: a key" in out and "written anew" in out and "repair --forget" in out
    assert "\x1b" not in out and any(path.rglob("quarantine/*/lane-0/log.sqlite"))
    assert run("check", path)[0] == 1
    code, out, _ = run("repair", path, "--forget")
    assert code == 0 and "forgotten" in out
    assert run("check", path) == (0, "1 spaces, 0 damaged records\n", "")
    assert run("repair", path) == (0, "1 spaces, 0 repairs, 0 left\n", "")


def test_a_space_in_use_is_not_repaired_and_named(path: Path) -> None:
    with kvs.open(path).space("a \x1b[31mname").replica():
        code, out, _ = run("repair", path)
    assert code == 1 and f"held by process {os.getpid()}" in out


def test_a_damaged_space_name_is_named_and_not_repaired(path: Path) -> None:
    (name,) = path.rglob("name")
    name.write_bytes(b"another")
    for command in ("check", "stats", "gc", "repair"):
        code, out, _ = run(command, path)
        assert code == 1 and "its name is another space's" in out, command


def test_stats_show_each_space_and_no_escape_sequence(path: Path) -> None:
    code, out, _ = run("stats", path)
    first, second = out.splitlines()
    assert code == 0 and "2 keys, 1 lanes (0 held)" in first and "\x1b" not in out
    assert first.startswith("a \\x1b[31mname: ") and second.startswith("a \\x1b[31mname: ")
    assert "6 versions, 5002 bytes live, 10004 bytes superseded" in second


def test_gc_frees_what_the_settings_do_not_retain(path: Path) -> None:
    assert run("gc", path)[1].startswith("0 old versions dropped, 0 bytes of blobs freed, ")
    for blob in path.rglob("blobs/*/*"):
        os.utime(blob, (1, 1))
    left = path.parent / "store.key-123-abc"  # of a maker that was killed
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    code, out, _ = run("gc", path, KVS_RETAIN_BYTES="0", KVS_RETAIN_S="0")
    assert code == 0 and out.startswith("4 old versions dropped, 10000 bytes of blobs freed, ") and not left.exists()
    assert run("check", path)[0] == 0
    with kvs.open(path).space("a \x1b[31mname").reader() as reader:
        assert bytes(reader.open_blob(reader.get(b"a")[0].value.blobs[0])) == b"2" * 5000


def test_export_and_import_carry_a_store(path: Path, tmp_path: Path) -> None:
    archive, target = tmp_path / "archive", tmp_path / "target"
    code, out, _ = run("export", path, str(archive))
    assert code == 0 and out.startswith("1 spaces, 3 commits, ") and f"{path}.key" in out
    code, out, err = run("import", target, str(archive), "--key", f"{path}.key")
    assert (code, err) == (0, "") and "1 spaces imported" in out
    assert run("check", target)[0] == 0
    assert run("import", target, str(tmp_path / "nothing"), "--trust")[0] == 2


def test_a_command_that_does_not_exist_or_lacks_its_path_says_how_it_is_used(path: Path) -> None:
    for command, *more in (("mend",), ("export",), ("check", "--hard")):
        code, _, err = run(command, path, *more)
        assert code == 2 and "usage: python -m kvs" in err and "Traceback" not in err


def test_what_is_no_store_is_refused_and_not_created(tmp_path: Path) -> None:
    code, out, err = run("check", tmp_path / "nothing")
    assert code == 2 and out == "" and "not a store" in err and list(tmp_path.iterdir()) == []


def test_a_setting_that_is_no_number_is_named(path: Path) -> None:
    code, _, err = run("gc", path, KVS_RETAIN_BYTES="much")
    assert code == 2 and "much" in err and "Traceback" not in err
