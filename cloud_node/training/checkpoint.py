"""What a training leaves on disk: written whole or not at all, and read back with the reason why not."""

import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from cloud_node.laegan import LAEGAN, save
from common.files import sync_folder

FORMAT = 2  # of a checkpoint; 1 had no fingerprint


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what is kept."""


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of tensors and plain values. TrainingError where the disk refuses; the old one stays whole."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as an internal error
    torch.save({"format": FORMAT, **state}, buffer)
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            file.write(buffer.getbuffer())
        _replace(fresh, path)
    except OSError as error:
        raise _refused(path, fresh, error) from error


def load_state(path: Path, fingerprint: dict[str, str]) -> dict[str, Any]:
    """A checkpoint's state, tensors on the CPU.

    Raises TrainingError for a file that is truncated or no checkpoint, and for one of another training: where its
    fingerprint is not this one, with the first thing that differs.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises as many kinds as a file can be broken in
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(f"{path} is truncated or no checkpoint: {what}. Remove it to begin anew") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is no checkpoint of this version. Remove it to begin anew, or choose another --out"
        )
    for what, wanted in fingerprint.items():
        if (found := state["fingerprint"].get(what, wanted)) != wanted:
            raise TrainingError(
                f"{path} is a training of {what} {found!r}, not of {wanted!r}: choose another --out, or repeat the "
                "command that began it"
            )
    return state


def save_weights(model: LAEGAN, preset: str, path: Path, version: str, steps: int) -> None:
    """Write the generator's weights so that `laegan.load(preset, path)` reads them; the old file stays whole.

    Raises TrainingError as `save_state` and `check_numbers`.
    """
    check_numbers(model.state_dict(), path, half=True)
    fresh = path.with_suffix(".new")
    try:
        save(model, preset, fresh, version=version, steps=steps)
        fresh.chmod(0o644)  # safetensors makes it readable by its owner only
        _replace(fresh, path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, fresh, error) from error


def check_numbers(tensors: Mapping[str, Tensor], path: Path, half: bool = False) -> None:
    """TrainingError with the name of the first tensor that holds a number which `path` cannot keep.

    half: for a file in half precision, which ends at 65504.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or bool((tensor.half() if half else tensor).isfinite().all()):
            continue
        what = "numbers above 65504, the largest in half precision" if tensor.isfinite().all() else "no finite numbers"
        raise TrainingError(f"{path} is not written: {name!r} holds {what}; {_kept(path)}. Try a lower --rate")


def _replace(fresh: Path, path: Path) -> None:
    """At no time is the file half there, also when the power goes; then it is there to stay."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(fresh, path)
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise TrainingError(
            f"{path} is written, but after a power cut it may be what was there before: {error.strerror or error}; "
            "look after the disk and run the same command again"
        ) from None


def _kept(path: Path) -> str:
    return f"what was saved before is whole: {path}" if path.exists() else "nothing was saved before"


def _refused(path: Path, fresh: Path, error: Exception) -> TrainingError:
    fresh.unlink(missing_ok=True)
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error)
    why = "the disk is full" if full else str(error)
    return TrainingError(
        f"{path} cannot be written, {why}; {_kept(path)}. Make room, then the same command goes on from there"
    )
