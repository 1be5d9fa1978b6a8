from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto, write_store


def test_a_store_gives_back_pixels_scores_and_hashes(store, photo_files):
    again = pickle.loads(pickle.dumps(store))  # noqa: S301  # as a DataLoader worker gets it
    for number, path in enumerate(photo_files):
        np.testing.assert_array_equal(again.pixels(number), read_image(path))
        assert again.rows[number].name == path.name
        assert again.rows[number].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (again.rows[0].score, again.rows[-1].score) == (0.2, None)
    with pytest.raises(ValueError, match="read-only"):
        again.pixels(0)[0, 0, 0] = 1


def test_unreadable_photos_are_named_and_left_out(tmp_path, photo_files):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    photos = [SourcePhoto(path=path, source="s") for path in (photo_files[1], broken, photo_files[0])]
    assert write_store(tmp_path / "store", photos) == ["broken.png"]
    store = PhotoStore(tmp_path / "store")
    assert [row.name for row in store.rows] == ["1.png", "0.png"]
    np.testing.assert_array_equal(store.pixels(1), read_image(photo_files[0]))


def test_a_store_that_is_cut_off_or_absent_is_refused(tmp_path, photo_files):
    with pytest.raises(InputError, match="no photo store"):
        PhotoStore(tmp_path)
    write_store(tmp_path, [SourcePhoto(path=photo_files[0], source="s")])
    pixels = tmp_path / "pixels.bin"
    pixels.write_bytes(pixels.read_bytes()[:-5])
    with pytest.raises(InputError, match="does not fit its index"):
        PhotoStore(tmp_path)
