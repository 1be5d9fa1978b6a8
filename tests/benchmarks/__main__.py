"""Every benchmark in one run, as one table of ratios: `python -m tests.benchmarks [--only NAME ...] [--quick]`.

Each benchmark has a process of its own, so that its peak memory is its own; Ray's workers are not in it. A ratio is the
speed of the first over that of the second, both of this run. Where a peer's code is not run, the last column names the
stand-in. Each benchmark also runs by itself and then prints more: `python -m tests.benchmarks.bench_steps --help`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.rows import Row, markdown, own_peak_mb

BENCHMARKS = {
    "distortions": "bench_distortions",
    "steps": "bench_steps",
    "scoring": "bench_scoring",
    "memory": "bench_memory",
    "loading": "bench_loading",
    "encoding": "bench_encoding",
    "synthesize": "bench_synthesize",
    "growth": "growth",
    "workers": "scale_model",
    "serving": "serving",
}


def measure_here(name: str, quick: bool, file: Path) -> None:
    """Run one benchmark in this process and write its rows as JSON."""
    rows: list[Row] = importlib.import_module(f"tests.benchmarks.{BENCHMARKS[name]}").rows(quick)
    peak_mb = own_peak_mb()
    file.write_text(json.dumps([{**dataclasses.asdict(row), "peak_mb": peak_mb} for row in rows]))


def measure_apart(name: str, quick: bool) -> list[Row]:
    """Run one benchmark in a process of its own, whose output goes to stderr. CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        command = [sys.executable, "-m", "tests.benchmarks", "--only", name, "--child", str(file)]
        subprocess.run([*command, "--quick"] if quick else command, check=True, stdout=sys.stderr)
        return [Row(**row) for row in json.loads(file.read_text())]


def machine() -> str:
    count, load = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), os.getloadavg()
    return f"{count} CPUs ({platform.machine()}), load {load[0]:.1f}, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try it: the ratios mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the machine to FILE")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw how costs grow (growth, workers) into a PNG FILE"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        measure_here(options.only[0], options.quick, options.child)
        return 0
    if options.plot is not None and not {"growth", "workers"} & set(options.only):
        parser.error("--plot draws what growth and workers measure: name one of them in --only")
    before, rows, failed = machine(), list[Row](), list[str]()
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += measure_apart(name, options.quick)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} (exit code {error.returncode})")
    print(markdown(rows))
    print(f"\n{before}" + (" --quick: these ratios mean nothing" if options.quick else ""))
    if options.json:
        content = {"machine": before, "quick": options.quick, "rows": [dataclasses.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1))
    if options.plot and any(row.curve for row in rows):
        from tests.benchmarks.growth import draw  # imports torch, which a run without a picture does without

        draw(rows, options.plot)
    if failed:
        print(f"FAILED, their rows are missing: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
