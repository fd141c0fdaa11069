"""The connection file: what is read from it, and one clear error for each way in which it can be bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.errors import BadConnectionFile
from lambdakernel.front.app import connection_argument, main, make_runtime_directory
from lambdakernel.front.connection import read

GOOD: dict[str, Any] = {
    "transport": "tcp",
    "ip": "127.0.0.1",
    "key": "k1",
    "signature_scheme": "hmac-sha256",
    **{f"{channel}_port": 50000 + at for at, channel in enumerate(("shell", "iopub", "stdin", "control", "hb"))},
}


def written(folder: Path, said: object) -> str:
    path = folder / "connection.json"
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    return str(path)


def test_tcp_and_ipc_give_jupyters_addresses(tmp_path: Path) -> None:
    assert read(written(tmp_path, GOOD)).endpoint("control") == "tcp://127.0.0.1:50003"
    ipc = {**GOOD, "transport": "ipc", "ip": "/tmp/k", "shell_port": 1}
    assert read(written(tmp_path, ipc)).endpoint("shell") == "ipc:///tmp/k-1"


def test_the_key_and_the_curve_keys_are_bytes(tmp_path: Path) -> None:
    plain = read(written(tmp_path, GOOD))
    assert (plain.key, plain.curve) == (b"k1", None)
    keys = {"curve_publickey": "p" * 40, "curve_secretkey": "s" * 40}
    assert read(written(tmp_path, GOOD | keys)).curve == (b"p" * 40, b"s" * 40)


def test_transport_and_key_may_be_left_out(tmp_path: Path) -> None:
    said = {k: v for k, v in GOOD.items() if k not in {"transport", "key"}}
    connection = read(written(tmp_path, said))
    assert (connection.transport, connection.key) == ("tcp", b"")


@pytest.mark.parametrize("lacking", ["ip", "shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"])
def test_a_lacking_field_is_named(tmp_path: Path, lacking: str) -> None:
    path = written(tmp_path, {k: v for k, v in GOOD.items() if k != lacking})
    with pytest.raises(BadConnectionFile, match=lacking) as error:
        read(path)
    assert path in str(error.value)
    assert "Start the kernel again" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"text"', "null", json.dumps(GOOD | {"hb_port": "many"})])
def test_what_is_no_connection_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConnectionFile, match="not a connection file"):
        read(written(tmp_path, text))


def test_bytes_that_are_no_text_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "connection.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BadConnectionFile, match="not a connection file"):
        read(str(path))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConnectionFile, match="No such file"):
        read(str(tmp_path / "gone.json"))


def test_a_folder_is_no_connection_file(tmp_path: Path) -> None:
    with pytest.raises(BadConnectionFile, match="Is a directory"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-f", "c.json"], ("c.json", [])),
        (["-f=c.json", "--debug"], ("c.json", ["--debug"])),
        (["--f=c.json"], ("c.json", [])),
        (["--LambdaKernel.cold=True", "-f", "c.json", "x"], ("c.json", ["--LambdaKernel.cold=True", "x"])),
        ([], ("", [])),
        (["-f"], ("", ["-f"])),
    ],
)
def test_the_connection_argument_is_found_and_the_rest_goes_to_the_workers(
    argv: list[str], expected: tuple[str, list[str]]
) -> None:
    assert connection_argument(argv) == expected


def test_a_kernel_without_a_connection_file_says_how_it_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_kernel_whose_connection_file_is_gone_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-f", str(tmp_path / "gone.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_runtime_directory_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        path = Path(make_runtime_directory())
        assert path.parent == Path(base)
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_runtime_base_too_long_for_sockets_or_not_writable_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("long" * 20)))
        monkeypatch.setenv("TMPDIR", base + "/missing")
        path = Path(make_runtime_directory())
        try:
            assert path.parent == Path("/tmp")
        finally:
            path.rmdir()
