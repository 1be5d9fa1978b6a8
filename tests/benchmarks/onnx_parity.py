"""The largest difference between a bundle's scores and those of its ONNX file over photos.

    python -m tests.benchmarks.onnx_parity PHOTOS [--model BUNDLE] [--photos 100]

PHOTOS is a folder; its first photos by name are scored. Without --model, the embedded backbone without adaptation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from grmp_core.export.onnx_scorer import CropQuality, onnx_bytes, onnx_session
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.listing import list_images
from grmp_core.imaging.views import scoring_views
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, read_bundle
from grmp_core.model.differentiable import unadapted
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.storage import locate


def differences(bundle: Bundle, paths: list[str]) -> np.ndarray:
    """|quality by ONNX - quality by the bundle| of each photo."""
    scorer, session = Scorer(bundle, "the bundle"), onnx_session(onnx_bytes(CropQuality(bundle, "the bundle"), bundle))
    size_px = scorer.predictor.model.image_size_px
    found = []
    for path in paths:
        crops = scoring_views(read_image(path), bundle.views, size_px)
        by_onnx = np.mean([session.run(["quality"], {"crops": crop[None]})[0] for crop in crops])
        found.append(abs(by_onnx - scorer.score([path])[0].quality))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.onnx_parity")
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--model", metavar="BUNDLE")
    parser.add_argument("--photos", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = read_bundle(locate(options.model)) if options.model else unadapted(load_backbone(BackboneConfig()))
    found = differences(bundle, list(list_images(str(options.folder)).paths)[: options.photos])
    print(f"{len(found)} photos: largest difference {found.max():.1e}, mean {found.mean():.1e}")


if __name__ == "__main__":
    main()
