"""An encoded set on disk: `<output>/continual/sets/<name>`.

train.safetensors   what learning reads of the training part; may be deleted once the set's step has ended
test.safetensors    what measuring reads of the test part; may be deleted, at the price of cells of later steps
set.json            identity, scale, images, and what was left out; written last
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.evaluation.splits import Split
from grmp_core.identity import Identity, listed
from grmp_core.learning.labelled_views import LabelledViews, whole
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location
from pipelines.few_shot.encoded_target import EncodedTarget, tensor_of

_LABELS = ("target", "sweep.splits")
"""Settings of a set's identity that its labels decide."""
_TRAIN = ("train_tokens", "teacher_logits", "score_tokens", "statistics")
_TEST = ("score_tokens", "statistics")


@dataclass(frozen=True, kw_only=True, eq=False)
class TestPart:
    """Row i of all of them is one test image."""

    __test__ = False  # no test of pytest's

    score_tokens_NGTD: Tensor
    statistics_NF: Tensor
    quality_N: np.ndarray
    mos_N: np.ndarray


@dataclass(frozen=True)
class EncodedSet:
    """A set's folder, written and read here."""

    root: Location

    def identity(self, settings: dict[str, object], labels: tuple[str, str] | None) -> Identity:
        """Of what is to be here. labels: fingerprint of the labels, and digest of their splits or how these are drawn;
        null where the labels are gone, and those here count."""
        if labels is not None:
            return Identity.of({**dict(zip(_LABELS, labels, strict=True)), **settings})
        before = self.facts()["identity"]["settings"]
        return Identity.of({**{name: before[name] for name in _LABELS}, **settings})

    def is_here(self, identity: Identity | None = None) -> bool:
        """Whether the set was encoded. InputError where it was with other settings or labels than `identity` has."""
        if not (self.root / "set.json").exists():
            return False
        changes = identity.changes_from(self.facts()["identity"]) if identity is not None else []
        if changes:
            raise InputError(
                f"the set at {self.root.uri} is in the stream already, with other labels or settings "
                f"({listed(changes)}); give another output, or delete that folder if no step has learned from it"
            )
        return True

    def facts(self) -> dict[str, Any]:
        """Content of set.json."""
        return (self.root / "set.json").read_json()

    @property
    def digest(self) -> str:
        return str(self.facts()["digest"])

    @property
    def score_range(self) -> ScoreRange:
        return ScoreRange(**self.facts()["score_range"])

    @property
    def image_ids(self) -> list[str]:
        """Of both parts."""
        facts = self.facts()
        return [*facts["train"]["image_id"], *facts["test"]["image_id"]]

    def write(self, identity: Identity, encoded: EncodedTarget, split: Split, scale: ScoreRange, dataset: str) -> None:
        for part, rows, names in (("train", split.train, _TRAIN), ("test", split.test, _TEST)):
            arrays = {name: np.ascontiguousarray(encoded.arrays[name][encoded.row[rows]]) for name in names}
            labels = {"quality": encoded.quality[rows], "mos": encoded.mos[rows]}
            if part == "train" and encoded.weights is not None:
                labels["weights"] = encoded.weights[rows]
            (self.root / f"{part}.safetensors").write_bytes(save({**arrays, **labels}))

        def about(rows: np.ndarray) -> dict[str, list[str]]:
            columns = {"image_path": encoded.image_path, "image_id": encoded.image_ids}
            columns["reference_id"] = encoded.reference_ids
            return {name: [column[i] for i in rows] for name, column in columns.items()}

        content = {
            "identity": identity.record(),
            "digest": identity.digest,
            "dataset": dataset,
            "score_range": dataclasses.asdict(scale),
            "train": about(split.train),
            "test": about(split.test),
            "unreadable": list(encoded.unreadable),
        }
        (self.root / "set.json").write_json(content)

    def train_views(self, dtype: torch.dtype, device: torch.device) -> LabelledViews:
        """The training part. InputError where it was deleted."""
        arrays = self._arrays("train")
        return LabelledViews(
            tensor_of(arrays["train_tokens"], dtype).to(device),
            tensor_of(arrays["teacher_logits"], torch.float32).to(device),
            tensor_of(arrays["score_tokens"], dtype).to(device),
            torch.from_numpy(arrays["quality"].astype(np.float32)).to(device),
            torch.from_numpy(arrays["statistics"]),
            tuple(f"{self.root.name}/{name}" for name in self.facts()["train"]["reference_id"]),
            torch.from_numpy(arrays["weights"].astype(np.float32)).to(device) if "weights" in arrays else None,
        )

    def test_part(self, dtype: torch.dtype, device: torch.device) -> TestPart:
        """InputError where it was deleted."""
        arrays = self._arrays("test")
        return TestPart(
            score_tokens_NGTD=tensor_of(arrays["score_tokens"], dtype).to(device),
            statistics_NF=torch.from_numpy(arrays["statistics"]),
            quality_N=arrays["quality"],
            mos_N=arrays["mos"],
        )

    def has_test_part(self) -> bool:
        return (self.root / "test.safetensors").exists()

    def _arrays(self, part: str) -> dict[str, np.ndarray]:
        file = self.root / f"{part}.safetensors"
        if not file.exists():
            raise InputError(
                f"set {self.root.name}: its {part} part is gone ({file.uri}), and is needed; delete {self.root.uri} "
                "and run the command again with the images at hand"
            )
        return load(file.read_bytes())


def joined_views(parts: list[LabelledViews]) -> LabelledViews:
    """All images of several sets. Where one of them weighs its labels, those of the others weigh 1."""
    weighed = any(part.weight_N is not None for part in parts)
    weights = [torch.ones_like(part.quality_N) if part.weight_N is None else part.weight_N for part in parts]
    return LabelledViews(
        torch.cat([whole(part.train_tokens_NVTD) for part in parts]),
        torch.cat([part.teacher_logits_NVS for part in parts]),
        torch.cat([whole(part.score_tokens_NGTD) for part in parts]),
        torch.cat([part.quality_N for part in parts]),
        torch.cat([part.statistics_NF for part in parts]),
        tuple(name for part in parts for name in part.reference_ids),
        torch.cat(weights) if weighed else None,
    )
