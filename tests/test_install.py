"""The command line and the kernelspec: what Jupyter finds after `pip install .`, `install`, `uninstall`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

import lambdakernel
from lambdakernel.install import main, resources

ROOT = Path(__file__).resolve().parent.parent
LOGOS = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}


@pytest.fixture(autouse=True)
def _own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Jupyter that knows no directory but this test's, so that no test removes a kernel that someone uses."""
    monkeypatch.setattr("jupyter_core.paths.ENV_JUPYTER_PATH", [])
    monkeypatch.setattr("jupyter_core.paths.SYSTEM_JUPYTER_PATH", [])
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix" / "share" / "jupyter"))


def spec_in(directory: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((directory / "kernel.json").read_text())
    return spec


# -- the kernelspec


def test_the_packaged_spec_says_what_jupyterlab_asks() -> None:
    spec = spec_in(resources())
    assert spec["argv"] == ["python", "-m", "lambdakernel", "-f", "{connection_file}"]
    assert spec["display_name"] == "Lambda (serverless)"
    assert spec["language"] == "python"
    assert spec["interrupt_mode"] == "signal"
    assert spec["kernel_protocol_version"] == "5.5"
    assert spec["metadata"] == {"debugger": True, "supported_encryption": ["curve"]}
    assert spec["env"] == {"PYTHONHASHSEED": "0"}


@pytest.mark.parametrize("side", [32, 64])
def test_a_logo_is_a_png_of_its_size(side: int) -> None:
    data = (resources() / f"logo-{side}x{side}.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (side, side)
    assert len(data) < 8192


# -- install and uninstall


@pytest.mark.parametrize("where", ["--user", "--prefix"])
def test_install_then_uninstall_leaves_nothing(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--user"] if where == "--user" else ["--prefix", str(tmp_path / "prefix")]
    base = tmp_path / "user" if where == "--user" else tmp_path / "prefix" / "share" / "jupyter"
    directory = base / "kernels" / "lambdakernel"
    assert main(["install", *place]) == 0
    assert str(directory) in capsys.readouterr().out
    assert {path.name for path in directory.iterdir()} == LOGOS | {"kernel.json"}
    assert spec_in(directory)["argv"][0] == sys.executable
    assert KernelSpecManager().get_kernel_spec("lambdakernel").display_name == "Lambda (serverless)"
    assert main(["uninstall", *place]) == 0
    assert not directory.exists()


def test_uninstall_takes_the_one_that_was_named(tmp_path: Path) -> None:
    ours = tmp_path / "prefix" / "share" / "jupyter" / "kernels" / "lambdakernel"
    users = tmp_path / "user" / "kernels" / "lambdakernel"
    assert main(["install", "--user"]) == main(["install", "--prefix", str(tmp_path / "prefix")]) == 0
    assert main(["uninstall", "--user"]) == 0
    assert (ours.exists(), users.exists()) == (True, False)
    assert main(["uninstall", "--user"]) == 1
    assert main(["uninstall"]) == 0
    assert not ours.exists()


def test_name_and_display_name_make_a_kernel_of_its_own(tmp_path: Path) -> None:
    assert main(["install", "--user", "--name", "second", "--display-name", "Second"]) == 0
    assert spec_in(tmp_path / "user" / "kernels" / "second")["display_name"] == "Second"
    assert main(["uninstall", "--name", "second"]) == 0


def test_installing_twice_replaces(tmp_path: Path) -> None:
    directory = tmp_path / "user" / "kernels" / "lambdakernel"
    assert main(["install", "--user"]) == 0
    (directory / "kernel.json").write_text("{}")
    assert main(["install", "--user"]) == 0
    assert "argv" in spec_in(directory)


def test_uninstalling_what_is_not_there_says_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--user", "--name", "present"]) == 0
    assert main(["uninstall", "--name", "absent"]) == 1
    said = capsys.readouterr().err
    assert "absent" in said
    assert "present" in said


def test_uninstall_leaves_the_kernels_of_others_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "user" / "kernels" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "kernel.json").write_text('{"argv": ["r"], "display_name": "R", "language": "r"}')
    assert main(["uninstall", "--name", "theirs"]) == 1
    assert "jupyter kernelspec remove theirs" in capsys.readouterr().err
    assert (theirs / "kernel.json").exists()


def test_a_place_that_cannot_be_written_names_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["install", "--prefix", str(tmp_path / "file")]) == 1
    assert "--user" in capsys.readouterr().err


def test_denied_by_the_system_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    """Not even root may make a directory there."""
    command = [sys.executable, "-m", "lambdakernel", "install", "--prefix", "/proc/1/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert "--user" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--user", "--name", "a/b"]) == 1
    assert "kernel name" in capsys.readouterr().err


# -- the command line


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out.strip() == f"lambdakernel {project['version']}"
    assert version("lambdakernel") == lambdakernel.__version__ == project["version"]


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "install" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["install", "--help"], ["uninstall", "--help"]])
def test_the_module_runs_the_command_line(words: list[str]) -> None:
    command = [sys.executable, "-m", "lambdakernel", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "usage: lambdakernel" in done.stdout


def test_starting_a_kernel_does_not_load_the_command_line() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "lambdakernel", "-f", "/nonexistent/connection.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "/nonexistent/connection.json" in done.stderr
    assert "lambdakernel.front.app" in done.stderr
    assert "lambdakernel.install" not in done.stderr
    assert "argparse" not in done.stderr


# -- the wheel


def test_a_wheel_places_the_kernelspec_where_jupyter_looks(tmp_path: Path) -> None:
    """Built as `pip install .` builds it, which then unpacks `*.data/data/` into the environment."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, timeout=100, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = f"lambdakernel-{lambdakernel.__version__}.data/data/share/jupyter/kernels/lambdakernel"
    assert {f"{data}/{name}" for name in LOGOS | {"kernel.json"}} <= names
    assert {"lambdakernel/front/app.py", "kvs/__init__.py", "lambdakernel/kernelspec/kernel.json"} <= names
    assert not [name for name in names if name.startswith(("tests/", "notebooks/", "docs/"))]


def test_this_environment_finds_the_kernel() -> None:
    """As a fresh process sees it: `make` and `pip install -e .` place the kernelspec too."""
    code = "from jupyter_client.kernelspec import find_kernel_specs as f; print(f()['lambdakernel'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert os.path.realpath(done.stdout.strip()).startswith(os.path.realpath(sys.prefix))
