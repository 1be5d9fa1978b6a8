"""Memory of the rating page, and the time to its first image, with a folder of 100,000 files.

    python -m tests.benchmarks.large_pool --folder DIR [--files 100000] [--minutes 5] [--set next.sample=0]

Fills DIR with hard links to a few drawn pictures, starts `grmp rate` on it in a process of its own, and rates as a
person with five seconds an image would. Prints JSON: seconds until the page has a question and until its first image
has come, and how long a processor has worked on that; the slowest question; the highest resident memory of the server
at some moments; and what the page said of its plan. Features and votes of an earlier run in DIR are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import requests

from grmp_core.procedural import scenes
from grmp_core.strict_json import json_text
from pipelines.labelling.own_files import FEATURES_NAME

DRAWN, PER_FOLDER = 60, 1000
SECONDS_PER_VOTE = 5.0
MOMENTS_S = (10, 30, 60, 120, 300, 600)


def fill(folder: Path, files: int) -> None:
    """Files of different names, a thousand in each sub-folder; those that are there are kept."""
    for number in range(files):
        place = folder / f"{number // PER_FOLDER:03}"
        path = place / f"{number:06}.png"
        original = folder / "000" / f"{number % DRAWN:06}.png"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if path == original:
            cv2.imwrite(str(path), scenes.reference(number, 96, 128)[:, :, ::-1])
        else:
            os.link(original, path)


def resident_mb(process: int, which: str) -> float:
    """`VmRSS`: now; `VmHWM`: at most so far."""
    text = Path(f"/proc/{process}/status").read_text()
    return round(int(re.search(rf"{which}:\s+(\d+) kB", text)[1]) / 1024, 1)


def cpu_s(process: int) -> float:
    """Seconds of a processor that a process has had: the time to wait for on a machine that does nothing else."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 2)


class Rater:
    """Asks and answers as the page does."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.question: dict[str, Any] = {}
        self.slowest_s = 0.0

    def get(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        method = "GET" if body is None else "POST"
        answer = requests.request(method, self.address + path, json=body, timeout=120)
        answer.raise_for_status()
        return answer.content

    def ask(self, body: dict[str, Any] | None = None) -> None:
        began = time.monotonic()
        self.question = json.loads(self.get("/vote", body) if body else self.get("/question?rater=Ann"))
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def vote(self, value: int) -> None:
        self.ask({"rater": "Ann", "id": self.question["id"], "images": self.question["images"], "value": value})


def measure(folder: Path, files: int, minutes: float, settings: list[str]) -> dict[str, Any]:
    shutil.rmtree(folder / FEATURES_NAME, ignore_errors=True)
    (folder / "votes.jsonl").unlink(missing_ok=True)
    fill(folder, files)
    sets = [part for setting in ("rate.port=0", *settings) for part in ("--set", setting)]
    began = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "pipelines.rate", str(folder), *sets], stderr=subprocess.PIPE, text=True
    )
    report: dict[str, Any] = {"files": files, "settings": settings}
    try:
        rater = Rater(next(found[1] for line in server.stderr if (found := re.search(r"open (http://\S+)", line))))
        while not rater.question.get("images"):
            rater.ask()
            time.sleep(0.1)
        report["question_s"] = round(time.monotonic() - began, 2)
        rater.get(f"/image/{rater.question['images'][0]}")
        report["first_image_s"] = round(time.monotonic() - began, 2)
        report["cpu_s_until_then"] = cpu_s(server.pid)
        report |= {"resident_mb": {}, "said": {}}
        moments = [moment for moment in MOMENTS_S if moment <= 60 * minutes]
        while (passed := time.monotonic() - began) < 60 * minutes:
            said = re.sub(r"[+-]?[0-9.]+", "…", rater.question["advice"])
            report["said"].setdefault(said, round(passed))
            if moments and passed >= moments[0]:
                now, most = (resident_mb(server.pid, which) for which in ("VmRSS", "VmHWM"))
                report["resident_mb"][moments.pop(0)] = {"now": now, "most": most}
            time.sleep(SECONDS_PER_VOTE)
            rater.vote(1 + (rater.question["done"] * 7) % 5)
        report |= {"votes": rater.question["done"], "slowest_question_s": round(rater.slowest_s, 2)}
        report["highest_mb"] = resident_mb(server.pid, "VmHWM")
        index = list((folder / FEATURES_NAME).glob("*/index.jsonl"))
        report["encoded"] = sum(file.read_bytes().count(b"\n") for file in index)
        report["features_on_disk_mb"] = round(
            sum(file.stat().st_size for file in (folder / FEATURES_NAME).rglob("*") if file.is_file()) / 2**20, 1
        )
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large_pool")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of grmp rate")
    options = parser.parse_args()
    print(json_text(measure(options.folder, options.files, options.minutes, options.set), indent=2))


if __name__ == "__main__":
    main()
