"""An archive carries spaces to another store with equal reads, or is refused and changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvs
from kvs import Value
from kvs.__main__ import main
from kvs.archive import MAGIC

NAMES = ["a", "näme \x1b[31m", ""]
SETTINGS = kvs.Settings(inline_limit_bytes=200)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three spaces: siblings, a deletion, blobs shared by two keys, a large payload, notes, old versions."""
    store = kvs.open(tmp_path / "source", SETTINGS)
    for name in NAMES:
        with store.space(name).replica() as a, store.space(name).replica() as b:
            for n in range(5):
                refs = (a.put_blob(b"shared" * 100), a.put_blob(b"%d" % n * 500))
                a.publish({b"x": Value(b"%d" % n, refs), b"y": Value(b"%d" % n * 300, refs[:1])}, note=b"cell %d" % n)
            b.publish({b"x": Value(name.encode()), b"gone": Value(b"1")})
            b.publish({b"gone": None})
            a.publish({b"": Value(b"")})
    return tmp_path / "source"


def archive_of(source: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    archive = source.parent / f"{len(more)}.archive"
    assert main(["export", str(source), str(archive), *more]) == 0
    assert f"{source}.key" in capsys.readouterr().out
    return archive


def contents(path: Path) -> dict[str, Any]:
    """Everything that can be read of every space, old versions too."""
    found: dict[str, Any] = {}
    store = kvs.open(path, SETTINGS)
    for info in store.spaces():
        with store.space(info.name).reader() as reader:
            assert list(reader.check()) == []
            history = reader.history()
            past = {}
            for moment in history.moments:
                view = history.at(moment.vector)
                past[moment] = {key: view.get(key) for key in view.keys(b"")}
            now = {key: reader.get(key) for key in reader.keys(b"")}
            blobs = {ref: reader.read_blob(ref) for vs in now.values() for v in vs for ref in v.value.blobs}
            found[info.name] = (now, reader.vector, list(reader.log()), past, blobs)
    return found


def test_an_import_reads_as_what_was_exported(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, target = archive_of(source, capsys), source.parent / "target"
    assert main(["import", str(target), str(archive), "--key", f"{source}.key"]) == 0
    assert contents(target) == contents(source)
    assert Path(f"{target}.key").read_bytes() != Path(f"{source}.key").read_bytes()
    assert archive.stat().st_mode & 0o777 == 0o600
    key = Path(f"{source}.key").read_bytes()
    assert key not in archive.read_bytes(), "the archive carries the key"
    with kvs.open(target).space("a").replica() as replica:  # it goes on from there
        assert replica.publish({b"x": Value(b"new")}) == kvs.Dot(0, 7)


def test_one_space_can_be_carried_into_a_store_that_has_others(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, target = archive_of(source, capsys, "--space", NAMES[1]), source.parent / "target"
    with kvs.open(target).space("other").replica() as replica:
        replica.publish({b"k": Value(b"1")})
    assert main(["import", str(target), str(archive), "--key", f"{source}.key"]) == 0
    assert contents(target)[NAMES[1]] == contents(source)[NAMES[1]]
    before = snapshot(target)
    assert main(["import", str(target), str(archive), "--key", f"{source}.key"]) == 2
    assert "has a space" in capsys.readouterr().err and snapshot(target) == before


def test_the_same_store_takes_its_own_archive_back(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, whole = archive_of(source, capsys), contents(source)
    shutil.rmtree(source)
    assert main(["import", str(source), str(archive)]) == 0  # the key beside it is the one that wrote it
    assert contents(source) == whole


def test_an_archive_of_a_stranger_is_refused_unless_it_is_trusted(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, target = archive_of(source, capsys), source.parent / "target"
    assert main(["import", str(target), str(archive)]) == 2
    said = capsys.readouterr().err
    assert "--key FILE" in said and "--trust" in said and not target.exists()
    assert main(["import", str(target), str(archive), "--trust"]) == 0
    assert contents(target) == contents(source)


def test_an_archive_with_a_byte_changed_or_a_tail_cut_off_is_refused_and_changes_nothing(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, target = archive_of(source, capsys), source.parent / "target"
    with kvs.open(target).space("other").replica() as replica:
        replica.publish({b"k": Value(b"1")})
    data, before = archive.read_bytes(), snapshot(target)
    for bad in damaged(data):
        archive.write_bytes(bad)
        assert main(["import", str(target), str(archive), "--trust"]) == 2
        said = capsys.readouterr().err
        assert str(archive) in said and "Traceback" not in said and said.count("\n") == 1
        assert snapshot(target) == before


def damaged(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 401):
        yield data[:at]
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    yield data + b"more"
    yield data[:-1]


def test_an_archive_of_a_later_format_is_refused_with_the_remedy(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, target = archive_of(source, capsys), source.parent / "target"
    archive.write_bytes(MAGIC + (9).to_bytes(4, "big") + archive.read_bytes()[16:])
    assert main(["import", str(target), str(archive), "--trust"]) == 2
    said = capsys.readouterr().err
    assert "format 9 is newer than 1" in said and "pip install" in said and not target.exists()


def test_a_damaged_store_is_not_exported_and_no_file_is_left(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = source.parent / "archive"
    blob = next(p for p in source.rglob("blobs/*/*") if p.read_bytes() == b"shared" * 100)
    blob.write_bytes(b"sharEd" * 100)
    assert main(["export", str(source), str(archive)]) == 2
    assert str(blob) in capsys.readouterr().err
    assert sorted(p.name for p in source.parent.iterdir()) == ["source", "source.key"]


def test_an_export_never_replaces_a_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = source.parent / "archive"
    archive.write_bytes(b"mine")
    assert main(["export", str(source), str(archive)]) == 2
    assert "Remove it" in capsys.readouterr().err and archive.read_bytes() == b"mine"


def test_a_store_in_use_is_exported_as_it_is_seen(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kvs.open(source, SETTINGS).space("a").replica() as replica:
        replica.publish({b"x": Value(b"latest")})
        archive = archive_of(source, capsys)
        replica.publish({b"x": Value(b"later")})
    target = source.parent / "target"
    assert main(["import", str(target), str(archive), "--key", f"{source}.key"]) == 0
    with kvs.open(target).space("a").reader() as reader:
        assert reader.get(b"x")[0].value == Value(b"latest")


def snapshot(path: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} | {
        p: b"" for p in path.rglob("*") if p.is_dir() and not os.listdir(p)
    }
