"""A look at every file of every shared map of a space, for those who check and mend stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

from kvs.errors import StoreDamaged
from kvs.shared.kinds import kind_named
from kvs.shared.lane_file import LaneFile
from kvs.shared.table import NAME, Table, lanes_at

FOLDER = "shared"
"""Of a space, with a directory for each shared map."""


def faults(directory: str) -> Iterator[StoreDamaged]:
    """What is damaged of the shared maps below the directory of a space, a file each.

    Raises:
        StoreForeign: a later version wrote one.
    """
    if not os.path.isdir(f"{directory}/{FOLDER}"):
        return
    for entry in sorted(os.listdir(f"{directory}/{FOLDER}")):
        path = f"{directory}/{FOLDER}/{entry}"
        if os.path.exists(f"{path}/{NAME}"):
            yield from _faults_of(path)


def _faults_of(path: str) -> Iterator[StoreDamaged]:
    try:
        with closing(Table.at(f"{path}/{NAME}")) as table:
            kind = kind_named(table.kind_name)
    except StoreDamaged as e:
        yield e
        return
    except FileNotFoundError:  # the map was deleted just now
        return
    if kind is None:
        yield StoreDamaged(f"{path}/{NAME}", f"it is of a kind that is not known, {table.kind_name!r}")
        return
    for lane in lanes_at(path):
        try:
            LaneFile.opened(f"{path}/{lane}", kind).close()
        except StoreDamaged as e:
            yield e
        except FileNotFoundError:
            return
