"""Is the new tuning of a camera better than the present one? For a build job: exit code 1 where it is worse.

    python docs/examples/compare_tunings.py present/ new/ --model models:/grmp-iqa@champion

Both folders hold the same scenes under the same names, taken with one tuning each. The model is one that was adapted to
your raters (`grmp sweep` or `grmp adapt`): it knows its own errors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("present", help="folder of photos with the present tuning")
    parser.add_argument("new", help="folder of the same scenes with the new one")
    parser.add_argument("--model", default="models:/grmp-iqa@champion")
    parser.add_argument("--output", default="runs/demo", help="folder of the runs, for a champion in its registry")
    options = parser.parse_args()
    command = ["grmp", "compare", options.new, options.present, "--json", "--model", options.model]
    done = subprocess.run([*command, "--set", f"output={options.output}"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return done.returncode  # grmp has said on the error stream what is wrong
    found = json.loads(done.stdout)
    print(summary(found))
    return 1 if verdict(found) == WORSE else 0


def verdict(found: dict[str, Any]) -> str:
    """By the interval of the mean difference, new less present, which is rather too wide."""
    if found["low"] > 0:
        return BETTER
    return WORSE if found["high"] < 0 else UNDECIDED


def summary(found: dict[str, Any]) -> str:
    """The verdict, its numbers, and the scenes to look at."""
    lost = sorted((s for s in found["scenes"] if s["probability"] < 0.5), key=lambda scene: scene["probability"])
    lines = [
        f"new tuning: {verdict(found)} (probability of better {found['probability']:.2f})",
        f"difference of quality {found['difference']:+.3f}, {found['low']:+.3f} to {found['high']:+.3f} "
        f"with {found['coverage']:.0%} confidence, {len(found['scenes'])} scenes",
    ]
    lines += [f"look at {s['scene']}: {s['quality_B']:.2f} before, {s['quality_A']:.2f} now" for s in lost[:5]]
    if found["unlike"]:
        lines.append(f"{found['unlike']} images are unlike all that the model knows: do not rely on these scores")
    return "\n".join([*lines, *(f"left out: {name}" for name in found["left_out"])])


if __name__ == "__main__":
    sys.exit(main())
