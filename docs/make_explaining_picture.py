"""The picture of docs/explain.md: a photo of scikit-image with one blurred quarter, explained by the backbone alone.

python docs/make_explaining_picture.py docs/pictures/explain.jpg
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from grmp_core.distortions import get
from pipelines.cli import main


def make(target: Path) -> None:
    photo = data.astronaut()  # 512 x 512, of NASA, public domain
    damaged = photo.copy()
    damaged[256:, 256:] = get("gaussian_blur")(photo, 4.0, np.random.default_rng(0))[256:, 256:]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photo.png")
        Image.fromarray(damaged).save(file)
        if main(["explain", str(file), "--model", "backbone", "--set", f"output={folder}/run"]):
            sys.exit(1)
        [made] = Path(folder, "run", "explain").glob("photo-*.png")
        picture = Image.open(made)
        picture.thumbnail((1400, 1400))
        picture.convert("RGB").save(target, quality=85)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
