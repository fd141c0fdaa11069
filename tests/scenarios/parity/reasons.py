"""Why programs are known to differ, in one place. `bug`: to be repaired; `limit`: said so in the documentation."""

from __future__ import annotations

SET_ORDER = "limit: a set comes back in the order that adding its elements anew gives, not the one that it had"
MODULES = "limit: what code of a module of your own changes in it does not move"
SHARED_FRAME = "limit: an array and a frame that was made of it with copy=False are two after a move"
