"""The shell of a worker: IPython's, which loads what a cell is about to reach before it runs it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import formatters, history
from IPython.core.interactiveshell import ExecutionResult
from IPython.core.macro import Macro

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.worker.underscores import KEPT, SHOWN

GATHER_S = 0.1
"""Seconds for which inputs are gathered before they are written to IPython's history, where cells follow each other."""
_FIRST_WORD = re.compile(r"\s*([^\W\d]\w*)")
if TYPE_CHECKING:
    from lambdakernel.worker.durable import Durable


class NamespaceModule(ModuleType):
    """`__main__` of a worker. Names that are in the store but not loaded yet come when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        """Called only for a name that is not bound, by code that asks the module instead of naming a variable."""
        durable = _durable_of(self)
        if durable is not None and durable.namespace is not None and not name.startswith("__"):
            durable.namespace.load([name])
            durable.namespace.touch([name])  # whoever asked may change it
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module '__main__' has no attribute {name!r}")


def _durable_of(module: NamespaceModule) -> Durable | None:
    shell: WorkerShell | None = getattr(WorkerShell, "_instance", None)
    return shell.durable if shell is not None and shell.user_module is module else None


class DisplayFormatter(formatters.DisplayFormatter):
    """IPython's, which has the backend of figures brought back before it shows one. `%config` knows it by its name."""

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        shell: Any = self.parent
        if shell.durable is not None:
            shell.durable.backend.use_for(obj)
        return super().format(obj, include, exclude)


class HistoryManager(history.HistoryManager):
    """IPython's, whose thread writes what was gathered for a moment: else it takes the interpreter from each cell that
    runs, for longer than the cell may need it. Whoever reads the history has what is left written first.

    A kernel is one session of it, whichever worker a cell runs on: it goes on with session `continued`, and tells the
    number of another that begins."""

    goes_on = False
    """Another worker follows: the session does not end here."""

    def __init__(self, *args: Any, continued: int, tell: Callable[[int], None], **kwargs: Any) -> None:
        self._hurry = threading.Event()
        self._continued, self._tell = continued, tell
        super().__init__(*args, **kwargs)

    def new_session(self, conn: Any = None) -> None:
        if self._continued:
            self.session_number, self._continued = self._continued, 0
            return
        super().new_session(conn)
        self._tell(self.session_number)

    def end_session(self) -> None:
        if self.goes_on:
            self.writeout_cache()
        else:
            super().end_session()

    def writeout_cache(self, conn: Any = None) -> None:
        if isinstance(threading.current_thread(), history.HistorySavingThread):
            self._hurry.wait(GATHER_S)
        super().writeout_cache(conn)

    def _stop_save_thread(self) -> None:
        self._hurry.set()
        super()._stop_save_thread()
        self._hurry.clear()


class WorkerShell(ZMQInteractiveShell):
    """See the module. `durable` is set by the kernel once the shell exists."""

    durable: Durable | None = None
    last_execution_result: Any = ExecutionResult(None)
    """Of the cell before; the first cell of a worker has had one too, elsewhere."""
    _last_traceback: Any = None
    """ipykernel reads it after any error, and IPython does not set it for a group of exceptions."""
    ran_as = ""
    """File name of the cell that ran last: computing it anew costs more than all else that is kept of a cell."""

    def init_display_formatter(self) -> None:
        formatter: Any = DisplayFormatter(parent=self)
        self.display_formatter = formatter
        self.configurables.append(formatter)

    def init_history(self) -> None:
        """As IPython does it."""
        app: Any = self.kernel.parent
        manager: Any = HistoryManager(
            shell=self,
            parent=self,
            continued=app.params["history"],
            tell=lambda number: app.link.say("history", session=number),
        )
        self.history_manager = manager
        self.configurables.append(manager)

    async def run_ast_nodes(self, nodelist: Any, cell_name: str, *args: Any, **kwargs: Any) -> bool:
        """Load, then run; a name that cannot be had is this cell's error, and nothing of the cell runs."""
        self.ran_as = cell_name
        if self.durable is not None:
            try:
                with self._outputs_followed():
                    self.durable.before(nodelist)
            except (LambdaKernelError, kvs.KvsError, OSError) as e:
                return self._refuse(e, kwargs.get("result"))
            self._tell_news()
        return bool(await super().run_ast_nodes(nodelist, cell_name, *args, **kwargs))

    def run_line_magic(self, magic_name: str, line: str, _stack_depth: int = 1) -> Any:
        """As IPython does it, with the backend of figures there when its options are asked for."""
        if magic_name == "config" and self.durable is not None and "InlineBackend" in line:
            self.durable.backend.use()
        return super().run_line_magic(magic_name, line, _stack_depth + 1)

    def transform_cell(self, raw_cell: str) -> str:
        """As IPython does it, which asks whether a line begins with a variable or with the name of a magic, and whether
        it is the name of a macro: a variable that is in the store is one."""
        word = _FIRST_WORD.match(raw_cell)
        if word is not None and (self.find_magic(word[1]) is not None or self._is_macro(raw_cell.strip())):
            self._load(word[1])
        return str(super().transform_cell(raw_cell))

    def _refuse(self, error: Exception, result: Any) -> bool:
        if result is not None:
            result.error_in_exec = error
        self.showtraceback((type(error), error, None), exception_only=True)
        return True

    def _tell_news(self) -> None:
        assert self.durable is not None
        news = self.durable.news()
        if news:
            html = f'<div style="opacity:.65;font-size:90%">{escape(news)}</div>'
            self.display_pub.publish({"text/plain": news, "text/html": html})

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        self.load_all()
        return super().complete(*args, **kwargs)

    def object_inspect_mime(self, oname: str, *args: Any, **kwargs: Any) -> Any:
        self._load(oname)
        return super().object_inspect_mime(oname, *args, **kwargs)

    def user_expressions(self, expressions: Any) -> Any:
        if expressions:
            self.load_all()
        return super().user_expressions(expressions)

    def _is_macro(self, name: str) -> bool:
        """Whether a variable of that name is stored as a macro. Asks the catalogue: to load a value may take long."""
        namespace = self.durable.namespace if self.durable is not None else None
        return namespace is not None and namespace.type_of(name) == Macro.__name__

    def load_all(self) -> None:
        """Bind every name of the session, for who looks at all of them."""
        if self.durable is not None and self.durable.namespace is not None:
            with self._outputs_followed():
                self.durable.namespace.load_all()

    def _load(self, expression: str) -> None:
        if self.durable is not None and self.durable.namespace is not None:
            with self._outputs_followed():
                self.durable.namespace.load([expression.partition(".")[0]])

    @contextmanager
    def _outputs_followed(self) -> Iterator[None]:
        """`_`, `__` and `___` that are loaded are the last outputs, as if they had been shown here: the shell keeps
        them apart, and binds new ones only while it finds in the namespace what it bound last."""
        before = [self.user_ns.get(name) for name in SHOWN]
        yield
        for name, value in zip(SHOWN, before, strict=True):
            loaded = self.user_ns.get(name)
            if loaded is not value and self.user_ns_hidden.get(name) is not KEPT:
                setattr(self.displayhook, name, loaded)
                self.user_ns_hidden[name] = loaded
