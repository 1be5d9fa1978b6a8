"""The folder of a stream of sets: every file in it is named, written and read here.

steps/<number>-<set>/             the model after a set: `TrialFolder`
steps/<number>-<set>/tests/       one file a set: SRCC of that model on the set's test part, and the gate's choice
srcc.csv                          SRCC: a row a step, a column a set
choice.csv                        the gate of the last step: a row a set, a column a head
manifest.json                     what made all this; written last
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.storage import Location, locate
from pipelines.results.sweep_folder import TrialFolder


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one set's test part."""

    srcc: float
    """NaN where it is not defined."""
    images: int
    choice: tuple[float, ...] = ()
    """Share of the images for which each head weighs most; empty without a gate."""


@dataclass(frozen=True)
class StreamFolder:
    """`<output>/continual/<method>`"""

    root: Location

    @classmethod
    def of(cls, output: str, method: str) -> StreamFolder:
        return cls(locate(output) / "continual" / method)

    def step(self, number: int, set_name: str) -> TrialFolder:
        """number: from 1 on."""
        return self.named_step(f"{number:02d}-{set_name}")

    def named_step(self, name: str) -> TrialFolder:
        return TrialFolder(self.root / "steps" / name)

    def steps(self) -> list[str]:
        """Names of the steps that have ended, in their order."""
        markers = (self.root / "steps").list("/trial.json", recursive=True)
        return [marker.parent.name for marker in markers]

    def check_order(self, names: Sequence[str]) -> None:
        """InputError where the steps that are here are not the first ones of a stream of these sets."""
        given = [f"{number:02d}-{name}" for number, name in enumerate(names, start=1)]
        for number, step in enumerate(self.steps(), start=1):
            if step not in given:
                raise InputError(
                    f"the stream at {self.root.uri} has {step.partition('-')[2]} as set {number}: name the sets that "
                    "are there first and in their order, and new ones behind them, or give another output"
                )

    # --- tests -------------------------------------------------------------------------------------------------------

    def _test(self, step: str, set_name: str) -> Location:
        return self.root / "steps" / step / "tests" / f"{set_name}.json"

    def cell(self, step: str, set_name: str, bundle: str, test: str) -> Cell | None:
        """As `write_cell` has written it for these digests of a bundle and a test part; null where it has not."""
        file = self._test(step, set_name)
        content = file.read_json() if file.exists() else {}
        if (content.get("bundle"), content.get("test")) != (bundle, test):
            return None
        srcc = float("nan") if content["srcc"] is None else content["srcc"]
        return Cell(srcc=srcc, images=content["images"], choice=tuple(content["choice"]))

    def write_cell(self, step: str, set_name: str, bundle: str, test: str, cell: Cell) -> None:
        about = {"bundle": bundle, "test": test, "images": cell.images, "choice": list(cell.choice)}
        self._test(step, set_name).write_json({**about, "srcc": cell.srcc})

    # --- the whole stream --------------------------------------------------------------------------------------------

    def write_tables(self, srcc: pd.DataFrame, choice: pd.DataFrame | None) -> None:
        (self.root / "srcc.csv").write_bytes(srcc.to_csv().encode())
        if choice is not None:
            (self.root / "choice.csv").write_bytes(choice.to_csv().encode())

    def manifest(self) -> dict[str, Any]:
        """InputError where no stream has ended here."""
        file = self.root / "manifest.json"
        if not file.exists():
            raise InputError(f"no stream at {self.root.uri}: manifest.json is missing; run grmp continual first")
        return file.read_json()

    def files(self) -> list[tuple[Location, str]]:
        """The files of a whole stream that there are, each with the folder below this one that it is in."""
        here = [self.root / name for name in ("manifest.json", "srcc.csv", "choice.csv")]
        return [(file, "") for file in here if file.exists()]

    def srcc(self) -> pd.DataFrame:
        """A row a step, a column a set, as `write_tables` has written it."""
        return pd.read_csv(io.BytesIO((self.root / "srcc.csv").read_bytes()), index_col=0)

    def rows(self) -> list[dict[str, Any]]:
        """Measurements of every step, in order: fields of `TrialResult`, its name and its number of labels."""
        folders = {name: self.named_step(name) for name in self.steps()}
        return [{**folder.finished(), "trial": n, "bundle": folder.bundle.uri} for n, folder in folders.items()]
