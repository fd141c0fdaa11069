"""Settings of kvs, each with its unit, its default and the reason for it; read from `KVS_*` here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple


class Settings(NamedTuple):
    """Frozen settings of one store."""

    durability: str = "process"
    """What `publish` promises when it returns: `process` (survives kill -9 of everything), `disk` (power loss too)."""

    inline_limit_bytes: int = 65536
    """Payloads up to this size live in the lane's log, larger ones in a blob file: below it a file costs more."""

    retain_bytes: int = 1 << 30
    """Bytes of superseded versions that a space keeps for time travel before `collect` drops the oldest."""

    retain_s: float = 60.0
    """Seconds that a superseded version or an unreferenced blob is kept, since a reader may still hold it."""

    cold_lease_s: float = 7 * 86400.0
    """Seconds after which a machine that has not been heard of no longer keeps garbage in the cold tier: long enough
    for a holiday with the lid closed. The same on all machines that share one."""

    allow_network: bool = False
    """Accept a network file system, on which locks and maps cannot be relied on."""


DURABILITIES = ("process", "disk")


def checked(settings: Settings) -> Settings:
    """The settings as they are.

    Raises:
        ValueError: one has a value that means nothing.
    """
    if settings.durability not in DURABILITIES:
        raise ValueError(f"durability is {settings.durability!r}. Set it to one of {', '.join(DURABILITIES)}.")
    for name in ("inline_limit_bytes", "retain_bytes", "retain_s", "cold_lease_s"):
        if not getattr(settings, name) >= 0:
            raise ValueError(f"{name} is {getattr(settings, name)!r}. Set it to 0 or more.")
    return settings


def from_env(environ: Mapping[str, str] = os.environ) -> Settings:
    """Defaults with every `KVS_*` variable applied.

    Raises:
        ValueError: a variable's text is no number where one is needed, or means nothing.
    """
    values: dict[str, object] = {}
    for name, default in Settings._field_defaults.items():
        text = environ.get("KVS_" + name.upper())
        if text is not None:
            values[name] = _parsed("KVS_" + name.upper(), text, default)
    return checked(Settings()._replace(**values))  # type: ignore[arg-type]


def _parsed(variable: str, text: str, default: object) -> object:
    if isinstance(default, bool):
        return text not in ("", "0")
    try:
        return type(default)(text)  # type: ignore[call-arg]
    except ValueError:
        raise ValueError(f"{variable} is {text!r}. Set it to a number, or unset it.") from None
