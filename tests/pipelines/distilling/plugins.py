"""A package with teachers, as pip would install it."""

from __future__ import annotations

from pathlib import Path

_MODULE = """
class Brightness:
    name, licence = "Brightness", "MIT"

    def __call__(self, images):
        return [float(image.mean()) for image in images]


class Nan(Brightness):
    name = "Nan"

    def __call__(self, images):
        return [float("nan")] * len(images)


class Fewer(Brightness):
    name = "Fewer"

    def __call__(self, images):
        return super().__call__(images)[1:]


class Raises(Brightness):
    name = "Raises"

    def __call__(self, images):
        raise ValueError("out of\\norder")


class Small(Brightness):
    name, parameters = "Small", 7


brightness, nan, fewer, raises, small = Brightness(), Nan(), Fewer(), Raises(), Small()
nameless = len
"""
NAMES = ("brightness", "nan", "fewer", "raises", "small", "nameless", "broken")


def install(folder: Path) -> None:
    """Into a folder of the path that Python imports from."""
    (folder / "brightness_teacher.py").write_text(_MODULE)
    info = folder / "brightness_teacher-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness-teacher\nVersion: 1.0\n")
    lines = "".join(f"{name} = brightness_teacher:{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[grmp.teachers]\n{lines}")
