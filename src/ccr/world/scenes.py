"""Visual content: scenes of one to three things, drawn from a limited set so that many look alike.

Coordinates are fractions of the picture, x to the right and y down. Scenes come in families: the members of a
family differ from its first scene in one or two attributes, which is what makes retrieval hard.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from zlib import crc32

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "heart", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "white")
SIZES = ("big", "small")
TEXTURES = ("plain", "striped", "dotted")
BACKGROUNDS = ("bg_black", "bg_grey", "bg_beige")
DIRECTIONS = {"move_left": (-1, 0), "move_right": (1, 0), "move_up": (0, -1), "move_down": (0, 1)}
IN_PLACE = ("still", "bounce", "circle_around", "spin", "grow", "shrink", "blink")
MOTIONS = (*DIRECTIONS, *IN_PLACE)
ACTS = ("chase", "approach", "leave", "orbit")
RELATIONS = ("left_of", "right_of", "above", "below")
PLACES = (
    ("at_top_left", "at_top", "at_top_right"),
    ("at_left", "at_middle", "at_right"),
    ("at_bottom_left", "at_bottom", "at_bottom_right"),
)
CELLS = (0.19, 0.5, 0.81)  # centres of columns and rows
RADIUS = {"big": 0.16, "small": 0.105}
FAMILY = 4
OPPOSITE = {"move_left": "move_right", "move_right": "move_left", "move_up": "move_down", "move_down": "move_up"}


@dataclass(frozen=True)
class Thing:
    """One shape. ``col`` and ``row`` (0..2) name its cell; a travelling thing crosses all cells along its direction."""

    shape: str
    colour: str
    size: str
    texture: str
    motion: str
    col: int
    row: int

    @property
    def place(self) -> str:
        """The place concept that holds in every frame."""
        dx, dy = DIRECTIONS.get(self.motion, (0, 0))
        return PLACES[1 if dy else self.row][1 if dx else self.col]


@dataclass(frozen=True)
class Scene:
    """``act`` is what the first thing does to the second, or None. ``jitter`` seeds small visual differences."""

    things: tuple[Thing, ...]
    background: str
    act: str | None
    jitter: int

    @property
    def facts(self) -> tuple:
        """Everything that a caption may say: scenes with equal facts are the same to a reader."""
        return self.things, self.background, self.act


def family(seed: int, split: str, number: int, moving: bool) -> list[Scene]:
    """The FAMILY scenes of one family. They depend on nothing else, so enlarging one split changes no other."""
    rng = np.random.default_rng([seed, crc32(split.encode()), number])
    first = draw(rng, moving)
    scenes = [first]
    while len(scenes) < FAMILY:
        scene = change(first, rng, moving)
        if rng.random() < 0.5:
            scene = change(scene, rng, moving)
        if all(scene.facts != known.facts for known in scenes):
            scenes.append(scene)
    return scenes


def draw(rng: np.random.Generator, moving: bool) -> Scene:
    """Draw a scene of one to three things that do not hide each other for long."""
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.45, 0.15]))
    act = str(rng.choice(ACTS)) if moving and count > 1 and rng.random() < 0.55 else None
    things = _pair(act, rng) if act else []
    while len(things) < (2 if act == "orbit" else count):
        thing = _thing(rng, _motion(rng, moving), *rng.integers(0, 3, 2))
        if not any(_collide(thing, other) or _alike(thing, other) for other in things):
            things.append(thing)
    return Scene(tuple(things), str(rng.choice(BACKGROUNDS)), act, _jitter(rng))


def change(scene: Scene, rng: np.random.Generator, moving: bool) -> Scene:
    """The scene with one attribute of one thing, or the background, replaced, if the result is valid."""
    which = int(rng.integers(len(scene.things)))
    thing = scene.things[which]
    what = str(rng.choice(["shape", "colour", "size", "texture", "motion", "background"]))
    scene = replace(scene, jitter=_jitter(rng))
    if what == "background":
        return replace(scene, background=_other(BACKGROUNDS, scene.background, rng))
    if what == "motion":
        return _change_motion(scene, which, rng) if moving else scene
    choices = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}[what]
    changed = replace(thing, **{what: _other(choices, getattr(thing, what), rng)})
    if not _visible(changed) or any(_alike(changed, other) for other in scene.things if other is not thing):
        return scene
    return _with(scene, {which: changed})


def tracks(scene: Scene, frames: int) -> np.ndarray:
    """Position of every thing: float64 (things, frames, 5) of x, y, radius, angle (radians), visible (0 or 1)."""
    time = np.linspace(0, 1, frames) if frames > 1 else np.array([0.5])
    paths = np.stack([_path(thing, time) for thing in scene.things])
    if scene.act:
        _act(paths, scene, time)
    rng = np.random.default_rng(scene.jitter)
    paths[:, :, :2] += rng.uniform(-0.015, 0.015, (len(paths), 1, 2))
    paths[:, :, 3] += rng.uniform(-0.12, 0.12, (len(paths), 1))
    return paths


@lru_cache(4096)
def relation(scene: Scene, first: int, second: int) -> str | None:
    """The spatial relation of two things that holds in every frame, if any."""
    a, b = tracks(scene, 9)[[first, second], :, :2]
    dx, dy = b.mean(0) - a.mean(0)
    axis, delta = (0, dx) if abs(dx) > 1.5 * abs(dy) else (1, dy) if abs(dy) > 1.5 * abs(dx) else (0, 0.0)
    low, high = (a, b) if delta > 0 else (b, a)
    if abs(delta) < 0.2 or low[:, axis].max() >= high[:, axis].min():
        return None
    return (("left_of", "right_of"), ("above", "below"))[axis][int(delta < 0)]


def _pair(act: str, rng: np.random.Generator) -> list[Thing]:
    """The thing that acts and the one acted upon, which look different."""
    if act == "orbit":
        motions, cells = ("circle_around", "still"), [(1, 1), (1, 1)]
    else:
        motion = str(rng.choice(list(DIRECTIONS)))
        motions = (motion, motion if act == "chase" else "still")
        cell = rng.integers(0, 3, 2)
        cells = [cell, cell if act == "chase" else _end(act, motion, cell)]
    while True:
        pair = [_thing(rng, motion, *cell) for motion, cell in zip(motions, cells, strict=True)]
        if not _alike(*pair):
            return pair


def _end(act: str, motion: str, cell: np.ndarray) -> np.ndarray:
    """The cell of the thing that is approached (ahead) or left (behind)."""
    step = np.array(DIRECTIONS[motion]) * (1 if act == "approach" else -1)
    return np.where(step != 0, 1 + step, cell)


def _thing(rng: np.random.Generator, motion: str, col: int, row: int) -> Thing:
    while True:
        texture = rng.choice(TEXTURES, p=[0.4, 0.3, 0.3])
        looks = (str(rng.choice(values)) for values in (SHAPES, COLOURS, SIZES))
        thing = Thing(*looks, str(texture), motion, int(col), int(row))
        if _visible(thing):
            return thing


def _motion(rng: np.random.Generator, moving: bool) -> str:
    return str(rng.choice(MOTIONS)) if moving else "still"


def _visible(thing: Thing) -> bool:
    """Whether the motion can be seen. Discs and rings must not spin: plain ones would look still."""
    return not (thing.motion == "spin" and thing.shape in ("circle", "ring"))


def _alike(a: Thing, b: Thing) -> bool:
    """Whether two things agree in colour and shape; a caption that names both must not fit two things of a scene."""
    return (a.shape, a.colour) == (b.shape, b.colour)


def _collide(a: Thing, b: Thing) -> bool:
    """Whether two things share cells for long (things that cross at a right angle do not)."""
    (ax, ay), (bx, by) = (DIRECTIONS.get(thing.motion, (0, 0)) for thing in (a, b))
    if (ax and by) or (ay and bx):
        return False
    same_col, same_row = a.col == b.col or ax or bx, a.row == b.row or ay or by
    return bool(same_col and same_row)


def _change_motion(scene: Scene, which: int, rng: np.random.Generator) -> Scene:
    """Another motion that keeps the layout valid: turn round, or do something else in place."""
    thing = scene.things[which]
    if scene.act and which < 2:
        if scene.act == "orbit":
            return scene
        doer, other = scene.things[:2]
        turned = replace(doer, motion=OPPOSITE[doer.motion])
        if scene.act == "chase":
            return _with(scene, {0: turned, 1: replace(other, motion=turned.motion)})
        act = {"approach": "leave", "leave": "approach"}[scene.act]
        return replace(_with(scene, {0: turned}), act=act)
    if thing.motion in OPPOSITE:
        return _with(scene, {which: replace(thing, motion=OPPOSITE[thing.motion])})
    changed = replace(thing, motion=_other(IN_PLACE, thing.motion, rng))
    return _with(scene, {which: changed}) if _visible(changed) else scene


def _path(thing: Thing, time: np.ndarray) -> np.ndarray:
    """One thing's track, (frames, 5), ignoring the others."""
    path = np.empty((len(time), 5))
    path[:] = CELLS[thing.col], CELLS[thing.row], RADIUS[thing.size], 0, 1
    turn = 2 * np.pi * time
    if thing.motion in DIRECTIONS:
        axis, sign = _axis(thing.motion)
        path[:, axis] = 0.5 + sign * (time - 0.5) * 0.74
    elif thing.motion == "bounce":
        path[:, 1] += 0.03 - 0.16 * np.abs(np.sin(1.5 * turn))
    elif thing.motion == "circle_around":
        path[:, 0] += 0.09 * np.cos(turn)
        path[:, 1] += 0.09 * np.sin(turn)
    elif thing.motion == "spin":
        path[:, 3] = turn * 0.75
    elif thing.motion == "grow":
        path[:, 2] *= 0.45 + 0.7 * time
    elif thing.motion == "shrink":
        path[:, 2] *= 1.15 - 0.7 * time
    elif thing.motion == "blink":
        path[:, 4] = (time * 8).astype(int) % 2 == 0
    return path


def _act(paths: np.ndarray, scene: Scene, time: np.ndarray) -> None:
    """Adjust the first two tracks to the act."""
    if scene.act == "orbit":
        paths[0, :, 0] = 0.5 + 0.32 * np.cos(2 * np.pi * time)
        paths[0, :, 1] = 0.5 + 0.32 * np.sin(2 * np.pi * time)
        return
    axis, sign = _axis(scene.things[0].motion)
    start, end = {"chase": (-0.37, 0.02), "approach": (-0.37, 0.08), "leave": (-0.08, 0.37)}[scene.act]
    paths[0, :, axis] = 0.5 + sign * (start + (end - start) * time)
    if scene.act == "chase":
        paths[1, :, axis] = paths[0, :, axis] + sign * 0.34


def _axis(motion: str) -> tuple[int, int]:
    dx, dy = DIRECTIONS[motion]
    return (0, dx) if dx else (1, dy)


def _with(scene: Scene, things: dict[int, Thing]) -> Scene:
    return replace(scene, things=tuple(things.get(i, thing) for i, thing in enumerate(scene.things)))


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return str(rng.choice([v for v in values if v != value]))


def _jitter(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
