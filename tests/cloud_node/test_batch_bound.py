from cloud_node.batch_bound import BatchBound
from cloud_node.scheduler import Scheduler


def test_the_bound_falls_at_once_and_comes_back_in_steps() -> None:
    scheduler: Scheduler[str] = Scheduler(1_000, 8, 0)
    bound = BatchBound(scheduler, quiet_s=600)
    seen = []
    bound.relax(10_000)
    for now_s, fits_pixels in [(0, 300), (100, 500), (650, 0), (700, 0), (1_299, 0), (1_300, 0), (9_999, 0)]:
        if fits_pixels:
            bound.lower(fits_pixels, now_s)
        bound.relax(now_s)
        seen.append(scheduler.max_pixels)
    assert seen == [300, 300, 300, 600, 600, 1_000, 1_000]


def test_memory_that_runs_out_again_lowers_it_again() -> None:
    scheduler: Scheduler[str] = Scheduler(1_000, 8, 0)
    bound = BatchBound(scheduler, quiet_s=600)
    bound.lower(200, 0)
    bound.relax(600)
    assert scheduler.max_pixels == 400
    bound.lower(200, 700)
    bound.relax(1_250)
    assert scheduler.max_pixels == 200
    bound.relax(1_300)
    assert scheduler.max_pixels == 400


def test_a_bound_below_what_fits_stays() -> None:
    scheduler: Scheduler[str] = Scheduler(1, 8, 0)  # one frame at a time, as on a CPU
    bound = BatchBound(scheduler)
    bound.lower(240_000, 0)
    bound.relax(10_000)
    assert scheduler.max_pixels == 1
