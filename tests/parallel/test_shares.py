"""How fan-outs share the processors."""

from lambdakernel.parallel.shares import Shares


def test_one_alone_has_all_two_have_half_and_all_again_afterwards():
    shares = Shares()
    with shares.one_more(8) as first:
        assert first() == 8
        with shares.one_more(8) as second:
            assert (first(), second()) == (4, 4)
        assert first() == 8


def test_each_may_run_one_however_many_there_are():
    shares = Shares()
    with shares.one_more(2) as first, shares.one_more(2), shares.one_more(2):
        assert first() == 1
