"""Why programs are known to differ, in one place. `bug`: to be repaired; `limit`: said so in the documentation."""

from __future__ import annotations

LAST_ERROR = "bug: sys.last_type, last_value, last_traceback and what %tb shows do not move"
UNDERSCORES = "bug: _ii and _iii, and what _ is after `%reset -f out`, are not as the last cells left them"
HISTORY = "bug: %history -o knows no output of cells of other workers"
SELF_NAMED = "bug: a ParamSpec or TypeVarTuple is stored as a reference to its own name and cannot be loaded"
PROXY = "bug: a weak proxy brings its object back"
WEAK_METHOD = "bug: a WeakMethod makes a resident"
SET_ORDER = "bug: a set from which something was removed is rebuilt in another order"
FIGURES = "bug: a figure is not shown as a picture in a worker that did not import pyplot itself"
SHELL = "bug: what a cell changes in the shell (magics, aliases, formatters, hooks, transformers, options) stays"
AMBIENT = "bug: not in the registry of ambient state (argv, umask, locale, signals, logging, numpy and pandas options)"
MODULES = "limit: what a cell changes inside a module, builtins or sys.modules does not move"
