"""Where in a photo damage is, told by comparing its crops with each other.

Whether a part of a photo was darkened cannot be told from that part alone: photos have dark places of their own. A
small network compares the crops of a photo, by what the backbone sees in them, and by straight seams and tones of their
pixels. `place_fit` taught it by photos with damage planted in one part.

Shapes: B images, C crops of one, N tokens, D their width, S statistics of a crop, those of tokens first. The network
also gets the centre of each crop, as shares of the photo's height and width, behind them: F = S + 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from grmp_core.explain.seams import seam_statistics, tone_statistics
from grmp_core.model.backbone import Backbone
from grmp_core.model.features import normalize
from grmp_core.model.settings import BackboneConfig
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.strict_json import json_text

WIDTH, HEADS = 128, 4
DROPOUT = (0.3, 0.15)
"""In training, of tokens' statistics and of pixels'."""
_LARGEST = 6.0
"""Standardized statistics are clipped to this."""
_ASSET = "{}.places.safetensors"


class Branch(nn.Module):
    """Statistics of the crops of photos, and what each differs by from their mean -> logits of damage.

    One layer of attention compares the crops with each other.
    """

    def __init__(self, statistics: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Linear(2 * statistics, WIDTH)
        self.compare = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.narrow = nn.Linear(WIDTH, WIDTH)
        self.logit = nn.Linear(WIDTH, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, seen_BCF: Tensor) -> Tensor:
        """-> (B, C)."""
        both = torch.cat([seen_BCF, seen_BCF - seen_BCF.mean(dim=1, keepdim=True)], dim=-1)
        hidden_BCW = self.compare(F.gelu(self.read(self.drop(both))))
        return self.logit(F.gelu(self.narrow(self.drop(hidden_BCW))))[..., 0]


class PlaceNetwork(nn.Module):
    """Statistics of the crops of photos -> a logit of damage for each crop, the sum of two branches.

    Args:
        center_F, scale_F: by which statistics are standardized.
        num_of_tokens: T, how many of them are of tokens.
    """

    center_F: Tensor
    scale_F: Tensor

    def __init__(self, center_F: Tensor, scale_F: Tensor, num_of_tokens: int) -> None:
        super().__init__()
        self.register_buffer("center_F", center_F)
        self.register_buffer("scale_F", scale_F)
        self.sizes = (num_of_tokens, len(center_F) - num_of_tokens)
        self.branches = nn.ModuleList(map(Branch, self.sizes, DROPOUT))

    def parts(self, seen_BCF: Tensor) -> list[Tensor]:
        """-> logits (B, C) of each branch."""
        standard = ((seen_BCF.float() - self.center_F) * self.scale_F).clamp(-_LARGEST, _LARGEST)
        seen = standard.split(self.sizes, dim=-1)
        return [branch(part_BCF) for branch, part_BCF in zip(self.branches, seen, strict=True)]

    def forward(self, seen_BCF: Tensor) -> Tensor:
        """-> (B, C) logits."""
        return torch.stack(self.parts(seen_BCF)).sum(dim=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaceDetector:
    """A network with its calibration, for one set of weights of a backbone."""

    weights_sha256: str
    network: PlaceNetwork
    temperature: float
    bias: float
    """A logit divided by the temperature, plus the bias, is the log odds of damage."""

    @torch.inference_mode()
    def log_undamaged(self, statistics_CS: np.ndarray, centres_C2: np.ndarray) -> np.ndarray:
        """Statistics and centres of all crops of one image -> (C,) log probability that a place in each is undamaged.

        It is calibrated for a world where half of the photos are undamaged, and the others are damaged in one part or,
        one in ten of them, all over.
        """
        seen_CF = np.column_stack([statistics_CS, centres_C2]).astype(np.float32)
        logits_C = self.network(torch.from_numpy(seen_CF)[None])[0]
        return np.asarray(F.logsigmoid(-logits_C / self.temperature - self.bias).numpy(), dtype=np.float64)

    def write(self, file: Path) -> None:
        """Weights in half precision, what standardizes statistics in single precision."""
        about = {"weights_sha256": self.weights_sha256, "temperature": self.temperature, "bias": self.bias}
        about |= {"num_of_tokens": self.network.sizes[0]}
        tensors = {name: parameter.detach().half() for name, parameter in self.network.named_parameters()}
        save_file(tensors | dict(self.network.named_buffers()), file, metadata={"about": json_text(about)})

    @classmethod
    def read(cls, file: Path) -> PlaceDetector:
        with safe_open(file, framework="pt") as opened:
            about = json.loads(opened.metadata()["about"])
            state = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118 (it is no dict)
        network = PlaceNetwork(state["center_F"], state["scale_F"], about.pop("num_of_tokens"))
        network.load_state_dict(state)
        return cls(network=network.eval(), **about)


@dataclass(frozen=True, kw_only=True, eq=False)
class CropLooks:
    """Features of C crops, and the statistics that a detector reads."""

    unit_CE: Tensor
    """Features of the image tower, of length one."""
    statistics_CS: np.ndarray
    """float32: mean and spread over a crop's tokens before the first block, and after the last one, which a tower in
    one piece lacks; seams and tones of its pixels."""
    num_of_tokens: int
    """Statistics that are of tokens; the first ones."""


@torch.inference_mode()
def look_at_crops(backbone: Backbone, batches: Iterable[np.ndarray]) -> CropLooks:
    """Look at uint8 crops, given as one or more batches (B, size, size, 3)."""
    tower = open_vision_tower(backbone.clip)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    dtype = next(backbone.clip.parameters()).dtype
    units, statistics = list[Tensor](), list[np.ndarray]()
    for crops in batches:
        early = tower.embed(normalize(torch.from_numpy(crops), mean, std).to(dtype))
        late = tower.run(early, None, 0)
        units.append(F.normalize(tower.project(tower.pool(late)).float(), dim=-1))
        tokens = [part.float() for part in (early, late) if part.dim() == 3]
        moments = [of(part_BND, dim=1).numpy() for part_BND in tokens for of in (torch.mean, torch.std)]
        statistics.append(np.concatenate([*moments, seam_statistics(crops), tone_statistics(crops)], axis=1))
    num_of_tokens = sum(part.shape[1] for part in moments)
    return CropLooks(unit_CE=torch.cat(units), statistics_CS=np.concatenate(statistics), num_of_tokens=num_of_tokens)


def detector_file(backbone: str) -> Path:
    """Where the package ships the detector of a backbone, if it does."""
    return Path(str(resources.files("grmp_core"))) / "assets" / _ASSET.format(backbone.replace("/", "-"))


def detector_of(backbone: BackboneConfig, weights_sha256: str) -> PlaceDetector | None:
    """The detector of a backbone; null where the package has none for these weights and their own normalization."""
    file = detector_file(backbone.name)
    if backbone.normalization != "own" or not file.is_file():
        return None
    detector = PlaceDetector.read(file)
    return detector if detector.weights_sha256 == weights_sha256 else None
