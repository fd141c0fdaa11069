"""Settings as Jupyter users write them: `c.LambdaKernel.durability = "disk"`, `--LambdaKernel.cold=True`.

One trait a setting of `lambdakernel.settings`, made from it, so that the two cannot differ. The environment wins.
"""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Float, Int, List, TraitType, Unicode
from traitlets.config import Configurable

from lambdakernel.settings import Settings, from_env

_DEFAULTS = Settings()
_KINDS: dict[type, Any] = {bool: Bool, int: Int, float: Float, str: Unicode, tuple: List}


def _trait(name: str) -> TraitType[Any, Any]:
    default = getattr(_DEFAULTS, name)
    value = list(default) if isinstance(default, tuple) else default
    trait: TraitType[Any, Any] = _KINDS[type(default)](value, help=f"See docs/settings.md, `{name}`.").tag(config=True)
    return trait


LambdaKernel: type[Configurable] = type(
    "LambdaKernel",
    (Configurable,),
    {
        "__module__": __name__,
        "__doc__": "Settings of the kernel.",
        **{n: _trait(n) for n in Settings._fields},
    },
)


def settings_of(app: Any) -> Settings:
    """The settings of a worker: the environment's, else the configuration's, else the defaults.

    Raises:
        BadSetting: a variable of the environment does not fit.
    """
    configured = LambdaKernel(parent=app)
    values = (getattr(configured, name) for name in Settings._fields)
    return from_env(base=Settings._make(tuple(v) if isinstance(v, list) else v for v in values))
