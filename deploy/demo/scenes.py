"""The eight scenes of the night clip: photographs from scientific Python packages, and what hangs in them."""

from dataclasses import dataclass

from deploy.demo.signs import (
    BLACK,
    BLUE,
    CREAM,
    GREEN,
    PAPER,
    RED,
    SLATE,
    WHITE,
    WOOD,
    YELLOW,
    Line,
    Sign,
)

SERIF, MONO, SANS = "DejaVuSerif-Bold", "DejaVuSansMono-Bold", "DejaVuSans"
TIMES, ITALIC = "STIXGeneralBol", "DejaVuSerif-BoldItalic"


@dataclass(frozen=True)
class Photograph:
    """A picture inside an installed package, with whom to thank for it."""

    package: str
    path: str
    title: str
    author: str
    licence: str
    source: str


@dataclass(frozen=True)
class Lamp:
    """Light on the scene around a point, all in pixels of the frame; `level` 1 is daylight."""

    at: tuple[float, float]
    reach: float
    level: float


@dataclass(frozen=True)
class Window:
    """A lit window with a photograph behind it; the box is left, top, width, height in pixels of the frame."""

    box: tuple[int, int, int, int]
    photograph: str
    level: float = 0.35


@dataclass(frozen=True)
class Scene:
    """A photograph, its signs, its light, and how the camera moves: (x, y, zoom) at the start and at the end."""

    name: str
    photograph: str
    signs: tuple[Sign, ...]
    darkness: float  # how many times less light than by day
    start: tuple[float, float, float] = (0, 0, 1.06)
    end: tuple[float, float, float] = (0, 0, 1.12)
    turn: int = 0  # quarter turns of the photograph
    tint: tuple[float, float, float] = (1, 1, 1)
    lamps: tuple[Lamp, ...] = ()
    windows: tuple[Window, ...] = ()


CC0 = "CC0 1.0"
BY = "CC BY 2.0"
PHOTOGRAPHS = {
    "brick": Photograph("skimage", "data/brick.png", "Bricks25", "CC0 Textures", CC0, "https://cc0textures.com"),
    "gravel": Photograph("skimage", "data/gravel.png", "Gravel04", "CC0 Textures", CC0, "https://cc0textures.com"),
    "coffee": Photograph(
        "skimage", "data/coffee.png", "Coffee cup", "Rachel Michetti, Pikolo Espresso Bar", CC0, "scikit-image"
    ),
    "camera": Photograph(
        "skimage",
        "data/camera.png",
        "Camera",
        "Lav Varshney",
        CC0,
        "https://github.com/scikit-image/scikit-image/issues/3927",
    ),
    "cat": Photograph("skimage", "data/chelsea.png", "Chelsea the cat", "Stefan van der Walt", CC0, "scikit-image"),
    "rocket": Photograph(
        "skimage",
        "data/rocket.jpg",
        "DSCOVR on Falcon 9",
        "SpaceX",
        "public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820",
    ),
    "pagoda": Photograph(
        "sklearn",
        "datasets/images/china.jpg",
        "china.jpg",
        "danielbuechele",
        BY,
        "https://www.flickr.com/photos/danielbuechele/6061409035",
    ),
    "flower": Photograph(
        "sklearn",
        "datasets/images/flower.jpg",
        "flower.jpg",
        "vultilion",
        BY,
        "https://www.flickr.com/photos/vultilion/6056698931",
    ),
}

SCENES = (
    Scene(
        "alley",
        "brick",
        (
            Sign((Line("ROSENGASSE", 34, SANS),), (190, 105), BLUE, WHITE, WHITE, yaw=-18, roll=-1),
            Sign((Line("17", 44),), (390, 110), BLUE, WHITE, WHITE, yaw=-16),
            Sign(
                (Line("LOST CAT", 21), Line("0555 0142", 18, MONO)), (165, 262), PAPER, radius=1, roll=2, picture="cat"
            ),
            Sign((Line("NO PARKING", 18),), (420, 265), CREAM, RED, RED, yaw=-14, roll=-1),
        ),
        darkness=45,
        turn=1,
        tint=(1.5, 0.95, 0.75),
        end=(14, 6, 1.14),
    ),
    Scene(
        "lake",
        "pagoda",
        (
            Sign((Line("TEA HOUSE", 30, SERIF),), (205, 262), RED, YELLOW, YELLOW, yaw=8),
            Sign((Line("BOATS", 32), Line("10:00 - 18:00", 19)), (456, 185), GREEN, WHITE, WHITE, pole=True, yaw=10),
            Sign((Line("LAKE PATH 300 m", 17),), (456, 290), YELLOW, BLACK, pole=False, yaw=10),
        ),
        darkness=48,
        start=(-24, 0, 1.1),
        end=(24, 4, 1.1),
    ),
    Scene(
        "cafe",
        "coffee",
        (
            Sign(
                (Line("CAFE LUNA", 24, ITALIC), Line("ESPRESSO 2.40", 17), Line("LATTE 3.20", 17)),
                (462, 88),
                CREAM,
                (96, 58, 36),
                roll=5,
                radius=2,
            ),
            Sign((Line("RESERVED", 26, SERIF),), (125, 335), PAPER, BLACK, BLACK, roll=-8, radius=2),
            Sign((Line("TABLE 9", 22),), (480, 345), SLATE, (170, 176, 178), roll=4),
        ),
        darkness=50,
        end=(-6, -4, 1.1),
    ),
    Scene(
        "pad",
        "rocket",
        (
            Sign((Line("LAUNCH PAD 40", 26),), (170, 110), GREEN, WHITE, WHITE, pole=True, yaw=-12),
            Sign(
                (Line("DANGER", 36), Line("KEEP 500 m AWAY", 16)), (440, 240), YELLOW, BLACK, BLACK, pole=True, yaw=12
            ),
            Sign((Line("GATE B", 30),), (170, 250), WHITE, BLACK, RED, yaw=-12),
        ),
        darkness=32,
        end=(0, -10, 1.14),
    ),
    Scene(
        "park",
        "camera",
        (
            Sign(
                (Line("CITY PARK", 32, SERIF), Line("closes at 22:00", 19, SANS)),
                (455, 85),
                GREEN,
                CREAM,
                CREAM,
                pole=True,
                yaw=12,
            ),
            Sign((Line("KEEP OFF", 20), Line("THE GRASS", 20)), (470, 310), WHITE, BLACK, BLACK, pole=True),
            Sign((Line("TOILETS", 20),), (120, 340), BLUE, WHITE, WHITE, yaw=-14),
        ),
        darkness=48,
        tint=(0.96, 1.0, 0.94),
        start=(10, 0, 1.08),
        end=(-14, 4, 1.12),
    ),
    Scene(
        "bakery",
        "brick",
        (
            Sign((Line("BAKERY", 54, TIMES),), (200, 78), WOOD, (206, 176, 120), (206, 176, 120), yaw=6),
            Sign((Line("OPEN", 34),), (455, 110), RED, WHITE, WHITE, yaw=6),
            Sign(
                (Line("BREAD 4.10", 20), Line("ROLLS 0.60", 20), Line("CAKE 2.90", 20)),
                (458, 265),
                SLATE,
                WHITE,
                WOOD,
                yaw=6,
            ),
        ),
        darkness=50,
        turn=3,
        tint=(1.35, 1.2, 1.0),
        start=(-8, 0, 1.06),
        end=(10, 2, 1.1),
        windows=(Window((130, 165, 120, 150), "coffee"),),
        lamps=(Lamp((190, 240), 60, 0.06),),
    ),
    Scene(
        "station",
        "gravel",
        (
            Sign((Line("PLATFORM 3", 38),), (190, 85), BLUE, WHITE, yaw=-10),
            Sign(
                (Line("21:45 HAMBURG", 22, MONO), Line("22:10 PRAHA", 22, MONO), Line("22:38 WIEN", 22, MONO)),
                (220, 235),
                BLACK,
                YELLOW,
                yaw=-10,
            ),
            Sign((Line("EXIT", 46),), (485, 200), GREEN, WHITE, WHITE, yaw=-10),
        ),
        darkness=45,
        tint=(1.1, 1.02, 0.85),
        end=(8, 8, 1.14),
        lamps=(Lamp((560, 60), 75, 0.5),),
    ),
    Scene(
        "garden",
        "flower",
        (
            Sign(
                (Line("DAHLIA", 26, ITALIC), Line("3 for 12.00", 18, SERIF)),
                (460, 110),
                CREAM,
                (40, 60, 30),
                radius=3,
                roll=-4,
            ),
            Sign((Line("NURSERY", 30, SERIF),), (130, 75), WOOD, CREAM, yaw=-12),
            Sign((Line("WATER TAP", 18),), (115, 320), BLUE, WHITE, WHITE, yaw=-10),
            Sign((Line("B 47 KLM", 34),), (455, 325), WHITE, BLACK, BLACK, yaw=8, radius=4),
        ),
        darkness=34,
        start=(0, 6, 1.12),
        end=(0, -4, 1.06),
    ),
)
