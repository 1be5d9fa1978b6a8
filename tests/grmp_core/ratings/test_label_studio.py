"""Label Studio's export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grmp_core.errors import InputError
from grmp_core.ratings.label_studio import read_label_studio

IMAGES = {"a.jpg", "b c.jpg", "sub/ü.jpg"}


def find(name: str) -> str | None:
    return name if name in IMAGES else None


def annotation(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = {"type": kind, "from_name": "x", "to_name": more.pop("to_name", "image"), "value": value}
    return {"id": 7, "completed_by": 3, "created_at": "2026-01-01T00:00:00Z", "result": [result], **more}


def export(tmp_path: Path, *tasks: tuple[dict[str, str], list[dict[str, Any]]]) -> str:
    path = tmp_path / "export.json"
    content = [{"id": i, "data": data, "annotations": notes} for i, (data, notes) in enumerate(tasks, start=1)]
    path.write_text(json.dumps(content))
    return str(path)


def test_grades_of_every_form(tmp_path: Path):
    path = export(
        tmp_path,
        ({"image": "/data/upload/1/0a1b2c3d-a.jpg"}, [annotation("rating", {"rating": 4})]),
        ({"image": "/data/local-files/?d=sub/%C3%BC.jpg"}, [annotation("number", {"number": 2.5})]),
        (
            {"image": "https://example.org/b%20c.jpg"},
            [
                annotation("choices", {"choices": ["Excellent"]}, completed_by={"id": 5, "email": "ann@example.org"}),
                annotation("choices", {"choices": ["3"]}, id=8),
                annotation("choices", {"choices": ["2"]}, id=9),
            ],
        ),
    )
    votes = read_label_studio(path, find).votes
    assert [(vote.rater, vote.images[0], vote.value, vote.repeat) for vote in votes] == [
        ("Label Studio user 3", "a.jpg", 4, False),
        ("Label Studio user 3", "sub/ü.jpg", 2.5, False),
        ("Label Studio ann@example.org", "b c.jpg", 5, False),
        ("Label Studio user 3", "b c.jpg", 3, False),
        ("Label Studio user 3", "b c.jpg", 2, True),
    ]
    assert len({vote.id for vote in votes}) == 5
    assert votes == read_label_studio(path, find).votes  # ids, too, so that a second import adds nothing


def test_pairs(tmp_path: Path):
    data = {"one": "a.jpg", "two": "b c.jpg"}
    named = annotation("pairwise", {"selected": "right"}, to_name="two,one")
    path = export(tmp_path, (data, [annotation("pairwise", {"selected": "left"})]), (data, [named]))
    first, second = read_label_studio(path, find).votes
    assert (first.kind, first.images, first.value) == ("pair", ("a.jpg", "b c.jpg"), "left")
    assert (second.images, second.value) == (("b c.jpg", "a.jpg"), "right")


def test_what_is_no_vote_is_listed(tmp_path: Path):
    data = {"image": "a.jpg"}
    notes = [
        annotation("rating", {"rating": 9}),
        annotation("rectanglelabels", {}),
        annotation("rating", {"rating": 3}, was_cancelled=True),
        annotation("choices", {"choices": ["blue"]}),
        annotation("rating", {}),
    ]
    path = export(tmp_path, (data, notes), ({"image": "gone.jpg"}, [annotation("rating", {"rating": 3})]))
    content = read_label_studio(path, find)
    assert content.votes == ()
    reasons = [reject.reason for reject in content.rejected]
    assert len(reasons) == 6
    for part, reason in zip(
        ("9", "types rating", "cancelled", "types rating", "rating", "gone.jpg"), reasons, strict=True
    ):
        assert part in reason


def test_an_odd_annotation_costs_itself_only(tmp_path: Path):
    good = annotation("rating", {"rating": 3})
    odd = [annotation("choices", {"choices": []}), "no object"]
    path = export(
        tmp_path, ({"image": "a.jpg"}, [*odd, good]), ({"image": "http://[x/a.jpg"}, [good]), ({"image": "a.jpg"}, None)
    )
    content = read_label_studio(path, find)
    assert len(content.votes) == 1
    assert len(content.rejected) == 4
    assert "task 3: annotations are no list" in content.rejected[-1].reason


@pytest.mark.parametrize("text", ["nonsense", "{}", '[{"image": "a.jpg", "rating": 3}]'])
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError, match=r"not JSON|format JSON"):
        read_label_studio(str(tmp_path / "export.json"), find)
    with pytest.raises(InputError, match="cannot be read"):
        read_label_studio(str(tmp_path / "absent.json"), find)
