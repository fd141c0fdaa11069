"""Settings from the environment, from Jupyter's configuration, and from the kernel's command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from traitlets.config import Application, Config

from lambdakernel.errors import BadSetting
from lambdakernel.settings import PREFIX, Settings, default_store, from_env, session_name
from lambdakernel.worker.config import LambdaKernel, settings_of
from tests.kernels import running


def test_every_setting_is_a_trait_with_the_same_default() -> None:
    traits = LambdaKernel.class_own_traits()
    assert set(traits) == set(Settings._fields)
    values = LambdaKernel()
    for name, default in Settings()._asdict().items():
        value = getattr(values, name)
        assert (tuple(value) if isinstance(value, list) else value) == default
        assert type(value) is type(default) or isinstance(value, list)


def test_the_environment_wins_over_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDAKERNEL_DURABILITY", "process")
    app = Application(config=Config(LambdaKernel=Config(durability="disk", idle_s=7.0, preload=["numpy"])))
    settings = settings_of(app)
    assert (settings.durability, settings.idle_s, settings.preload) == ("process", 7.0, ("numpy",))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("cold", "1", True),
        ("cold", "off", False),
        ("cold", "", False),
        ("idle_s", "2.5", 2.5),
        ("parallel_workers", "3", 3),
        ("preload", "numpy, pandas ,", ("numpy", "pandas")),
        ("preload", "", ()),
        ("store", "/x", "/x"),
    ],
)
def test_a_variable_is_read_as_its_settings_type(name: str, text: str, value: object) -> None:
    assert getattr(from_env({PREFIX + name.upper(): text}), name) == value


@pytest.mark.parametrize(("name", "text"), [("cold", "maybe"), ("idle_s", "soon"), ("parallel_workers", "1.5")])
def test_a_variable_that_does_not_fit_is_named_with_what_fits(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=f"LAMBDAKERNEL_{name.upper()}") as error:
        from_env({PREFIX + name.upper(): text})
    assert repr(text) in str(error.value)


def test_the_sessions_name_is_said_or_the_notebooks_or_fresh() -> None:
    assert session_name(Settings(session="mine"), {"JPY_SESSION_NAME": "n.ipynb"}, "fresh") == "mine"
    assert session_name(Settings(), {"JPY_SESSION_NAME": "n.ipynb"}, "fresh") == "n.ipynb"
    assert session_name(Settings(), {}, "fresh") == "fresh"


def test_the_default_store_is_under_the_users_data() -> None:
    assert default_store({"XDG_DATA_HOME": "/data", "HOME": "/home/a"}) == "/data/lambdakernel/store"
    assert default_store({"HOME": "/home/a"}) == "/home/a/.local/share/lambdakernel/store"


def test_a_kernel_started_with_a_setting_that_does_not_fit_says_so(tmp_path: Path) -> None:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="lambdakernel")
    errors = tmp_path / "errors"
    with errors.open("w") as log, pytest.raises(RuntimeError, match="died"):
        running(tmp_path / "store", env={"LAMBDAKERNEL_IDLE_S": "soon"}, manager=manager, stderr=log).__enter__()
    assert "LAMBDAKERNEL_IDLE_S" in errors.read_text()
    assert errors.read_text().count("\n") <= 2
    manager.cleanup_resources()


def test_an_idle_kernel_gives_its_processes_back_and_finds_its_variables_again(tmp_path: Path) -> None:
    from tests.kernels import eventually

    with running(tmp_path / "store", env={"LAMBDAKERNEL_IDLE_S": "0.5"}) as kernel:
        kernel.run("x = [1, 2]")
        eventually(lambda: len(kernel.processes()) == 1, 15.0, "only the front left")
        assert kernel.value("x") == [1, 2]
        assert len(kernel.pids("worker")) == 1


def test_a_kernel_that_holds_a_resident_does_not_give_its_worker_back(tmp_path: Path) -> None:
    import time

    with running(tmp_path / "store", env={"LAMBDAKERNEL_IDLE_S": "0.5"}) as kernel:
        kernel.run("squares = (n * n for n in range(10))")
        worker = kernel.worker()
        time.sleep(1.5)
        assert kernel.pids("worker") == [worker]
        assert kernel.value("next(squares)") == 0
