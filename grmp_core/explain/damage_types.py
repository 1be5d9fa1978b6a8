"""Which type of damage an image shows, with probabilities, by the backbone's own sentences.

The sentences of the types and of an undamaged photo are compared with the image in several wordings. Logits are means
over wordings and crops; they become probabilities by temperature scaling with a bias for each type (Alexandari et al.
2020, "Maximum Likelihood with Bias-Corrected Calibration"), fitted by `fit` on photos which the backbone's training has
not seen. There all types and the undamaged photo are equally frequent; the probabilities are for a world where half of
the photos are undamaged and all types are equally frequent in the other half.

Shapes: N images, K types and the undamaged one as the last, E joint embedding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.imaging.views import Pixels, ViewConfig, scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.features import image_features
from grmp_core.model.zero_shot import sentence_features
from grmp_core.nano.captions import DISTORTION_PHRASES, NO_DISTORTION
from grmp_core.nano.sentences import TYPES
from grmp_core.strict_json import json_text

UNDAMAGED = "undamaged"
CALIBRATION = Path(str(resources.files("grmp_core"))) / "assets" / "type_calibration.json"
TYPE_VIEWS = ViewConfig(score_grid=2)
"""Crops of an image that its type is told by: those in the corners, at native resolution."""
_TEMPLATES = (
    "a photo with {}",
    "an image with {}.",
    "{}",
    "a picture that suffers from {}.",
    "there is {} in this photo.",
)


@dataclass(frozen=True, kw_only=True)
class TypeCalibration:
    """Calibration of the type logits of one set of weights: probabilities are softmax(logits / temperature + bias)."""

    weights_sha256: str
    temperature: float
    bias: dict[str, float]
    """By type, and of `undamaged`."""
    photos: int
    """Photos that it was fitted on, each with every type and once as it is."""


@dataclass(frozen=True, kw_only=True)
class TypeProbability:
    """One type of damage and how probable it is."""

    name: str
    """A name of the distortion registry, or `undamaged`."""
    group: str
    """Family of the type, `Distortion.group`; `undamaged`."""
    probability: float


class TypeDetector:
    """Recognizes `TYPES` and undamaged photos with one backbone."""

    def __init__(self, backbone: Backbone, calibration: TypeCalibration | None = None) -> None:
        """calibration: of these weights; null: the one that the package has for them, if any.

        InputError for a calibration of other weights.
        """
        if calibration is not None and calibration.weights_sha256 != backbone.weights_sha256:
            raise InputError("the calibration of types is of other weights; fit one for these")
        known = calibration or read_calibration()
        self.calibration = known if known and known.weights_sha256 == backbone.weights_sha256 else None
        self.backbone = backbone
        self.text_KE = _sentences_of_types(backbone)

    @property
    def is_calibrated(self) -> bool:
        return self.calibration is not None

    def log_probabilities(self, logits_NK: np.ndarray) -> np.ndarray:
        """Logits before the calibration -> (N, K) log probabilities; without a calibration those of their softmax."""
        if self.calibration is None:
            return np.asarray(log_softmax(logits_NK, axis=1))
        bias_K = np.array([self.calibration.bias[name] for name in (*TYPES, UNDAMAGED)])
        bias_K[-1] += np.log(len(TYPES))  # from one in K photos to half of them
        return np.asarray(log_softmax(logits_NK / self.calibration.temperature + bias_K, axis=1))

    def logits(self, unit_NE: Tensor) -> np.ndarray:
        """Unit features of crops -> (N, K) logits before the calibration."""
        scale = self.backbone.clip.get_parameter("logit_scale").detach().float().exp()
        return (scale * unit_NE @ self.text_KE.T).numpy()

    def log_undamaged(self, unit_NE: Tensor) -> np.ndarray:
        """Unit features of crops -> (N,) log probability that each is undamaged, by its own logits."""
        return np.asarray(self.log_probabilities(self.logits(unit_NE))[:, -1])

    def probabilities(self, image_HW3: Pixels) -> tuple[TypeProbability, ...]:
        """All types of one image, the most probable first; they add up to 1. ImageError for a thin strip."""
        crops_VHW3 = scoring_views(image_HW3, TYPE_VIEWS, self.backbone.image_size_px)
        logits_VK = self.logits(image_features(self.backbone, [crops_VHW3]).unit_NE)
        found = np.exp(self.log_probabilities(logits_VK.mean(axis=0, keepdims=True))[0])
        names = (*TYPES, UNDAMAGED)
        return tuple(
            TypeProbability(name=names[i], group=group_of(names[i]), probability=float(found[i]))
            for i in np.argsort(-found, kind="stable")
        )


def group_of(name: str) -> str:
    """Family of a type; `undamaged` for undamaged."""
    return UNDAMAGED if name == UNDAMAGED else get(name).group


def words_of(name: str) -> str:
    """A type in words, such as `gaussian blur`."""
    return "no damage" if name == UNDAMAGED else DISTORTION_PHRASES[name][0]


def fit_calibration(logits_NK: np.ndarray, truth_N: np.ndarray, penalty: float = 1e-3) -> tuple[float, np.ndarray]:
    """-> temperature and (K,) biases at which the true types are likeliest, less `penalty` times the squared biases."""
    truth_NK = np.eye(logits_NK.shape[1])[truth_N]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled_NK, bias_K = logits_NK * np.exp(-values[0]), values[1:]
        logs_NK = log_softmax(scaled_NK + bias_K, axis=1)
        errors_NK = (np.exp(logs_NK) - truth_NK) / len(truth_N)
        slope = np.concatenate([[-(errors_NK * scaled_NK).sum()], errors_NK.sum(axis=0) + 2 * penalty * bias_K])
        return -float((logs_NK * truth_NK).sum()) / len(truth_N) + penalty * float(bias_K @ bias_K), slope

    found = minimize(loss, np.zeros(1 + logits_NK.shape[1]), jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), found[1:]


def expected_calibration_error(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their size (Guo et al. 2017)."""
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(confidence_N[bin_N == b].mean() - right_N[bin_N == b].mean()) * np.mean(bin_N == b) for b in set(bin_N)]
    return float(sum(gaps))


def read_calibration(path: Path = CALIBRATION) -> TypeCalibration | None:
    """The calibration that the package ships; null where there is none."""
    return TypeCalibration(**json.loads(path.read_text())) if path.is_file() else None


def write_calibration(calibration: TypeCalibration, path: Path = CALIBRATION) -> None:
    path.write_text(json_text(vars(calibration), indent=2) + "\n")


@torch.inference_mode()
def _sentences_of_types(backbone: Backbone) -> Tensor:
    """(K, E): mean over wordings of the sentences of every type and of an undamaged photo."""
    phrases = [*(DISTORTION_PHRASES[name] for name in TYPES), (NO_DISTORTION,)]
    means = []
    for words in phrases:
        features = sentence_features(backbone, [t.format(word) for t in _TEMPLATES for word in words])
        means.append(features.mean(dim=0))
    return F.normalize(torch.stack(means), dim=-1)
