"""`export` and `import`: spaces in one file."""

from __future__ import annotations

import os

import kvs
from kvs.commands.common import WHOLE, printable
from kvs.settings import from_env
from kvs.transfer import archive_key_of, export_spaces, import_spaces, opened


def export(store: kvs.Store, archive: str, names: list[str]) -> int:
    """write spaces to one portable file"""
    for info in store.spaces():
        if info.damage and not names:
            raise kvs.StoreDamaged(info.directory, info.damage)
    chosen = names or sorted(info.name for info in store.spaces())
    commits = export_spaces(store, archive, chosen)
    print(printable(f"{len(chosen)} spaces, {commits} commits, {os.path.getsize(archive)} bytes: {archive}"))
    print(f"Whoever imports it needs {store.path}.key, or has to trust it.")
    return WHOLE


def import_(path: str, archive: str, key: str | None, *, trust: bool) -> int:
    """take the spaces of such a file into a store that has none of them"""
    files = [key] if key else [f"{path}.key"] if os.path.exists(f"{path}.key") else []
    found = opened(archive, [archive_key_of(file) for file in files], trust=trust)
    with found:
        names = import_spaces(kvs.open(path, from_env()), found, archive)
    print(printable(f"{len(names)} spaces imported: {', '.join(map(repr, names))}"))
    return WHOLE
