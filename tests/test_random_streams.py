"""Streams of random numbers that nobody shares, and that stay what they were in every study before."""

import torch

from study.random_streams import make_generator


def draw(*key):
    return torch.randn(4, generator=make_generator(*key)).tolist()


def test_a_stream_is_that_of_its_key():
    keys = [(0, "weights", 0), (1, "weights", 0), (0, "order", 0), (0, "weights", 1)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
    for key in keys:
        assert draw(*key) == draw(*key)


def test_studies_of_earlier_versions_can_be_gone_on_with():
    # By hand: the first eight bytes of BLAKE2b of "seed/purpose/step", halved.
    assert make_generator(0, "weights of depth 3", 1).initial_seed() == 1528685163069775198
    assert make_generator(7, "order", 2).initial_seed() == 860229318923078522
