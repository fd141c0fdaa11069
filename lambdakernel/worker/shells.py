"""The main shell and its subshells: ipykernel's, but for the way that the main shell's replies take."""

from __future__ import annotations

from typing import Any

from ipykernel.shellchannel import ShellChannelThread
from ipykernel.subshell_manager import SubshellManager

from lambdakernel.worker.output import Outlet, Replies


class Shells(SubshellManager):
    """See the module."""

    replies: Replies

    def get_subshell_to_shell_channel_socket(self, subshell_id: str | None) -> Any:
        if subshell_id is None:
            return self.replies
        return super().get_subshell_to_shell_channel_socket(subshell_id)


class ShellChannel(ShellChannelThread):
    """The thread that reads requests; it no longer carries replies of the main shell."""

    def __init__(self, context: Any, outlet: Outlet) -> None:
        super().__init__(context, daemon=True)
        self._replies = Replies(outlet)

    @property
    def manager(self) -> Shells:
        if self._manager is None:
            assert self.shell_stream is not None
            self._manager = Shells(self._zmq_context, self.io_loop, self.shell_stream)
            self._manager.replies = self._replies
        assert isinstance(self._manager, Shells)
        return self._manager
