"""The lane in every order of events: what a client is answered, and that no cell is ever run twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdakernel.executors.base import Exited
from lambdakernel.front import lanes
from lambdakernel.front.lanes import Lane, Leave, Publish, Rest, RetireWorker, StartWorker, ToClient, ToWorker
from lambdakernel.front.messages import Frames, Request, Signer, read_request

KEY = b"key"
KILLED = Exited("1", 4711, -9, False, 0)


class Scene:
    """A lane with a client in front of it and a worker behind it."""

    def __init__(self, *, cold: bool = False) -> None:
        self.client = Signer(KEY)
        self.lane = Lane(Signer(KEY), cold=cold)

    def frames(self, kind: str = "execute_request", content: dict[str, Any] | None = None) -> Frames:
        said = content if content is not None else {"code": "1", "stop_on_error": True}
        return self.client.message(kind, said, idents=[b"client"])

    def ask(self, kind: str = "execute_request", channel: str = "shell", **content: Any) -> tuple[Request, Any]:
        frames = self.frames(kind, content or None)
        request = read_request(frames)
        assert request is not None
        return request, self.lane.request(channel, frames)

    def become_ready(self, **said: Any) -> list[lanes.Action]:
        return self.lane.said(self.lane.generation, {"said": "ready", **said})

    def begin(self, request: Request) -> None:
        assert self.lane.said(self.lane.generation, {"said": "started", "msg_id": request.msg_id}) == []

    def die(self, exited: Exited = KILLED) -> list[lanes.Action]:
        return self.lane.exited(exited, self.lane.generation)

    def answer(self, request: Request, status: str = "ok", channel: str = "shell") -> list[lanes.Action]:
        kind = request.msg_type.removesuffix("_request") + "_reply"
        frames = self.client.message(kind, {"status": status}, parent=request.header, idents=request.idents)
        return self.lane.reply(self.lane.generation, channel, frames)


@pytest.fixture
def scene() -> Scene:
    """A lane whose worker is ready."""
    scene = Scene()
    assert scene.lane.start() == [StartWorker(1)]
    assert scene.become_ready() == []
    return scene


def replies(actions: list[lanes.Action]) -> list[tuple[str, dict[str, Any]]]:
    """(request id, content) of every message to a client on shell or control."""
    found = []
    for action in actions:
        if isinstance(action, ToClient):
            message = read_request(action.frames)
            assert message is not None
            parent = json.loads(action.frames[len(message.idents) + 3])
            found.append((parent["msg_id"], message.content()))
    return found


def forwarded(actions: list[lanes.Action]) -> list[str]:
    """Ids of the requests that go to the worker."""
    found = [read_request(a.frames) for a in actions if isinstance(a, ToWorker)]
    return [request.msg_id for request in found if request is not None]


def published(actions: list[lanes.Action]) -> list[str]:
    """What is published, as `busy`, `error`, `idle`."""
    found = [read_request(a.frames) for a in actions if isinstance(a, Publish)]
    return [m.content().get("execution_state", m.msg_type) for m in found if m is not None]


# -- forwarding


def test_a_request_goes_to_the_ready_worker_as_it_came(scene: Scene) -> None:
    request, actions = scene.ask()
    assert actions == [ToWorker("shell", request.frames)]
    assert [a.frames is request.frames for a in actions] == [True]


def test_requests_wait_in_order_until_the_worker_is_ready() -> None:
    scene = Scene()
    first, actions = scene.ask()
    assert actions == [StartWorker(1)]
    second, actions = scene.ask("complete_request", code="a", cursor_pos=1)
    assert actions == []
    assert forwarded(scene.become_ready()) == [first.msg_id, second.msg_id]


def test_kernel_info_is_answered_before_any_worker_is_ready() -> None:
    scene = Scene()
    request, actions = scene.ask("kernel_info_request", channel="control")
    ((parent, content),) = replies(actions)
    assert (parent, content["status"]) == (request.msg_id, "ok")
    assert published(actions) == ["busy", "idle"]
    assert not any(isinstance(a, StartWorker) for a in actions)


def test_kernel_info_is_the_workers_once_it_is_ready(scene: Scene) -> None:
    request, actions = scene.ask("kernel_info_request")
    assert forwarded(actions) == [request.msg_id]


def test_what_is_no_message_changes_nothing(scene: Scene) -> None:
    assert scene.lane.request("shell", [b"garbage"]) == []
    assert scene.lane.request("shell", []) == []
    assert forwarded(scene.ask()[1]) != []


@pytest.mark.parametrize("kind", ["execute_request", "kernel_info_request", "shutdown_request", "comm_msg"])
@pytest.mark.parametrize("ready", [False, True])
def test_a_forged_request_goes_nowhere_and_ends_nothing(kind: str, ready: bool) -> None:
    # A forged shutdown once made the front leave at its deadline, though the worker had rightly ignored it.
    scene = Scene()
    scene.lane.start()
    if ready:
        scene.become_ready()
    for channel in ("shell", "control"):
        frames = Signer(b"wrong").message(kind, {"code": "1"}, idents=[b"client"])
        assert scene.lane.request(channel, frames) == []
    assert not scene.lane.closing
    assert replies(scene.lane.refused(1, "no memory")) == []


def test_an_older_workers_words_change_nothing(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.die()
    assert scene.lane.generation == 2
    assert scene.lane.said(1, {"said": "ready"}) == []
    assert scene.lane.said(1, {"said": "started", "msg_id": request.msg_id}) == []
    assert scene.lane.exited(KILLED, 1) == []
    assert scene.lane.refused(1, "late") == []
    assert not scene.lane.ready
    assert forwarded(scene.become_ready()) == [request.msg_id]


def test_a_late_reply_of_an_older_worker_still_reaches_its_client(scene: Scene) -> None:
    request, _ = scene.ask()
    frames = scene.client.message("execute_reply", {"status": "ok"}, parent=request.header, idents=[b"client"])
    assert scene.lane.reply(0, "shell", frames) == [ToClient("shell", frames)]


# -- deaths


def test_an_idle_workers_death_starts_another_and_says_nothing(scene: Scene) -> None:
    assert scene.die() == [StartWorker(2)]
    request, actions = scene.ask()
    assert actions == []
    assert forwarded(scene.become_ready()) == [request.msg_id]


def test_a_cell_that_had_not_started_goes_to_the_next_worker(scene: Scene) -> None:
    request, _ = scene.ask()
    assert scene.die() == [StartWorker(2)]
    assert forwarded(scene.become_ready()) == [request.msg_id]


def test_a_cell_that_had_started_is_reported_and_not_run_again(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.begin(request)
    assert scene.die() == [StartWorker(2)]
    actions = scene.become_ready(execution_count=7, committed={})
    ((parent, content),) = replies(actions)
    assert parent == request.msg_id
    assert (content["status"], content["ename"], content["execution_count"]) == ("error", "WorkerLost", 7)
    assert "SIGKILL" in content["evalue"]
    assert "namespace is as it was before the cell" in content["evalue"]
    assert published(actions) == ["error", "idle"]
    assert forwarded(actions) == []


def test_the_error_names_what_was_resident_and_is_gone(scene: Scene) -> None:
    scene.lane.said(1, {"said": "resident", "names": ["log (TextIOWrapper)"]})
    request, _ = scene.ask()
    scene.begin(request)
    scene.die()
    ((_, content),) = replies(scene.become_ready())
    assert "log (TextIOWrapper)" in content["evalue"]
    assert scene.lane.resident == ()


def test_a_cell_that_was_committed_but_not_answered_gets_the_reply_it_deserved(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.begin(request)
    scene.die()
    kept = {request.msg_id: {"status": "ok", "execution_count": 3}}
    actions = scene.become_ready(execution_count=4, committed=kept)
    ((parent, content),) = replies(actions)
    assert (parent, content["status"], content["execution_count"]) == (request.msg_id, "ok", 3)
    assert published(actions) == ["idle"]
    assert forwarded(actions) == []


def test_cells_queued_behind_a_lost_one_are_aborted_and_other_requests_are_not(scene: Scene) -> None:
    lost, _ = scene.ask()
    queued, _ = scene.ask()
    completion, _ = scene.ask("complete_request", code="a", cursor_pos=1)
    scene.begin(lost)
    scene.die()
    actions = scene.become_ready()
    assert [(p, c["status"]) for p, c in replies(actions)] == [(lost.msg_id, "error"), (queued.msg_id, "aborted")]
    assert forwarded(actions) == [completion.msg_id]


def test_an_answered_cell_is_not_touched_by_a_later_death(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.begin(request)
    assert len(replies(scene.answer(request))) == 1
    assert scene.lane.exited(KILLED, 1, {request.msg_id}) == [StartWorker(2)]
    assert scene.become_ready() == []


@pytest.mark.parametrize("cold", [False, True])
def test_a_worker_that_died_between_a_reply_and_its_idle_leaves_the_idle_to_the_front(cold: bool) -> None:
    # Found by the chaos test: the client had its reply and waited for the idle for ever.
    scene = Scene(cold=cold)
    before, _ = scene.ask()
    scene.become_ready(cold=cold)
    scene.answer(before)
    generation = 1
    if not cold:
        answered, _ = scene.ask()
        scene.answer(answered)
        before = answered
    actions = scene.lane.exited(KILLED, generation, {"some-earlier-one"})
    assert published(actions) == ["idle"]
    assert [json.loads(a.frames[4])["msg_id"] for a in actions if isinstance(a, Publish)] == [before.msg_id]
    assert published(scene.lane.exited(KILLED, generation)) == []


def test_a_cell_on_another_subshell_survives_the_loss_of_the_main_ones(scene: Scene) -> None:
    lost, _ = scene.ask()
    frames = scene.frames()
    other = read_request(frames)
    assert other is not None
    other.header["subshell_id"] = "s1"
    signer, at = Signer(KEY), 1
    frames[at + 2] = json.dumps(other.header).encode()
    frames[at + 1] = signer.sign(frames[at + 2 :])
    scene.lane.request("shell", frames)
    scene.begin(lost)
    scene.die()
    assert forwarded(scene.become_ready()) == [other.msg_id]


def test_a_second_death_before_the_verdict_loses_no_verdict(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.begin(request)
    scene.die()
    scene.die()
    assert scene.lane.generation == 3
    assert [(p, c["ename"]) for p, c in replies(scene.become_ready())] == [(request.msg_id, "WorkerLost")]


def test_three_workers_in_a_row_that_never_got_ready_are_told_to_the_user() -> None:
    scene = Scene()
    request, _ = scene.ask()
    for expected in (2, 3):
        assert scene.die() == [StartWorker(expected)]
    ((parent, content),) = replies(scene.die(Exited("3", 1, 5, False, 0)))
    assert (parent, content["ename"]) == (request.msg_id, "NoWorker")
    assert "exited with code 5" in content["evalue"]
    assert "nothing is lost" in content["evalue"]


def test_after_boot_failures_the_next_request_tries_again() -> None:
    scene = Scene()
    scene.ask()
    for _ in range(3):
        scene.die()
    _, actions = scene.ask()
    assert actions == [StartWorker(4)]
    assert len(forwarded(scene.become_ready())) == 1


def test_a_lost_cell_is_reported_even_if_no_worker_can_be_had_any_more(scene: Scene) -> None:
    request, _ = scene.ask()
    waiting, _ = scene.ask()
    scene.begin(request)
    scene.die()
    answers = dict(replies(scene.lane.refused(2, "the process limit is reached")))
    assert answers[request.msg_id]["ename"] == "WorkerLost"
    assert waiting.msg_id in answers


def test_a_refused_fork_answers_what_waits_and_the_next_request_tries_again() -> None:
    scene = Scene()
    request, _ = scene.ask()
    ((parent, content),) = replies(scene.lane.refused(1, "out of memory"))
    assert (parent, content["ename"]) == (request.msg_id, "NoWorker")
    assert "out of memory" in content["evalue"]
    assert scene.ask()[1] == [StartWorker(2)]


def test_a_worker_whose_zygote_ends_before_it_is_there_is_tried_again() -> None:
    """Which nobody sees who asks; three times, since what ends it may be its own."""
    scene = Scene()
    request, _ = scene.ask()
    for generation in (1, 2):
        assert scene.lane.unborn(generation, "the zygote ended") == [StartWorker(generation + 1)]
        assert scene.lane.unborn(generation, "late") == []
    ((parent, content),) = replies(scene.lane.unborn(3, "the zygote ended"))
    assert (parent, content["ename"]) == (request.msg_id, "NoWorker") and "the zygote ended" in content["evalue"]
    other, actions = scene.ask()
    assert actions == [StartWorker(4)]
    assert forwarded(scene.become_ready()) == [other.msg_id]


def test_a_cell_that_was_lost_is_judged_by_the_worker_that_comes_after_such_a_failure(scene: Scene) -> None:
    request, _ = scene.ask()
    scene.begin(request)
    scene.die()
    assert scene.lane.unborn(2, "the zygote ended") == [StartWorker(3)]
    answers = dict(replies(scene.become_ready()))
    assert answers[request.msg_id]["ename"] == "WorkerLost"


def test_a_shutdown_is_answered_though_the_zygote_has_ended() -> None:
    scene = Scene()
    request, _ = scene.ask("shutdown_request", channel="control", restart=False)
    actions = scene.lane.unborn(1, "the zygote ended")
    assert replies(actions) == [(request.msg_id, {"status": "ok", "restart": False})]
    assert actions[-1] == Leave()


def test_a_request_that_kills_its_worker_twice_is_refused(scene: Scene) -> None:
    deadly, _ = scene.ask("complete_request", code="a", cursor_pos=1)
    assert replies(scene.die()) == []
    assert forwarded(scene.become_ready()) == [deadly.msg_id]
    ((parent, content),) = replies(scene.die())
    assert (parent, content["ename"]) == (deadly.msg_id, "NoWorker")
    assert forwarded(scene.become_ready()) == []


@pytest.mark.parametrize(
    ("exited", "said"),
    [
        (Exited("1", 1, -9, False, 0), "was killed by SIGKILL"),
        (Exited("1", 1, -9, True, 0), "memory ran out"),
        (Exited("1", 1, -11, False, 0), "was killed by SIGSEGV"),
        (Exited("1", 1, 3, False, 0), "exited with code 3"),
        (Exited("1", 1, -99, False, 0), "was killed by signal 99"),
    ],
)
def test_how_a_worker_ended_is_said_for_a_person(exited: Exited, said: str) -> None:
    assert said in exited.reason()


# -- cold mode


def test_cold_mode_ends_the_worker_after_each_cell_and_holds_the_next() -> None:
    scene = Scene(cold=True)
    first, _ = scene.ask()
    second, _ = scene.ask()
    assert forwarded(scene.become_ready(cold=True)) == [first.msg_id]
    actions = scene.answer(first)
    assert [type(a) for a in actions] == [ToClient, RetireWorker, StartWorker]
    assert scene.lane.exited(KILLED, 1, {first.msg_id}) == []
    assert forwarded(scene.become_ready(cold=True)) == [second.msg_id]


def test_cold_mode_aborts_what_waits_behind_a_cell_that_failed() -> None:
    scene = Scene(cold=True)
    first, _ = scene.ask()
    second, _ = scene.ask()
    info, _ = scene.ask("complete_request", code="a", cursor_pos=1)
    scene.become_ready(cold=True)
    answers = replies(scene.answer(first, "error"))
    assert [(p, c["status"]) for p, c in answers] == [(first.msg_id, "error"), (second.msg_id, "aborted")]
    assert forwarded(scene.become_ready(cold=True)) == [info.msg_id]


def test_cold_mode_keeps_what_waits_if_the_failed_cell_said_not_to_stop() -> None:
    scene = Scene(cold=True)
    first, _ = scene.ask(code="1/0", stop_on_error=False)
    second, _ = scene.ask()
    scene.become_ready(cold=True)
    assert len(replies(scene.answer(first, "error"))) == 1
    assert forwarded(scene.become_ready(cold=True)) == [second.msg_id]


def test_cold_mode_lets_control_and_comms_through_to_a_busy_worker() -> None:
    scene = Scene(cold=True)
    scene.ask()
    scene.become_ready(cold=True)
    assert forwarded(scene.ask("interrupt_request", channel="control")[1]) != []
    assert forwarded(scene.ask("comm_msg", comm_id="c", data={})[1]) != []
    assert forwarded(scene.ask("complete_request", code="a", cursor_pos=1)[1]) == []


# -- idle, and the end


def test_an_idle_lane_gives_its_worker_back_and_a_request_brings_one(scene: Scene) -> None:
    assert scene.lane.said(1, {"said": "idle"}) == [RetireWorker(1)]
    assert scene.die() == [Rest()]
    request, actions = scene.ask()
    assert actions == [StartWorker(2)]
    assert forwarded(scene.become_ready()) == [request.msg_id]


def test_a_request_that_crosses_the_offer_to_rest_is_not_lost(scene: Scene) -> None:
    request, _ = scene.ask()
    assert scene.lane.said(1, {"said": "idle"}) == []
    assert len(replies(scene.answer(request))) == 1


def test_a_request_after_the_offer_was_taken_waits_for_the_next_worker(scene: Scene) -> None:
    scene.lane.said(1, {"said": "idle"})
    request, actions = scene.ask()
    assert actions == [StartWorker(2)]
    assert scene.lane.exited(KILLED, 1) == []
    assert forwarded(scene.become_ready()) == [request.msg_id]


def test_a_shutdown_goes_to_the_worker_and_ends_the_kernel_when_it_is_gone(scene: Scene) -> None:
    request, actions = scene.ask("shutdown_request", channel="control", restart=False)
    assert forwarded(actions) == [request.msg_id]
    assert len(replies(scene.answer(request, channel="control"))) == 1
    assert scene.lane.exited(Exited("1", 1, 0, False, 0), 1, {request.msg_id}) == [Leave()]


@pytest.mark.parametrize("restart", [False, True])
def test_a_shutdown_that_the_worker_did_not_live_to_answer_is_answered(scene: Scene, restart: bool) -> None:
    request, _ = scene.ask("shutdown_request", channel="control", restart=restart)
    actions = scene.die()
    assert replies(actions) == [(request.msg_id, {"status": "ok", "restart": restart})]
    assert actions[-1] == Leave()


def test_a_shutdown_without_any_worker_is_answered_once_none_can_be_had() -> None:
    scene = Scene()
    request, actions = scene.ask("shutdown_request", channel="control", restart=False)
    assert actions == [StartWorker(1)]
    actions = scene.lane.refused(1, "no memory")
    assert replies(actions) == [(request.msg_id, {"status": "ok", "restart": False})]
    assert actions[-1] == Leave()
