import numpy as np

from edge_node.solved_curve import flatter_curves, lifted


def test_white_is_curved_as_what_is_nearly_white() -> None:
    table = flatter_curves(0.9, 0.5)
    assert table.shape == (256,) and table[-1] == table[-2] < 0.01 and table[0] > 0.8


def test_each_pixel_is_lifted_by_its_own_curve() -> None:
    low = np.full((3, 1, 2), 30, np.uint8)
    lit = lifted(low, np.array([[0.0, 0.5]], np.float32))
    assert lit.shape == low.shape and lit.dtype == np.float32
    assert np.allclose(lit[:, 0, 0], 30 / 255, atol=1e-6) and (lit[:, 0, 1] > 0.5).all()
