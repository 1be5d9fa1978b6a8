"""Folders as commands leave them, with bundles of one number."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.settings import BackboneConfig, PromptConfig
from grmp_core.storage import locate


def write_pretraining(output: Path) -> Path:
    folder = output / "pretrain"
    write_bundle(locate(folder / "bundle"), small_bundle("prompts"))
    history = [{"step": k, "support_loss": 1 / k, "query_loss": 2 / k} for k in range(1, 4)]
    (folder / "history.json").write_text(json.dumps({"history": history}))
    settings = {"meta": {"outer_lr": 0.01}, "ablate": {"pretrained": {"25 tasks + 10": "there"}}}
    manifest = {"config": settings, "git_commit": None, "inputs": {"tasks": ["a", "b"]}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def small_bundle(kind: str, value: float = 0.0) -> Bundle:
    tensor = {"context": torch.full((1,), value)}
    about = {"backbone": BackboneConfig(), "backbone_sha256": "0" * 64, "prompts": PromptConfig()}
    return Bundle(kind=kind, **about, views=ViewConfig(), precision="fp32", parameters=tensor)


def write_adaptation(output: Path, start: str, lr: float = 0.1) -> Path:
    folder = output / "adapt"
    write_bundle(locate(folder / "bundle"), small_bundle("model", 1))
    records = [{"epoch": k, "quality_loss": 1 / k} for k in (1, 2)]
    history = {"history": records, "val_srcc_by_epoch": [[2, 0.5]]}
    (folder / "history.json").write_text(json.dumps(history))
    manifest = {
        "config": {"adapt": {"lr": lr}, "target": {"dataset": "livec", "path": "labels.csv"}},
        "inputs": {"target": "sha256:feed", "start_digest": start},
        "counts": {"images": 20, "epochs": 2, "val_srcc": 0.5},
        "seconds": 7.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_distillation(output: Path, teacher: str, identity: str = "1d") -> Path:
    folder = output / "distil" / "student"
    write_bundle(locate(folder / "bundle"), small_bundle("model", 2))
    records = [{"step": 20.0, "loss": 0.5}, {"step": 40.0, "loss": 0.25}]
    (folder / "history.json").write_text(json.dumps({"history": records}))
    manifest = {
        "config": {"distil": {"teacher": "models:/t/1", "student": "small", "images": ["a", "b"]}},
        "inputs": {"identity": identity, "teacher": "x", "teacher_digest": teacher, "unlabelled": "beef"},
        "counts": {"images": 9, "labels": 0, "teacher_srcc": 0.75},
        "seconds": 3.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
