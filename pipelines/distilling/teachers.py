"""The teacher of a configuration, and how a worker gets hold of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from grmp_core.distilling.student import bundle_size
from grmp_core.distilling.teacher import BundleTeacher, Teacher, plugin_of, plugin_version
from grmp_core.errors import InputError
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, teacher_name
from grmp_core.model.scorer import Scorer
from pipelines.configuration.schema import Config
from pipelines.distilling.image_views import ViewPlan
from pipelines.scoring.cluster_rows import with_weights_here
from pipelines.scoring.model_lookup import open_model


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """The description from which every worker makes the teacher."""

    where: str
    """Name of the plug-in, or that of the bundle as `open_model` gives it."""
    bundle: Bundle | None
    """Null for a plug-in."""
    name: str
    """For messages."""
    licence: str
    size: int | None
    """Number of its weights; null where a plug-in does not say."""

    @property
    def identity(self) -> str:
        """Changes with the scores. A plug-in is known by its name and the version of its package."""
        if self.bundle is None:
            return f"plug-in {self.where} {plugin_version(self.where)}"
        return f"{self.bundle.digest} {self.bundle.precision}"

    def record(self) -> dict[str, Any]:
        """For the student's provenance: it names no place, for it goes with the student wherever that goes."""
        name = teacher_name(self.name, self.identity)
        return {"name": name, "licence": self.licence, "identity": self.identity, "parameters": self.size}

    def open(self, plan: ViewPlan, gpus: float, weights: list[ObjectRef[bytes]]) -> Teacher:
        """Load it here. weights: as of `rows_on_cluster`."""
        if self.bundle is None:
            teacher = plugin_of(self.where)
            if teacher is None:
                raise InputError(f"teacher '{self.where}' is not installed on this node; install it on all of them")
            return teacher
        bundle = dataclasses.replace(with_weights_here(self.bundle, weights), evidence=None)  # no interval is asked for
        scorer = Scorer(bundle, self.where, limits=plan.limits, device="cuda" if gpus else "cpu", score_grid=1)
        return BundleTeacher(scorer=scorer, name=self.name, pictures_at_once=plan.views.train_views)


def find_teacher(config: Config) -> TeacherSource:
    """Plug-in or bundle of `distil.teacher`.

    InputError where it is not set, and as of `plugin_of` and `open_model`; also for a bundle of prompts.
    """
    named = config.distil.teacher
    if named is None:
        raise InputError("no teacher: give --teacher a bundle's folder, models:/name@alias, or a plug-in's name")
    plugin = plugin_of(named)
    if plugin is not None:
        size = getattr(plugin, "parameters", None)
        return TeacherSource(where=named, bundle=None, name=plugin.name, licence=plugin.licence, size=size)
    where, bundle = open_model(config, named)
    size = bundle_size(bundle, load_backbone(bundle.backbone))
    return TeacherSource(where=where, bundle=bundle, name=where, licence="as the card of the teacher says", size=size)
