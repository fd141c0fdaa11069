"""Output of tasks: grouped, in order, bounded."""

from lambdakernel.parallel import output as limits
from lambdakernel.parallel.output import Grouped, Output


def printed(text: str, stream: str = "stdout") -> Output:
    output = Output()
    output.add(stream, text.encode())
    return output


def grouped():
    written = []
    return written, Grouped(lambda stream, text: written.append((stream, text)), lambda index: f"task {index}")


def test_outputs_come_in_the_order_of_tasks_whoever_ends_first():
    written, shown = grouped()
    shown.ended(1, printed("b\n"))
    assert written == []
    shown.ended(0, printed("a"))
    assert "".join(text for _, text in written) == "task 0\na\ntask 1\nb\n"


def test_a_silent_task_has_no_heading():
    written, shown = grouped()
    shown.ended(0, Output())
    assert written == []


def test_what_waits_for_a_task_that_never_ends_is_shown_at_the_end():
    written, shown = grouped()
    shown.ended(2, printed("c\n"))
    shown.close()
    assert ("stdout", "c\n") in written


def test_a_flood_is_cut_and_counted():
    written, shown = grouped()
    flood = Output()
    for _ in range(100):
        flood.add("stdout", b"x" * 1024 * 64)
    flood.add("stderr", b"late")
    assert flood.kept == limits.TASK_NBYTES
    shown.ended(0, flood)
    text = "".join(text for _, text in written)
    assert text.endswith(f"... {99 * 65536 + 4:,} more bytes\n")


def test_streams_stay_apart_and_bytes_that_are_no_text_are_shown_as_such():
    written, shown = grouped()
    output = printed("out")
    output.add("stderr", b"err\xff")
    shown.ended(0, output)
    assert ("stdout", "out") in written and ("stderr", "err�") in written


def test_a_cell_shows_four_megabytes_and_says_how_many_tasks_it_left_out(monkeypatch):
    monkeypatch.setattr(limits, "TOTAL_NBYTES", 0)
    written, shown = grouped()
    shown.left = 5
    for index in range(3):
        shown.ended(index, printed("1234\n"))
    shown.close()
    assert written[-1] == ("stdout", "... output of 2 more tasks is not shown\n")
