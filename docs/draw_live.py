"""Pictures of the live page, docs/images/live*.jpg:  make screenshots

A cloud node and an edge node with four cameras, each of which sees one scene of the demo's night clip over and over;
a headless Chromium looks at them, on a desk and on a phone.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from chromium import browser, until  # noqa: E402
from processes import Cloud, Process  # noqa: E402

SCENES = {"alley": (0, 5), "lake": (5, 10), "cafe": (10, 15), "pad": (15, 20)}  # frames of the clip
ALERTS = ("danger", "no parking")
LIT_UP_S = 25.0  # to look before the pictures are taken
SHOTS = {  # width, height, pixels a point, colours, camera, what is looked for
    "live": (1360, 930, 1, "dark", "alley", ""),
    "live-light": (1360, 930, 1, "light", "cafe", "cafe"),
    "live-phone": (375, 812, 2, "dark", "pad", ""),
}


def cameras(folder: Path) -> list[str]:
    """A settings file with a folder of frames for each camera."""
    with av.open(str(ROOT / "deploy/demo/night.mp4")) as clip:
        frames = [frame.to_image() for frame in clip.decode(video=0)]
    lines = []
    for name, (first, end) in SCENES.items():
        (folder / name).mkdir()
        order = [*range(first, end), *range(end - 2, first, -1)]  # there and back
        for place, number in enumerate(order):
            frames[number].save(folder / name / f"{place}.png")
        lines.append(f'[[camera]]\nsource = "{folder / name}"\nedge = "{name}"\n')
    (folder / "cameras.toml").write_text("loop = true\nfps = 0.2\nsending.in_flight = 1\n" + "".join(lines))
    return ["--config", str(folder / "cameras.toml")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images", metavar="DIR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cloud = Cloud()
        output = ["--cloud", cloud.address, "--output", str(folder / "readings"), "--live", "0"]
        output += [part for word in ALERTS for part in ("--alert", word)]
        edge = Process("-m", "edge_node", *cameras(folder), *output)
        try:
            url = edge.wait_for(r"live page: (\S+)").group(1)
            with browser() as launched:
                for name, (width, height, scale, colours, camera, wanted) in SHOTS.items():
                    context = launched.new_context(
                        viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=colours
                    )
                    page = context.new_page()
                    page.goto(f"{url}#{camera}")
                    page.locator("#stage.filled").wait_for(timeout=120_000)
                    until(lambda page=page: page.locator("#list li").count() > 3, "readings")
                    time.sleep(LIT_UP_S)
                    if wanted:
                        page.locator("#query").fill(wanted)
                        time.sleep(2)
                    page.screenshot(path=given.output / f"{name}.jpg", type="jpeg", quality=82)
                    context.close()
        finally:
            edge.end()
            cloud.end()


if __name__ == "__main__":
    main()
