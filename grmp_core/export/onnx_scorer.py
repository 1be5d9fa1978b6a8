"""A model as ONNX: uint8 crops in, quality out, with its preprocessing in the file's metadata.

The features of the class phrases are constants of the graph; the text tower is left out. Everything is computed in
float32, whatever the bundle's precision. Needs the extra `export`.

Shapes: B crops, any number; size = the model's input size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.differentiable import ImageQuality
from grmp_core.strict_json import json_text

OPSET = 18
PARITY = 1e-4
"""Largest difference of a quality from the bundle's own, on the CPU in float32."""
INPUT, OUTPUT = "crops", "quality"
METADATA = "grmp-iqa"
_ALL_BYTES = 2**31
"""Constants of any size are computed while exporting: onnxruntime fuses padding with the convolution behind it also
where it is the filter that is padded, and then refuses its own graph."""


class CropQuality(nn.Module):
    """uint8 crops (B, size, size, 3), RGB -> (B,) quality in [0, 1], 1 best, float32."""

    def __init__(self, bundle: Bundle, where: str, *, backbone: Backbone | None = None) -> None:
        """`where` names the bundle in messages. InputError when its backbone cannot be had or differs."""
        super().__init__()
        self.model = ImageQuality(dataclasses.replace(bundle, precision="fp32"), where, backbone=backbone)
        self.size_px = self.model.model.image_size_px

    def forward(self, crops_BHW3: Tensor) -> Tensor:
        return self.model.view_quality(crops_BHW3.permute(0, 3, 1, 2).float() / 255)


def preprocessing_of(bundle: Bundle, size_px: int) -> dict[str, Any]:
    """How a picture becomes the crops whose mean quality is its score: what every exported model carries."""
    views = bundle.views
    cut = {
        "crops": "at native resolution, enlarged only where the short side is smaller than a crop",
        "resize": "after the short side is resized to the crop's size (area, enlarged: cubic)",
        "official": "after a cubic stretch to a square 244/224 as large as a crop",
    }
    return {
        "input": f"uint8 RGB crops of {size_px} x {size_px} px, (batch, height, width, 3); no normalization",
        "size_px": size_px,
        "view": views.mode,
        "crops": f"{views.score_grid} x {views.score_grid}, evenly spread, {cut[views.mode]}",
        "grid": views.score_grid,
        "score": "mean quality of the crops, in [0, 1], 1 best",
        "colour_profiles": bundle.colour_profiles,
        "score_range": None if bundle.score_range is None else dataclasses.asdict(bundle.score_range),
    }


def onnx_bytes(net: CropQuality, bundle: Bundle) -> bytes:
    """The ONNX file of `net`, which was made of `bundle`. InputError without the packages of the extra `export`."""
    onnx, folding = _packages()
    crops = torch.zeros(2, net.size_px, net.size_px, 3, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            net,
            (crops,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"crops_BHW3": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
        if program is None:
            raise RuntimeError("the model could not be translated to ONNX")
        folding.fold_constants(program.model, input_size_limit=_ALL_BYTES, output_size_limit=_ALL_BYTES)
        folding.remove_unused_nodes(program.model)
    proto = program.model_proto
    _drop_traces(proto)
    about = {"digest": bundle.digest, "opset": OPSET, "preprocessing": preprocessing_of(bundle, net.size_px)}
    onnx.helper.set_model_props(proto, {METADATA: json_text(about)})
    buffer = io.BytesIO()
    onnx.save(proto, buffer)
    return buffer.getvalue()


def onnx_session(data: bytes) -> Any:
    """onnxruntime's session of a file, on the CPU with as many threads as torch has."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def largest_difference(data: bytes, net: CropQuality, crops_BHW3: np.ndarray) -> float:
    """Of the qualities that the file and the model give the crops, in batches of one and of all the others."""
    session = onnx_session(data)
    with torch.inference_mode():
        expected_B = net(torch.from_numpy(crops_BHW3)).numpy()
    parts = [session.run([OUTPUT], {INPUT: part})[0] for part in (crops_BHW3[:1], crops_BHW3[1:])]
    return float(np.abs(np.concatenate(parts) - expected_B).max())


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxscript.optimizer
    except ImportError as error:
        raise _missing(error) from error
    return onnx, onnxscript.optimizer


def _missing(error: ImportError) -> InputError:
    return InputError(f"ONNX needs the package {error.name}: pip install 'grmp-iqa[export]'")


def _drop_traces(proto: Any) -> None:
    """Remove the exporter's notes, which hold lines and paths of this machine's source files."""
    for node in [*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, proto.graph]:
        del node.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own steps and of decompositions that are not there, which nobody can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
