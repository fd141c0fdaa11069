"""Every setting of lambdakernel, in one place: its name, unit, default and the reason for the default.

A setting comes from, in this order: the environment (`LAMBDAKERNEL_*`), the traitlets configuration that
Jupyter users know (`c.LambdaKernel.<name>` in `ipython_kernel_config.py`, or `--LambdaKernel.<name>=` on the
kernel's command line; see `lambdakernel.worker.config`), the default here.

The front reads this module at start-up, so it imports next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lambdakernel.errors import BadSetting

PREFIX = "LAMBDAKERNEL_"


class Settings(NamedTuple):
    """One kernel's settings; frozen."""

    session: str = ""
    """Name of the session that holds the variables. Empty: `JPY_SESSION_NAME` (the notebook's path, which
    Jupyter Server gives), else a fresh one that ends with the kernel."""

    store: str = ""
    """Path or URL of the store. Empty: `$XDG_DATA_HOME/lambdakernel/store` (`~/.local/share/...`)."""

    durability: str = "process"
    """What a cell's reply promises: `process` survives kill -9 of everything of ours, `disk` a power loss too.
    Default `process`, with the disk following within a second: a flush in every cell costs milliseconds."""

    cold: bool = False
    """Run every cell on a fresh worker. Proves that state really moves; slow, and widgets do not live on."""

    parallel_workers: int = 0
    """Most workers one `%%parallel` uses at a time. 0: as many as there are processors we may use."""

    gb_second_price: float = 0.0
    """Dollars for a GB-second (10**9 bytes of memory for a second), as a cloud bills it: the bar of a fan-out says then
    what its tasks would have cost. 0, the default: workers on this machine cost nothing, and no dollars are shown."""

    idle_s: float = 3600.0
    """Seconds without a request after which an idle kernel gives its worker and zygote back; the variables are in the
    store, and the next cell finds them. Not while a resident value, a widget, a thread or a task lives. 0: never.
    Default an hour: the first cell after that waits about as long as a kernel takes to start."""

    scrub_after_s: float = 2.0
    """Seconds after a cell at which an idle worker looks at every value, in a fork of low priority: for changes that
    no cell was seen to make, and for values that would not come back as they are. 0: never."""

    max_value_bytes: int = 4 << 30
    """Bytes of a variable, with all that it shares structure with, above which it is not stored, but stays in its
    worker. 0: no end. Default 4 GiB: to write more keeps a cell waiting for many seconds, and may fill the disk."""

    hook_deadline_s: float = 60.0
    """Seconds that one call of a value's own code (`__reduce__`, `__getstate__`) may take while a cell is saved; then
    it is stopped, and the variable stays in its worker. 0: no end, but an interrupt ends it. Default a minute: longer
    than a library takes to write out a large model, shorter than a user waits before the kernel is restarted."""

    preload: tuple[str, ...] = (
        "numpy",
        "pandas",
        "matplotlib",
        "matplotlib.pyplot",
        "scipy",
        "sklearn",
        "polars",
        "pyarrow",
    )
    """Modules that the zygote imports once a session has used them, so that the next worker is born with them.
    Only well-kept libraries that are safe to fork after import belong here."""

    shutdown_grace_s: float = 2.0
    """Seconds a worker that was told to end may take; then it is killed. Below the 2.5 s after which Jupyter
    itself starts to signal."""

    boot_deadline_s: float = 60.0
    """Seconds a worker may take from fork to its first message before the front says so and tries again."""


_DEFAULTS = Settings()


def from_env(environ: Mapping[str, str] = os.environ, base: Settings = _DEFAULTS) -> Settings:
    """`base` with every `LAMBDAKERNEL_*` variable of `environ` applied; others keep their value.

    Raises:
        BadSetting: a variable's text does not fit its setting; names it and says what fits.
    """
    found = {f: environ[PREFIX + f.upper()] for f in Settings._fields if PREFIX + f.upper() in environ}
    return base._replace(**{name: parse(name, text, getattr(_DEFAULTS, name)) for name, text in found.items()})


def parse(name: str, text: str, like: Any) -> Any:
    """`text` as a value of the type of `like`.

    Raises:
        BadSetting: it is not one.
    """
    reader = _READERS[type(like)]
    try:
        return reader(text)
    except ValueError:
        raise BadSetting(name, text, _FITS[type(like)]) from None


def _truth(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_READERS: dict[type, Any] = {bool: _truth, int: int, float: float, str: str, tuple: _names}
_FITS = {
    bool: "1 or 0",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "names separated by commas",
}


def default_store(environ: Mapping[str, str] = os.environ) -> str:
    """Where the store is when nobody says: under the user's data directory, never under the notebooks'.

    A missing or unwritable home is not decided here: whoever opens the store says what to do.
    """
    data = environ.get("XDG_DATA_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".local", "share"
    )
    return os.path.join(data, "lambdakernel", "store")


def session_name(settings: Settings, environ: Mapping[str, str], fallback: str) -> str:
    """The name of the session: said, else the notebook's path, else `fallback` (a fresh one)."""
    return settings.session or environ.get("JPY_SESSION_NAME") or fallback
