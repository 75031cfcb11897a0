"""Keys: the same batches for every variant, and the same ones shared out to any processes."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import DATA, recipe

from attnzoo.errors import OptionError
from attnzoo.train import open_data
from attnzoo.train.keys import TestKeys, TrainKeys, drawing


def test_keys_are_a_permutation_that_seed_and_epoch_settle() -> None:
    keys = TrainKeys(20, seed=3)
    first = list(keys)
    assert first == list(TrainKeys(20, seed=3))
    assert sorted(first) == [(3, 0, index) for index in range(20)]
    keys.set_epoch(1)
    assert [key[2] for key in keys] != [key[2] for key in first]
    assert [key[2] for key in TrainKeys(20, seed=4)] != [key[2] for key in first]


def test_test_keys_are_in_order() -> None:
    assert list(TestKeys(3, seed=2)) == [(2, 0, 0), (2, 0, 1), (2, 0, 2)]


shares = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5)
)


@given(shares)
def test_processes_share_the_batches_of_one(
    drawn: tuple[int, int, int, int, int],
) -> None:
    processes, passes, images, steps, rest = drawn
    batch = processes * passes * images
    length = batch * steps + min(rest, batch - 1)
    alone = list(TrainKeys(length, seed=1, batch_size=batch))
    options = {"seed": 1, "batch_size": batch, "passes": passes, "processes": processes}
    own = [list(TrainKeys(length, rank=rank, **options)) for rank in range(processes)]
    assert {len(keys) for keys in own} == {steps * passes * images}
    for step in range(steps):
        part = slice(step * passes * images, (step + 1) * passes * images)
        together = sorted(key for keys in own for key in keys[part])
        assert together == sorted(alone[step * batch : (step + 1) * batch])


@pytest.mark.parametrize("start", [0, 1, 3])
def test_an_epoch_taken_up_in_the_middle_goes_on_where_it_was(start: int) -> None:
    keys = TrainKeys(13, batch_size=4, passes=2, rank=1, processes=2)
    keys.set_epoch(5)
    whole = list(keys)
    keys.set_epoch(5, start)
    assert list(keys) == whole[2 * start :]
    assert len(keys) == len(whole) - 2 * start


@given(st.integers(1, 12), st.integers(1, 5))
def test_a_test_image_counts_once(length: int, processes: int) -> None:
    own = [TestKeys(length, rank=rank, processes=processes) for rank in range(processes)]
    assert len({len(keys) for keys in own}) == 1  # a sharded model needs all in every forward
    counted = [key[2] for keys in own for key in list(keys)[: keys.real]]
    assert sorted(counted) == list(range(length))


def test_draws_depend_on_the_key_and_leave_the_generators_alone() -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with drawing((1, 2, 3)):
        first = torch.rand(1).item(), random.random(), np.random.rand()
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    np.testing.assert_array_equal(states[2], np.random.get_state()[1])
    torch.rand(5), random.random(), np.random.rand()
    with drawing((1, 2, 3)):
        assert first == (torch.rand(1).item(), random.random(), np.random.rand())
    with drawing((1, 2, 4)):
        assert first[0] != torch.rand(1).item()


def test_balanced_keys_have_as_many_of_each_class() -> None:
    labels = [0] * 30 + [1] * 6 + [2] * 3
    keys = TrainKeys(39, seed=1, batch_size=6, labels=labels)
    keys.set_epoch(2)
    drawn = [index for _, _, index in keys]
    assert len(drawn) == len(keys) == 36
    assert Counter(labels[index] for index in drawn) == {0: 12, 1: 12, 2: 12}
    assert len({index for index in drawn if labels[index] == 0}) == 12
    assert Counter(index for index in drawn if labels[index] == 1) == dict.fromkeys(
        range(30, 36), 2
    )
    assert drawn == [index for _, _, index in keys]
    keys.set_epoch(3)
    assert drawn != [index for _, _, index in keys]


def test_balanced_is_refused_where_images_are_made_anew() -> None:
    with pytest.raises(OptionError, match="in equal shares"):
        open_data(DATA).loaders(recipe(sampler="balanced"))
