"""Every row runs once, with rows of like length, within the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream.errors import SettingError
from fastembed_stream.plan import pack
from fastembed_stream.values import Ints

lengths_of_rows = st.lists(st.integers(0, 600), max_size=80).map(
    lambda lengths: np.array(lengths, dtype=np.int64)
)
budgets = st.integers(1, 3000)


@given(lengths_of_rows, budgets)
def test_every_row_is_planned_exactly_once(lengths: Ints, budget: int) -> None:
    planned = [row for group in pack(lengths, budget) for row in group.tolist()]
    assert sorted(planned) == list(range(len(lengths)))


@given(lengths_of_rows, budgets)
def test_a_group_is_within_the_budget_once_padded_unless_a_row_stands_alone(
    lengths: Ints, budget: int
) -> None:
    for group in pack(lengths, budget):
        assert len(group) == 1 or len(group) * lengths[group].max() <= budget


@given(lengths_of_rows, budgets)
def test_groups_come_longest_first_and_no_row_is_shorter_than_one_of_a_later_group(
    lengths: Ints, budget: int
) -> None:
    planned = [lengths[row] for group in pack(lengths, budget) for row in group]
    assert planned == sorted(planned, reverse=True)


@given(lengths_of_rows, budgets)
def test_a_group_takes_as_many_rows_as_the_budget_allows(lengths: Ints, budget: int) -> None:
    for group in pack(lengths, budget)[:-1]:
        assert (len(group) + 1) * max(lengths[group].max(), 1) > budget


def test_rows_of_one_length_keep_their_order() -> None:
    assert [group.tolist() for group in pack(np.full(4, 5), 10)] == [[0, 1], [2, 3]]


def test_no_rows_are_no_groups() -> None:
    assert pack(np.zeros(0, dtype=np.int64), 100) == []


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_refused(budget: int) -> None:
    with pytest.raises(SettingError, match=f"at least 1; got {budget}"):
        pack(np.ones(1, dtype=np.int64), budget)
