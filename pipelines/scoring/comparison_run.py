"""Which of two images, or of two folders of the same scenes, is better."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.confidence.preference import Preference, preference
from grmp_core.errors import InputError
from grmp_core.model.scorer import untrusted_because
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.runtime.console import table
from pipelines.scoring.batch_scorer import score_inputs
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.inputs import find_images
from pipelines.scoring.model_lookup import open_model

_NAMED = 5
"""Left-out files that are named on the terminal."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Result of `grmp compare`."""

    model: str
    first: str
    second: str
    scenes: pd.DataFrame
    """One row a scene: name, quality and score of both, probability that the first is better."""
    result: Preference
    coverage: float
    scale: ScoreRange
    unlike: int
    """Images among them that are unlike those that the model knows."""
    left_out: tuple[str, ...]
    """Files without a partner or a score, with the reason."""

    @property
    def points(self) -> float:
        """Points of the human scores' scale in a quality of 1."""
        return self.scale.mos_max - self.scale.mos_min

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "first": self.first,
            "second": self.second,
            **asdict(self.result),
            "score_difference": self.points * self.result.difference,
            "score_low": self.points * self.result.low,
            "score_high": self.points * self.result.high,
            "coverage": self.coverage,
            "unlike": self.unlike,
            "left_out": list(self.left_out),
            "scenes": self.scenes.to_dict("records"),
        }

    def as_text(self) -> str:
        rows = [
            {
                "": side,
                "name": name,
                "scenes": len(self.scenes),
                "quality": self.scenes[f"quality_{side}"].mean(),
                "score": self.scenes[f"score_{side}"].mean(),
                "better in": int((self.scenes[f"quality_{side}"] > self.scenes[f"quality_{other}"]).sum()),
            }
            for side, other, name in (("A", "B", self.first), ("B", "A", self.second))
        ]
        found = self.result
        chance = found.probability
        ends = (found.low, found.difference, found.high)
        better = "A"
        if chance < 0.5:
            better, chance, ends = "B", 1 - chance, (-found.high, -found.difference, -found.low)
        low, ahead, high = (self.points * end for end in ends)
        lines = [
            table(rows),
            f"{better} is better with probability {_percent(chance)}: it is ahead by {ahead:.3g} points of the score, "
            f"{self.coverage:.0%} interval {low:.3g} to {high:.3g}",
        ]
        if self.unlike:
            lines.append(f"{self.unlike} images are unlike what the model knows: do not rely on their scores")
        lines += [f"left out: {reason}" for reason in self.left_out[:_NAMED]]
        if len(self.left_out) > _NAMED:
            lines.append(f"left out: {len(self.left_out) - _NAMED} more, which --json lists")
        return "\n".join([*lines, self.model])


def compare(config: Config) -> Compared:
    """Score both sides of `compare` with `score.model`, and weigh the difference by its held-out errors.

    Two single images are compared whatever their names; of folders, patterns and tables the files with the same name,
    without its ending, are two versions of one scene.

    InputError where a side is missing, the model's scores come without intervals, or no scene is on both sides.
    """
    first, second = config.compare.first, config.compare.second
    if not (first and second):
        raise InputError("two things to compare are needed: grmp compare A B, both images or both folders")
    model, bundle = open_model(config)
    reason = untrusted_because(bundle, config.score.grid)
    if reason or bundle.evidence is None or bundle.score_range is None:
        reason = reason or "it has no scale of human scores"
        fix = "leave score.grid at 0" if config.score.grid and not untrusted_because(bundle) else "name another"
        raise InputError(f"{model}: it cannot say how sure a comparison is, since {reason}; {fix}")
    pairs, left_out = _pairs(first, second)
    images = [image for _, *both in pairs for image in both]
    scores = score_inputs(config, bundle, model, images)
    sides = scores.iloc[0::2].reset_index(drop=True), scores.iloc[1::2].reset_index(drop=True)
    bad = sides[0]["error"].notna() | sides[1]["error"].notna()
    failed = scores[scores["error"].notna()]
    left_out += [f"{row.image_path}: {row.error}" for row in failed.itertuples()]
    if bad.all():
        raise InputError(f"no scene of {first} and {second} can be compared; the first: {left_out[0]}")
    good = ~bad.to_numpy()
    known = (bundle.evidence.predicted_N, bundle.evidence.quality_N, config.score.coverage, config.seed)
    a, b = (side["quality"].to_numpy(float)[good] for side in sides)
    scenes = pd.DataFrame(
        {
            "scene": np.array([name for name, *_ in pairs], dtype=object)[good],
            **{f"quality_{name}": values for name, values in (("A", a), ("B", b))},
            **{f"score_{n}": side["mos_scale_score"].to_numpy()[good] for n, side in zip("AB", sides, strict=True)},
            "probability": [preference(a[i : i + 1], b[i : i + 1], *known).probability for i in range(len(a))],
        }
    )
    return Compared(
        model=model,
        first=first,
        second=second,
        scenes=scenes,
        result=preference(a, b, *known),
        coverage=config.score.coverage,
        scale=bundle.score_range,
        unlike=int(scores["unlike"].eq(True).sum()),
        left_out=tuple(left_out),
    )


def _pairs(first: str, second: str) -> tuple[list[tuple[str, ImageInput, ImageInput]], list[str]]:
    """-> (scene, image of the first, image of the second) by name, and what has no partner."""
    sides = [find_images([entry]).images for entry in (first, second)]
    if all(map(_is_one_image, (first, second), sides)):
        name = _scene(sides[0][0], first)
        return [(name, sides[0][0], sides[1][0])], []
    left_out: list[str] = []
    by_scene: list[dict[str, ImageInput]] = []
    for entry, images in zip((first, second), sides, strict=True):
        names = [_scene(image, entry) for image in images]
        several = {name for name, count in Counter(names).items() if count > 1}
        for image, name in zip(images, names, strict=True):
            if name in several:
                left_out.append(f"{image.name}: {entry} has {name} more than once")
        by_scene.append({n: image for n, image in zip(names, images, strict=True) if n not in several})
    common = [name for name in by_scene[0] if name in by_scene[1]]
    for own, other, entry in ((by_scene[0], by_scene[1], second), (by_scene[1], by_scene[0], first)):
        left_out += [f"{image.name}: {entry} has no {name}" for name, image in own.items() if name not in other]
    if not common:
        raise InputError(
            f"{first} and {second} have no scene in common: files of one scene must have the same name, whatever its "
            f"ending (the first: {left_out[0]})"
        )
    return [(name, by_scene[0][name], by_scene[1][name]) for name in sorted(common)], left_out


def _is_one_image(entry: str, images: Sequence[ImageInput]) -> bool:
    """Whether it names an image itself, not a folder, pattern or table with one in it."""
    return len(images) == 1 and images[0].row < 0 and locate(images[0].path).path == locate(entry).path


def _scene(image: ImageInput, entry: str) -> str:
    """Name of an image as seen from a local folder, else its file name; without its ending."""
    inside = "://" not in entry and os.path.isdir(entry)
    name = os.path.relpath(image.name, entry) if inside else image.name.rsplit("/", 1)[-1]
    return os.path.splitext(name)[0].replace(os.sep, "/")


def _percent(probability: float) -> str:
    return "above 99.9 %" if probability > 0.999 else f"{probability:.1%}"
