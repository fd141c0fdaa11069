"""Why programs are known to differ, in one place. `bug`: to be repaired; `limit`: said so in the documentation."""

from __future__ import annotations

SHARED_FRAME = "limit: an array and a frame that was made of it with copy=False are two after a move"
