"""Do the detector, the recogniser and the local enhancer load and run here?"""

from dataclasses import replace

import numpy as np

from edge_node.check.finding import Figure, Group, in_thread, timed
from edge_node.detector_size import Side
from edge_node.reader import create_reader
from edge_node.settings import EdgeSettings

LIMIT_S = 60.0
ADVICE = "pip install --force-reinstall 'lamplight[edge]'"
OTHER_WEIGHTS = "install the rapidocr that constraints.txt names, or give weights of this one"


async def check_models(given: EdgeSettings, found: Group) -> None:
    """One after the other, so that each time is its own."""
    if given.reading.detector == "none":
        found.skip("detector", "--detector none")
    else:
        figures = await found.within(LIMIT_S, "detector", in_thread(lambda: _detect(given)), ADVICE)
        if figures is not None:
            found.ok("detector", f"{given.reading.detector}: {_times(figures)}", **figures)
    if given.reading.detector != "none" and given.reading.recognize:
        read = await found.within(LIMIT_S, "recogniser", in_thread(lambda: _recognize(given)), ADVICE)
        if read is not None:
            figures, untaught = read
            text = _times(figures, "a region of 320x48")
            if untaught:
                found.warn("recogniser", f"{untaught}; {text}", OTHER_WEIGHTS, **figures)
            else:
                found.ok("recogniser", text, **figures)
    figures = await found.within(LIMIT_S, "local enhancer", in_thread(_enhance), ADVICE)
    if figures is not None:
        found.ok("local enhancer", f"{figures['model']}: {_times(figures)}", **figures)


def _times(figures: dict[str, Figure], of: str = "320x240") -> str:
    return f"loads in {figures['load_ms']:.0f} ms, takes {figures['ms']:.0f} ms for {of}"


def _detect(given: EdgeSettings) -> dict[str, Figure]:
    reading, figures = given.reading, dict[str, Figure]()
    with timed(figures, "load_ms"):
        reader = create_reader(
            replace(reading, detector_side=Side(min(reading.detector_side or 240, 240)), recognize=False)
        )
        reader.load()
    with timed(figures):
        reader.read(_picture())
    return figures


def _recognize(given: EdgeSettings) -> tuple[dict[str, Figure], str]:
    """Times, and why it does not read as it was taught."""
    from common.text_recognition import CTCRecognizer

    figures: dict[str, Figure] = {}
    with timed(figures, "load_ms"):
        reading = given.reading
        recognizer = CTCRecognizer(reading.recognizer, threads=reading.detector_threads, like=reading.recognize_like)
        recognizer.load()
    with timed(figures):
        recognizer.spell(_picture(), ((0, 0), (320, 0), (320, 48), (0, 48)))
    return figures, recognizer.untaught


def _enhance() -> dict[str, Figure]:
    from edge_node.local_enhancer import LocalEnhancer

    figures: dict[str, Figure] = {}
    with timed(figures, "load_ms"):
        enhancer = LocalEnhancer()
    with timed(figures):
        enhancer.enhance(_picture())
    return {"model": enhancer.model, **figures}


def _picture() -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """(240, 320, 3), dark noise."""
    return np.random.default_rng(0).integers(0, 30, (240, 320, 3), dtype=np.uint8)
