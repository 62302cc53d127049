"""Weights of a narrower AGM-Net as the start of a wider one that gives the same pictures: Chen et al., Net2Net, 2016.

What is new is read by nothing that was there, so the output stays; it is drawn at random, so that it can learn.
"""

from torch import Tensor, nn

Run = tuple[int, int]  # channels of one input, in the narrow and in the wide network


def widened(narrow: dict[str, Tensor], wide: nn.Module) -> dict[str, Tensor]:
    """The state of `wide` with that of a narrower AGM-Net of the same blocks inside; both are whole state dicts.

    Raises ValueError where the two differ in more than their width.
    """
    state = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    if set(state) != set(narrow):
        raise ValueError("these weights are of another network, not of a narrower one")
    c_old, c_new = narrow["body.fuse.squeeze.0.weight"].shape[1], state["body.fuse.squeeze.0.weight"].shape[1]
    for name, kept in narrow.items():
        new = state[name]
        if kept.ndim != new.ndim or any(a > b for a, b in zip(kept.shape, new.shape, strict=True)):
            raise ValueError(f"{name} of shape {tuple(kept.shape)} does not fit into {tuple(new.shape)}")
        rows = kept.shape[0]
        if new.ndim < 4:
            new[:rows] = kept
            continue
        new[:rows] = 0
        at_old = at_new = 0
        for old, wider in _inputs(name, kept.shape[1], new.shape[1], c_old, c_new):
            new[:rows, at_new : at_new + old] = kept[:, at_old : at_old + old]
            at_old, at_new = at_old + old, at_new + wider
    return state


def _inputs(name: str, old: int, new: int, c_old: int, c_new: int) -> list[Run]:
    """What a convolution reads, one after the other: AGMNet.forward joins two inputs before `encode` and `decode`."""
    part, level = name.split(".")[1:3]
    joined = not name.endswith("conv2.weight")
    if part == "decode" and joined:
        return [(old // 2, new // 2)] * 2
    if part == "encode" and joined and level != "0":
        return [(old - c_old, new - c_new), (c_old, c_new)]
    return [(old, new)]
