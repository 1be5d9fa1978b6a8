"""Loading a backbone against open_clip's own way: build the model, load the file into it, make the tokenizer.

    python -m tests.benchmarks.bench_loading [--repeats 5]

Processor time of one thread. Both ways read a safetensors file; loading here also hashes the weights.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_model, save_model

from grmp_core.model.backbone import load_backbone
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from tests.benchmarks.rows import Row, compared, interleaved, markdown

MODELS = (EMBEDDED, "ViT-B-16-quickgelu")
PLAIN = "its model, weights and tokenizer by open_clip's calls"


def load_plainly(name: str, file: Path) -> None:
    load_model(open_clip.create_model(name, load_weights=False), file)
    open_clip.get_tokenizer(name)


def rows(quick: bool = False, repeats: int = 5) -> list[Row]:
    torch.set_num_threads(1)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS[: 1 if quick else None]:
            file = Path(folder, f"{name}.safetensors")
            save_model(open_clip.create_model(name, load_weights=False), str(file))
            config = BackboneConfig(name=name, checkpoint=str(file))
            own = f"loading {name}, not for the first time in a process"
            ways = {own: partial(load_backbone, config), PLAIN: partial(load_plainly, name, file)}
            seconds = interleaved(ways, 1 if quick else repeats, time.process_time)
            measured.append(compared(seconds, own, PLAIN, whose="open_clip"))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    measured = rows(repeats=parser.parse_args().repeats)
    print(markdown(measured))
    for row in measured:
        print(f"{row.what}: {row.seconds:.3f} s")


if __name__ == "__main__":
    main()
