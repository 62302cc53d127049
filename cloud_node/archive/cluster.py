"""The same over a Ray cluster, whose machines see the archive under one path: Ray Data hands out shards and restarts
workers that die (https://docs.ray.io/en/latest/data/data.html).
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from cloud_node.archive.files import Archive
from cloud_node.archive.pipeline import Done, Limits, Pipeline
from cloud_node.engine import Engine, choose_devices
from common.errors import LamplightError, SettingsError

SHARD = 256  # images that a worker takes at once


def enhance_on(
    address: str, archive: Archive, preset: str, limits: Limits, *, workers: int = 0, on_gpus: bool = True
) -> Iterator[Done]:
    """Enhance with `workers` engines (0 = as many as the cluster has GPUs, or one for each 2 CPUs).

    Args:
        address: of the cluster, as Ray understands it; "local" starts one on this machine.

    Raises:
        SettingsError: Ray is not installed, no cluster is there, or it has no GPU although `on_gpus`.
        LamplightError: as `Pipeline.run`.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingsError(f"--ray needs Ray: pip install 'lamplight[ray]' ({error})") from None
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"--ray {address}: {reason}; is there a cluster? `local` starts one here") from None
    try:
        has = ray.cluster_resources()
        if on_gpus and not has.get("GPU"):
            raise SettingsError("--ray: the cluster has no GPU; say --device cpu to do without")
        workers = workers or max(1, int(has["GPU"] if on_gpus else has.get("CPU", 1) // 2))
        ray.data.DataContext.get_current().enable_progress_bars = False
        shards = ray.data.from_items([{"images": shard} for shard in _shards(archive.images())] or [{"images": []}])
        done = shards.repartition(target_num_rows_per_block=1).map_batches(
            _Worker,
            fn_constructor_kwargs={"archive": archive, "preset": preset, "limits": limits, "on_gpu": on_gpus},
            batch_size=1,
            concurrency=workers,
            num_gpus=1 if on_gpus else 0,
            num_cpus=1,
        )
        for row in done.iter_rows():
            yield _done(row)
    finally:
        ray.shutdown()


def _shards(images: Iterator[str]) -> Iterator[list[str]]:
    while shard := list(islice(images, SHARD)):
        yield shard


def _done(row: dict[str, Any]) -> Done:
    """Raises LamplightError as it was in the worker."""
    if row["failure"]:
        error = LamplightError(str(row["reason"]))
        error.exit_code = int(row["failure"])
        raise error
    return Done(str(row["image"]), int(row["pixels"]), str(row["reason"]), bool(row["was_there"]))


def _pipeline(archive: Archive, preset: str, limits: Limits, on_gpu: bool) -> Pipeline:
    [device], _ = choose_devices([0] if on_gpu else None, "" if on_gpu else "cpu")
    return Pipeline(archive, Engine(device, preset), limits)


class _Worker:
    """One engine of the cluster, in a process of Ray's.

    Errors of ours come back as rows, and the engine is made with the first shard: of what is raised here Ray hands over
    a text of pages.
    """

    def __init__(self, archive: Archive, preset: str, limits: Limits, on_gpu: bool) -> None:
        self._make = partial(_pipeline, archive, preset, limits, on_gpu)
        self._pipeline: Pipeline | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        failure = 0
        try:
            self._pipeline = self._pipeline or self._make()
            done = [done for images in batch["images"] for done in self._pipeline.run(map(str, images))]
        except LamplightError as error:
            done, failure = [Done("", reason=str(error))], error.exit_code
        rows = {name: [getattr(one, name) for one in done] for name in ("image", "pixels", "reason", "was_there")}
        return {**rows, "failure": [failure] * len(done)}
