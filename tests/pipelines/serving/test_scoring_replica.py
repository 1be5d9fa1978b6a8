"""The model of the scoring server, as its configuration sets it up, without Ray."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from grmp_core.imaging.decoding import ImageLimits
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.serving import ServeConfig
from pipelines.serving.scoring_replica import served_model


@pytest.mark.parametrize(
    ("images", "serve", "error"),
    [
        (900, 500, "too large: 32x30 is more than 500 pixels; raise serve.max_pixels"),
        (500, 900, "too large: 32x30 is more than 500 pixels; raise images.max_pixels"),
        (960, 960, None),
    ],
)
def test_an_image_that_is_too_large_is_told_the_setting_that_acts(unadapted_folder, images, serve, error):
    config = Config(
        images=ImageLimits(max_pixels=images),
        score=ScoreConfig(model=unadapted_folder),
        serve=ServeConfig(max_pixels=serve),
    )
    png = cv2.imencode(".png", np.full((30, 32, 3), 90, np.uint8))[1].tobytes()
    [score] = served_model(config).scorer.score([png])
    assert score.error == error
