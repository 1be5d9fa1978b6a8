"""A group of trials in Ray Tune, with a stand-in for Tune."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.trial import Trial
from pipelines.sweeping import trial_pool
from pipelines.sweeping.trial_pool import Runner, TrialGroup

LARGEST = Trial(strength=0, shots=6, budget=6, data_ratio=1, split_seed=0)
REPORT = {"val_srcc": 0.5, "epochs": 3, "seconds": 1.0}


def runner_whose_trials(monkeypatch: pytest.MonkeyPatch, folder: SweepFolder, ends: list[str]) -> Runner:
    """Tune writes its folder and comes back after trials have ended in these ways, whatever else was planned."""

    class Tuner:
        def __init__(self, trainable: Any, *, run_config: Any, **options: Any) -> None:
            self.name, (self.progress,) = run_config.name, run_config.callbacks

        def fit(self) -> list[SimpleNamespace]:
            (folder.root / self.name / "state.json").write_json({})
            self.progress.setup()
            results = []
            for number, how in enumerate(ends):
                trial = SimpleNamespace(config={"trial": str(number)}, last_result=REPORT)
                error = ValueError("no memory") if how == "failed" else None
                end = self.progress.on_trial_error if error else self.progress.on_trial_complete
                end(iteration=0, trials=[], trial=trial)
                results.append(SimpleNamespace(config=trial.config, error=error))
            return [*results, SimpleNamespace(config={"trial": "cut off"}, error=None)]

    monkeypatch.setattr(trial_pool.tune, "Tuner", Tuner)
    monkeypatch.setattr(Runner, "_request", lambda *_: {"CPU": 1})
    return Runner(Config(), *[None] * 3, folder, None)  # type: ignore[list-item, arg-type]


def group(total: int) -> TrialGroup:
    return TrialGroup(
        trainable=lambda params: None, space={}, constants={}, total=total, name_of=lambda params: params["trial"],
        largest=LARGEST,
    )  # fmt: skip


def tune_folders(folder: SweepFolder) -> list[str]:
    return [file.parent.name for file in folder.root.list("/state.json", recursive=True)]


def test_tune_that_ends_before_its_trials_is_an_error_and_its_folder_stays(tmp_path, monkeypatch):
    folder = SweepFolder.of(str(tmp_path))
    runner = runner_whose_trials(monkeypatch, folder, ["finished", "failed"])
    with pytest.raises(RuntimeError, match=r"before 3 of 5 trials ended; run the same command again"):
        runner.run(group(5))
    assert len(tune_folders(folder)) == 1


def test_trials_that_fail_have_ended(tmp_path, monkeypatch):
    folder = SweepFolder.of(str(tmp_path))
    assert runner_whose_trials(monkeypatch, folder, ["finished", "finished"]).run(group(2)) == []
    assert tune_folders(folder) == []
    runner = runner_whose_trials(monkeypatch, folder, ["finished", "failed"])
    ((params, error),) = runner.run(group(2))
    assert params == {"trial": "1"}
    assert "no memory" in error
    assert len(tune_folders(folder)) == 1
