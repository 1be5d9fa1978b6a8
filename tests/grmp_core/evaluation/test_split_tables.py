"""Given splits: the official one, and files that are written and read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.evaluation.split_tables import SplitTable, from_csv, shared_references, to_csv
from grmp_core.evaluation.splits import split

IDS = ("a", "a", "b", "c", "d")
OFFICIAL = {"official": ("train", "train", "validation", "test", None)}


def test_without_given_splits_they_are_drawn_by_reference():
    table = SplitTable(reference_ids=IDS, test_fraction=0.5)
    for seed in range(3):
        expected = split(IDS, seed, 0.5)
        assert table.split(seed).train.tolist() == expected.train.tolist()
        assert table.split(seed).test.tolist() == expected.test.tolist()
    assert table.digest is None
    assert table.takes_part.all()


def test_an_official_split_is_the_same_for_every_seed_and_spares_its_validation_part():
    table = SplitTable(reference_ids=IDS, given=OFFICIAL)
    for seed in (0, 7):
        parts = table.split(seed)
        assert (parts.train.tolist(), parts.test.tolist(), parts.seed) == ([0, 1], [3], seed)
    assert table.takes_part.tolist() == [True, True, False, True, False]


def test_splits_of_a_file_belong_to_their_seeds():
    table = SplitTable(reference_ids=("a", "b"), given={"split_3": ("train", "test"), "split_4": ("test", "train")})
    assert table.split(3).test.tolist() == [1]
    assert table.split(4).test.tolist() == [0]
    with pytest.raises(InputError, match="split seed 0: no column split_0; there are split_3, split_4"):
        table.split(0)
    with pytest.raises(InputError, match="split_3: 1 training and 0 test images"):
        table.take([0]).split(3)
    assert table.take([1, 0]).split(3).test.tolist() == [0]
    assert table.digest != table.take([1, 0]).digest


@given(st.lists(st.sampled_from(["train", "validation", "test", None]), min_size=1, max_size=20), st.randoms())
def test_a_file_gives_back_what_was_written_whatever_its_order(parts, random):
    names = [f'folder, {k}/{k} "x".jpg' for k in range(len(parts))]
    written = {"split_0": tuple(parts), "split_1": tuple(parts[::-1])}
    header, *lines = to_csv(names, written).splitlines()
    random.shuffle(lines)
    read, notes = from_csv("\n".join([header, *lines]), names, "s.csv")
    assert read == written
    assert not notes


def test_a_file_of_others_by_bare_names_and_with_images_of_its_own():
    text = "\ufeffimage,official\r\n1.jpg,train\r\n2.jpg,test\r\n9.jpg,test\r\n"
    given_parts, notes = from_csv(text, ["Images/1.jpg", "Images/2.jpg", "Images/3.jpg"], "s.csv")
    assert given_parts == {"official": ("train", "test", None)}
    assert notes == [
        "s.csv: 1 images of the set are not in it and take no part",
        "s.csv: 1 of its images are not in the set",
    ]
    elsewhere, _ = from_csv(
        "image,official\n../photos/1.jpg,train\n../photos/2.jpg,test\n", ["1.jpg", "2.jpg"], "s.csv"
    )
    assert elsewhere == {"official": ("train", "test")}
    twice, _ = from_csv("image,official\n1.jpg,train\nb/2.jpg,test\n", ["a/1.jpg", "b/1.jpg", "b/2.jpg"], "s.csv")
    assert twice == {"official": (None, None, "test")}, "1.jpg may be either"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no split file"),
        ("image,mos\na,1\n", "no split file"),
        ("image\na\n", "no split file"),
        ("image,split_0\na,training\n", r"row 2 must have 2 cells of train, validation, test or nothing"),
        ("image,split_0\na\n", "row 2 must have 2 cells"),
        ("image,split_0\na,train\na,test\n", "row 3: the image a is there twice"),
        ("image,split_0\nz,train\n", "none of its 1 images is in the set, such as z"),
    ],
)
def test_what_is_no_split_file(text, problem):
    with pytest.raises(InputError, match=problem):
        from_csv(text, ["a", "b"], "s.csv")


def test_references_on_both_sides_are_found():
    assert shared_references(("train", "test", "test", "train", None), IDS) == ["a"]
    drawn = split(IDS, 1, 0.5)
    parts = np.full(5, "train", dtype=object)
    parts[drawn.test] = "test"
    assert shared_references(tuple(parts), IDS) == []
