"""Votes from Label Studio's JSON export."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from grmp_core.datasets.labelled_set import Reject
from grmp_core.errors import InputError
from grmp_core.ratings.vote_log import Vote

_WORDS = {"bad": 1, "poor": 2, "fair": 3, "good": 4, "excellent": 5}
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")


@dataclass(frozen=True, kw_only=True)
class Import:
    """Content of an export."""

    votes: tuple[Vote, ...]
    rejected: tuple[Reject, ...]
    """Annotations that give no vote, with the reason."""


def read_label_studio(path: str, find_image: Callable[[str], str | None]) -> Import:
    """Read the JSON (or JSON-MIN is refused) export of a project of image grades or pairs.

    Taken are results of the types `rating`, `number` and `choices` as grades (numbers from 1 to 5, or the words bad,
    poor, fair, good, excellent), and `pairwise` as pairs. Several results of one annotation: the first that is a vote.
    A later annotation of the same task by the same person is a repeat. Cancelled annotations are rejected.

    find_image: file name -> path of the image in the rated folder, or null.

    Raises:
        InputError: no such file, or it is no such export.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            tasks = json.load(stream)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "annotations" in task for task in tasks):
        raise InputError(f"{path}: not an export of Label Studio; choose the format JSON (not JSON-MIN or CSV) there")
    votes: list[Vote] = []
    rejected = []
    answered: set[tuple[str, tuple[str, ...]]] = set()
    for number, task in enumerate(tasks, start=1):
        in_task = f"task {task.get('id', number)}"
        if not isinstance(task["annotations"], list):
            rejected.append(Reject(path, f"{in_task}: annotations are no list"))
            continue
        for annotation in task["annotations"]:
            where = f"{in_task}, annotation {annotation.get('id', '?') if isinstance(annotation, dict) else '?'}"
            try:
                vote = _to_vote(task, annotation, find_image)
            except (InputError, ValueError, TypeError, AttributeError, LookupError) as error:
                rejected.append(Reject(path, f"{where}: {error}"))
                continue
            key = (vote.rater, tuple(sorted(vote.images)))
            votes.append(Vote(**{**vars(vote), "repeat": key in answered}))
            answered.add(key)
    return Import(votes=tuple(votes), rejected=tuple(rejected))


def _to_vote(task: dict[str, Any], annotation: dict[str, Any], find_image: Callable[[str], str | None]) -> Vote:
    if annotation.get("was_cancelled"):
        raise InputError("cancelled")
    answers = [(result, value) for result in annotation["result"] if (value := _value_of(result)) is not None]
    if not answers:
        raise InputError("no grade from 1 to 5 and no pair; types rating, number, choices and pairwise are read")
    result, value = answers[0]
    is_pair = result["type"] == "pairwise"
    images = tuple(_found(address, find_image) for address in _addresses(task["data"], result, 2 if is_pair else 1))
    by = annotation.get("completed_by", "?")
    rater = by.get("email") or f"user {by.get('id', '?')}" if isinstance(by, dict) else f"user {by}"
    time = str(annotation.get("created_at", ""))
    text = "\0".join([rater, time, str(annotation.get("id")), *images])
    return Vote(
        id=hashlib.sha256(text.encode()).hexdigest()[:16],
        rater=f"Label Studio {rater}",
        time=time,
        kind="pair" if is_pair else "grade",
        images=images,
        image_ids=(None,) * len(images),
        value=value,
    )


def _value_of(result: dict[str, Any]) -> float | str | None:
    value = result.get("value", {})
    match result.get("type"):
        case "rating":
            return value["rating"]
        case "number":
            return value["number"]
        case "choices":
            choice = str(value["choices"][0]).strip().lower()
            return _WORDS.get(choice, float(choice) if re.fullmatch(r"[1-5]", choice) else None)
        case "pairwise":
            return value["selected"]
    return None


def _addresses(data: dict[str, Any], result: dict[str, Any], count: int) -> Sequence[str]:
    """Addresses of the images, by the names that the result gives, or else the only texts of the task."""
    named = [name.strip() for name in str(result.get("to_name", "")).split(",")]
    if len(named) == count and all(isinstance(data.get(name), str) for name in named):
        return [data[name] for name in named]
    texts = [value for value in data.values() if isinstance(value, str)]
    if len(texts) != count:
        raise InputError(f"the task has {len(texts)} texts, not {count}; name the data like the image tags")
    return texts


def _found(address: str, find_image: Callable[[str], str | None]) -> str:
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = os.path.basename(PurePosixPath(path))
    for candidate in dict.fromkeys((path.lstrip("/"), name, _UPLOAD_PREFIX.sub("", name, count=1))):
        if (image := find_image(candidate)) is not None:
            return image
    raise InputError(f"no image {name} in the folder")
