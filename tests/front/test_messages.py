"""Frames in, facts out: what the front reads of a message, and what it makes."""

from __future__ import annotations

import json

import pytest
from jupyter_client.session import Session

from lambdakernel.executors.frames import DELIMITER
from lambdakernel.front.messages import (
    PROTOCOL,
    Signer,
    idle_parents,
    message_type,
    parent_id,
    read_request,
)

KEY = b"secret"


def frames_of(msg_type: str = "execute_request", **header: object) -> list[bytes]:
    signer = Signer(KEY)
    frames = signer.message(msg_type, {"code": "1"}, idents=[b"client"])
    if header:
        at = frames.index(DELIMITER)
        said = json.loads(frames[at + 2]) | header
        frames[at + 2] = json.dumps(said).encode()
        frames[at + 1] = signer.sign(frames[at + 2 :])
    return frames


def test_a_request_is_read_with_its_identities_and_header() -> None:
    frames = frames_of(subshell_id="s1")
    request = read_request(frames)
    assert request is not None
    assert request.frames is frames
    assert request.idents == [b"client"]
    assert (request.msg_type, request.subshell) == ("execute_request", "s1")
    assert request.content() == {"code": "1"}


def test_identities_may_be_many_or_none() -> None:
    bare = frames_of()[1:]
    for idents in ([], [b"a"], [b"a", b"", b"b"]):
        request = read_request([*idents, *bare])
        assert request is not None
        assert request.idents == idents
        assert request.content() == {"code": "1"}


def test_buffers_after_the_content_are_kept_and_not_read() -> None:
    request = read_request([*frames_of("comm_msg"), b"\x00buffer"])
    assert request is not None
    assert request.frames[-1] == b"\x00buffer"
    assert Signer(KEY).is_genuine(request)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"client"],
        [DELIMITER],
        [b"client", DELIMITER, b"", b"{}", b"{}", b"{}"],
        [b"client", DELIMITER, b"", b"not json", b"{}", b"{}", b"{}"],
        [b"client", DELIMITER, b"", b"[]", b"{}", b"{}", b"{}"],
        [b"client", DELIMITER, b"", b"\xff\xfe", b"{}", b"{}", b"{}"],
        [b"client", b"<ids|msg>", b"", b"{}", b"{}", b"{}", b"{}"],
    ],
)
def test_what_is_no_message_is_none_and_no_error(frames: list[bytes]) -> None:
    assert read_request(frames) is None
    assert parent_id(frames) == ""
    assert message_type(frames) == "" or frames.count(DELIMITER) == 1


def test_a_header_without_the_usual_fields_reads_as_empty() -> None:
    request = read_request([DELIMITER, b"", b"{}", b"{}", b"{}", b"{}"])
    assert request is not None
    assert (request.msg_id, request.msg_type, request.subshell) == ("", "", None)


def test_only_who_knows_the_key_is_genuine() -> None:
    genuine = read_request(frames_of())
    assert genuine is not None
    assert Signer(KEY).is_genuine(genuine)
    assert not Signer(b"another").is_genuine(genuine)
    for part in range(2, 6):
        forged = list(genuine.frames)
        forged[1 + part] = b'{"code": "forged"}'
        request = read_request(forged)
        assert request is not None
        assert not Signer(KEY).is_genuine(request)


def test_without_a_key_nothing_is_signed_and_all_is_genuine() -> None:
    signer = Signer(b"")
    request = read_request(signer.message("status", {}))
    assert request is not None
    assert request.frames[1] == b""
    assert signer.is_genuine(request)


def test_jupyters_own_session_accepts_what_we_sign() -> None:
    session = Session(key=KEY)
    parent = {"msg_id": "p1", "msg_type": "execute_request"}
    frames = Signer(KEY).message("status", {"execution_state": "busy"}, parent=parent, idents=[b"topic"])
    idents, rest = session.feed_identities(frames)
    message = session.deserialize(rest)
    assert idents == [b"topic"]
    assert message["content"] == {"execution_state": "busy"}
    assert message["parent_header"]["msg_id"] == "p1"
    assert message["header"]["version"] == PROTOCOL
    assert message["header"]["date"].tzinfo is not None


def test_message_ids_never_repeat_and_the_session_stays() -> None:
    signer = Signer(KEY)
    headers = [json.loads(signer.message("status", {})[2]) for _ in range(100)]
    assert len({h["msg_id"] for h in headers}) == 100
    assert {h["session"] for h in headers} == {signer.session}


def test_a_reply_is_matched_to_its_request_by_the_parent_header() -> None:
    reply = Signer(KEY).message("execute_reply", {}, parent={"msg_id": "abc"}, idents=[b"client"])
    assert parent_id(reply) == "abc"
    assert message_type(reply) == "execute_reply"


def test_only_idle_statuses_declare_a_request_done() -> None:
    signer = Signer(KEY)
    said = [
        signer.message("status", {"execution_state": state}, parent={"msg_id": id}, idents=[b"kernel.1.status"])
        for state, id in (("busy", "a"), ("idle", "a"), ("busy", "b"))
    ]
    assert idle_parents(said) == {"a"}
    assert idle_parents([]) == set()
