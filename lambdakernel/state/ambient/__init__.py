"""State of a process that cells change without naming a variable.

Two kinds of items, both open to others. What is plain data is an `Ambient`: it is pickled when it differs from the last
commit. What may hold objects of the notebook (the function that handles a signal) is a `Held`: it is kept as units of
the namespace, so that it shares with the variables what it shared before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.base import Ambient, AmbientState
from lambdakernel.state.ambient.figures import Backend, Figures
from lambdakernel.state.ambient.finalizers import Finalizers
from lambdakernel.state.ambient.held import PREFIX, Held, HeldState, is_held
from lambdakernel.state.ambient.interpreter import Interpreter, TimeZone
from lambdakernel.state.ambient.libraries import NumpyOptions, NumpyRandomness, PandasOptions, PlotSettings
from lambdakernel.state.ambient.logs import Loggers, LoggingSwitches
from lambdakernel.state.ambient.modules import HandMade
from lambdakernel.state.ambient.patches import Patches, Places
from lambdakernel.state.ambient.process import (
    Arguments,
    CreationMask,
    DecimalContext,
    Environment,
    ImportPath,
    Locale,
    Randomness,
    RecursionLimit,
    WarningFilters,
    WorkingDirectory,
    is_private,
)
from lambdakernel.state.ambient.registries import ColorMaps, PandasClasses, Reducers
from lambdakernel.state.ambient.signals import Signals

__all__ = [
    "PREFIX",
    "RANDOM",
    "Ambient",
    "AmbientState",
    "Backend",
    "Finalizers",
    "Held",
    "HeldState",
    "Patches",
    "default_ambient",
    "is_held",
    "is_private",
]


RANDOM = frozenset({Randomness.name, NumpyRandomness.name})
"""Names of what is the state of a random generator."""


def default_ambient(live: Mapping[str, Any], backend: Backend | None = None) -> tuple[Ambient | Held, ...]:
    """One of each; what cells will have changed is told by what is so now. `live`: the notebook's names; `backend`: who
    shows figures asks it to."""
    patches = Patches()
    return (
        WorkingDirectory(), Environment(os.environ), TimeZone(), Interpreter(), ImportPath(), Randomness(),
        NumpyRandomness(), DecimalContext(),
        RecursionLimit(), CreationMask(), Locale(), LoggingSwitches(), PlotSettings(), backend or Backend(),
        Arguments(), WarningFilters(), Signals(), Loggers(), NumpyOptions(), PandasOptions(), Figures(),
        Places(patches), patches, PandasClasses(), ColorMaps(), Reducers(), HandMade(live),
    )  # fmt: skip
