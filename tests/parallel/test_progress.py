"""How progress reads, and how often it is shown."""

from html.parser import HTMLParser

import pytest

from lambdakernel.parallel.progress import Bar, Progress, as_html, as_text, duration


def test_the_start_the_middle_and_the_end_as_text():
    assert as_text(Progress(4)) == "[" + "." * 30 + "] 0 of 4 done; 0.0 s"
    middle = Progress(4, done=2, running=2, failed=1, elapsed_s=10.0)
    assert as_text(middle) == "[" + "#" * 15 + "." * 15 + "] 2 of 4 done, 2 running, 1 failed; 10 s, 10 s left"
    assert as_text(Progress(4, done=4, elapsed_s=61.0)) == "[" + "#" * 30 + "] 4 of 4 done; 1 min 01 s"


def test_a_stopped_one_says_so_and_promises_no_end():
    assert "1 of 4 done, stopped; 2.0 s" in as_text(Progress(4, done=1, running=2, elapsed_s=2.0, stopped=True))


def test_attempts_and_memory_are_told_where_they_matter():
    some = Progress(
        4, done=1, running=2, retried=1, memory_nbytes=1_200_000_000, peak_nbytes=310_000_000, elapsed_s=2.0
    )
    assert as_text(some).endswith("1 of 4 done, 2 running, 1 retried; 2.0 s, 6.0 s left; 1.2 GB, at most 310 MB a task")
    little = Progress(4, done=4, memory_nbytes=4_000, peak_nbytes=5_000, elapsed_s=2.0)
    assert as_text(little).endswith("4 of 4 done; 2.0 s")


def test_no_tasks_are_no_division_by_zero():
    assert as_text(Progress(0)).endswith("0 of 0 done; 0.0 s")
    assert "width:0%" in as_html(Progress(0))


def test_html_is_balanced_and_names_its_numbers():
    class Balance(HTMLParser):
        depth = 0

        def handle_starttag(self, tag, attributes):
            self.depth += 1

        def handle_endtag(self, tag):
            self.depth -= 1
            assert self.depth >= 0

    parser = Balance()
    text = as_html(Progress(8, done=4, failed=2, elapsed_s=1.0))
    parser.feed(text)
    assert parser.depth == 0
    assert 'aria-valuenow="4"' in text and text.count("width:25.0%") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.9, "1 min 00 s"), (7384, "2 h 03 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_bar_shows_at_most_ten_times_a_second_and_always_the_end():
    now = [0.0]
    shown = []
    bar = Bar(lambda bundle, is_update: shown.append((bundle["text/plain"], is_update)), lambda: now[0])
    for done in range(100):
        now[0] = done * 0.01
        bar.update(Progress(100, done=done, elapsed_s=now[0]))
    assert len(shown) <= 10
    bar.last(Progress(100, done=100, elapsed_s=1.0))
    assert "100 of 100" in shown[-1][0]
    assert [is_update for _, is_update in shown] == [False] + [True] * (len(shown) - 1)
