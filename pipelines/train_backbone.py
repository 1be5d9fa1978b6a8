"""Train the embedded backbone: `grmp train_backbone prepare | train | average | measure | hashes | domain`.

`prepare` decodes photos once and asks the ImageNet classifier about them; `train` trains and is resumed by the same
command; `average` writes the mean of several runs; `measure` prints what weights can do; `hashes` writes what training
photos are recognized by, `domain` what images are told by that are unlike them. `pseudo-target` and `target-table`
write labels. Several training processes: `--train-workers 2` (Ray Train), or
`torchrun --nproc-per-node 2 -m pipelines.train_backbone train ...` here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from grmp_core.errors import InputError
from pipelines.backbone_training.options import parse


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments, __doc__.split("\n", 1)[0])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("grmp").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    from pipelines.backbone_training.actions import ACTIONS  # `--help` does without it

    try:
        ACTIONS[options.command](options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
