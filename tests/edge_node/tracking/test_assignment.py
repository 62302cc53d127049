"""The pairing is the cheapest there is: as SciPy finds it."""

import numpy as np
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from edge_node.tracking.assignment import assign

MOST = 8.0


@settings(max_examples=examples(150))
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_as_scipy(rows: int, columns: int, seed: int, far: float) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.normal(5, 4, (rows, columns))
    costs[rng.random((rows, columns)) < far] = np.inf
    pairs = assign(costs, MOST)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    best = np.minimum(costs, MOST) - MOST  # at worst both stay alone
    chosen = best[linear_sum_assignment(best)].sum() if rows and columns else 0.0
    assert abs(sum(costs[pair] - MOST for pair in pairs) - chosen) < 1e-9
