"""Which of the nine scenes a photo shows, by logistic regression on frozen features, learned from photos labelled by
looking.

`assets/biq2021_scenes.csv` holds such labels: one scene word a photo, the dominant one, and a second word where two
fit; `second` is not used for fitting. The photos are of BIQ2021's training part, of groups of neighbours that the
backbone's training holds out, one photo a group, drawn by a seed; they were labelled before any feature of them was
seen. A place is `night` if it is outdoors and dark and no person fills the picture; `others` are vehicles, signs, works
of art, and photos that show nothing.

Shapes: N photos, D features, C classes of ImageNet, S = 9 scenes in the order of SCENES.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmp_core.errors import InputError
from grmp_core.model.scene_words import SCENES

SPLIT_SEED = 0
"""Of the halves, and of the folds inside the first: part of the measure's rule."""
STRENGTHS = np.logspace(-4, 0.5, 10)
"""Inverse strengths of the regularization that are tried, for standardized features."""
FOLDS = 5
TEMPERATURES = (0.05, 20.0)
"""Bounds: photos that are told apart without an error would ask for 0."""
_SMALLEST = 2.0**-24  # of a half-precision number above zero: class probabilities are kept in half precision
_COLUMNS = ("image", "scene", "second")


@dataclass(frozen=True, kw_only=True)
class ScenePhoto:
    image: str
    """File name, without its folder."""
    scene: str
    """The dominant one of SCENES."""
    second: str | None
    """Another one that fits."""


def read_scene_table(path: str | Path) -> list[ScenePhoto]:
    """Rows of a CSV with columns image, scene, second (may be empty), in file order.

    InputError with the line for a word that is no scene, an image without a name, or named twice; and for a file that
    is absent, or has no such columns, or fewer than 2 * FOLDS photos of a scene.
    """
    if not Path(path).is_file():
        raise InputError(f"table of scenes '{path}' does not exist; give a CSV with columns {', '.join(_COLUMNS)}")
    photos: dict[str, ScenePhoto] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise InputError(f"'{path}' lacks a column; its first line has to name {', '.join(_COLUMNS)}")
        for row in reader:
            where = f"'{path}' line {reader.line_num}"
            image, scene, second = (row[column] or "" for column in _COLUMNS)
            if not image or image in photos:
                raise InputError(f"{where}: image '{image}' is {'named twice' if image else 'empty'}; one row a photo")
            if scene not in SCENES or second not in ("", *SCENES) or second == scene:
                raise InputError(f"{where}: '{scene}', '{second}' are not one or two of {', '.join(SCENES)}")
            photos[image] = ScenePhoto(image=image, scene=scene, second=second or None)
    rare = [s for s in SCENES if sum(photo.scene == s for photo in photos.values()) < 2 * FOLDS]
    if rare:
        raise InputError(f"'{path}' has too few photos of {', '.join(rare)}; a scene needs {2 * FOLDS}")
    return list(photos.values())


def scene_numbers(photos: Sequence[ScenePhoto]) -> np.ndarray:
    """(N,) index into SCENES of the dominant scene."""
    return np.array([SCENES.index(photo.scene) for photo in photos])


def halves(scenes_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the photos to fit on and to test on, each sorted: every scene is halved, by SPLIT_SEED."""
    fit, test = train_test_split(np.arange(len(scenes_N)), test_size=0.5, stratify=scenes_N, random_state=SPLIT_SEED)
    return np.sort(fit), np.sort(test)


class SceneMap:
    """A fitted map from features to scenes. All scenes weigh the same in fitting, however many photos they have.

    On features of EfficientNet-Lite0 as it was before any training of ours (`nano.teacher`), a map reads neither the
    backbone that is adapted nor the scene predictions that the regularization keeps.

    The strength is chosen by the mean macro accuracy over FOLDS stratified folds of the photos that it is fitted on;
    a temperature, fitted over the same folds, makes probabilities of the scores.
    """

    def __init__(self, features_ND: np.ndarray, scenes_N: np.ndarray) -> None:
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SPLIT_SEED)
        grid = {"logisticregression__C": STRENGTHS}
        features_ND = np.asarray(features_ND, dtype=np.float64)
        search = GridSearchCV(model, grid, cv=folds, scoring="balanced_accuracy").fit(features_ND, scenes_N)
        self.validation_macro_accuracy = float(search.best_score_)
        """In [0, 1], over the folds, at the chosen strength."""
        self._model = search.best_estimator_
        held_out_NS = cross_val_predict(self._model, features_ND, scenes_N, cv=folds, method="predict_proba")
        self.temperature = _temperature(held_out_NS, np.searchsorted(self._model.classes_, scenes_N))

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        """(N, S) adding up to 1, of which 0 for a scene that no fitted photo had."""
        probabilities_NS = np.zeros((len(features_ND), len(SCENES)))
        plain_NS = self._model.predict_proba(features_ND.astype(np.float64))
        probabilities_NS[:, self._model.classes_] = softmax(_log(plain_NS) / self.temperature, axis=1)
        return probabilities_NS

    def predict(self, features_ND: np.ndarray) -> np.ndarray:
        """(N,) index into SCENES of the most probable scene."""
        return self.probabilities(features_ND).argmax(axis=1)


def _temperature(probabilities_NS: np.ndarray, truth_N: np.ndarray) -> float:
    """With the least cross-entropy (Guo et al. 2017), within TEMPERATURES."""

    def cross_entropy(log_temperature: float) -> float:
        scaled_NS = log_softmax(_log(probabilities_NS) / np.exp(log_temperature), axis=1)
        return float(-scaled_NS[np.arange(len(truth_N)), truth_N].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(TEMPERATURES), method="bounded").x))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def class_features(classes_NC: np.ndarray) -> np.ndarray:
    """Class probabilities (N, C) of a classifier -> its logits (N, C), each row with mean 0."""
    logits_NC = np.log(np.maximum(classes_NC.astype(np.float64), _SMALLEST))
    return logits_NC - logits_NC.mean(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class SceneAccuracy:
    macro: float
    """Mean over the scenes of the share of their photos that are recognized, in [0, 1]."""
    standard_error: float
    """Of `macro`: binomial within each scene, given the map."""
    either_word: float
    """The same mean, where the second word counts as right too."""
    confusion_SS: np.ndarray
    """Photos by true scene (rows) and predicted scene (columns)."""


def scene_accuracy(photos: Sequence[ScenePhoto], predicted_N: np.ndarray) -> SceneAccuracy:
    """Accuracy of predictions, indices into SCENES. A scene that no photo has takes no part in means."""
    confusion_SS = confusion_matrix(scene_numbers(photos), predicted_N, labels=range(len(SCENES)))
    present = confusion_SS.sum(axis=1) > 0
    counts = confusion_SS.sum(axis=1)[present]
    recall = confusion_SS.diagonal()[present] / counts
    fits = np.array([SCENES[n] in (p.scene, p.second) for p, n in zip(photos, predicted_N, strict=True)])
    names = np.array([photo.scene for photo in photos])
    either = [fits[names == scene].mean() for scene in np.array(SCENES)[present]]
    return SceneAccuracy(
        macro=float(recall.mean()),
        standard_error=float(np.sqrt((recall * (1 - recall) / counts).sum()) / present.sum()),
        either_word=float(np.mean(either)),
        confusion_SS=confusion_SS,
    )
