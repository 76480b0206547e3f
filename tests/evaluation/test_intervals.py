"""Intervals and tests for samples of groups, against known values."""

import numpy as np
import pytest
from scipy import stats

from genrepro.evaluation.intervals import (
    clusters,
    difference,
    jackknife,
    positive,
    proportion,
    sign_flip,
    unit_sums,
)


def mean(sums):
    return sums[..., 1:].T / sums[..., 0]


def test_a_group_and_a_clip_without_one_are_units():
    assert clusters(["a", "b", "a"], ["", "", ""]).tolist() == [0, 1, 0]
    assert clusters(["a", "b", "c"], ["g", "g", ""]).tolist() == [1, 1, 0]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).exponential(1, 200)
    columns = np.column_stack([np.ones(200), values])
    (found,) = jackknife(unit_sums(columns, np.arange(200)), mean)
    assert found.value == pytest.approx(values.mean())
    assert found.variance == pytest.approx(stats.sem(values) ** 2)
    assert (found.units, found.rows, found.effective_units) == (200, 200, 200)


def test_one_dominant_unit_leaves_one_degree_of_freedom():
    sums = np.column_stack([np.full(30, 10.0), [10.0] * 29 + [0.0]])
    (found,) = jackknife(sums, mean)
    assert found.freedom == pytest.approx(1, abs=0.2)


def test_independent_trials_have_the_interval_of_clopper_and_pearson():
    right = np.arange(80) < 60
    (found,) = jackknife(np.column_stack([np.ones(80), right]), mean)
    expected = stats.binomtest(60, 80).proportion_ci(0.95, method="exact")
    assert proportion(found, 0.95) == {
        "low": pytest.approx(expected.low, abs=1e-6),
        "high": pytest.approx(expected.high, abs=1e-6),
    }


def test_a_loss_has_a_positive_interval():
    losses = np.random.default_rng(0).exponential(1, 40) ** 3
    (found,) = jackknife(np.column_stack([np.ones(40), losses]), mean)
    low, high = positive(found, 0.95).values()
    assert 0 < low < losses.mean() < high


def test_equal_gains_in_every_group_still_have_a_width():
    low, high = difference(np.full(12, 2.0), np.full(12, 10), 0.95).values()
    assert low < 0.2 - 0.03 and high > 0.2 + 0.03


def test_models_that_never_differ_may_still_differ_a_little():
    low, high = difference(np.zeros(50), np.ones(50), 0.95).values()
    assert 0.02 < high < 0.1 and low == -high


def test_random_signs_over_few_groups_are_enumerated():
    gains = np.array([1.0, 2, 3, 4, 5, 6])
    assert sign_flip(gains) == pytest.approx(2 / 2**6)
    assert sign_flip(gains * [-1, 1, 1, 1, 1, 1]) == pytest.approx(2 * 2 / 2**6)
    assert sign_flip(np.zeros(9)) == 1


def test_random_signs_over_many_groups_are_drawn_the_same_each_time():
    gains = np.random.default_rng(0).normal(0.3, 1, 60)
    p = sign_flip(gains)
    assert p == sign_flip(gains) == pytest.approx(sign_flip(-gains), abs=0.01)
    assert p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=0.3)
