"""Where the files of a described set are: its folder, tables and images; and what is said where they are not."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from pyarrow import fs

from grmp_core.datasets.description import Description
from grmp_core.datasets.image_names import ImageNames
from grmp_core.datasets.labelled_set import LabelRow, relative
from grmp_core.errors import InputError
from grmp_core.storage import Location, locate

_SHOWN_ENTRIES = 12


def reference_folder(description: Description, path: str) -> str:
    """The folder of a set's pristine originals. InputError where the set has none, or none of it is there."""
    if description.references is None:
        raise InputError(f"{description.title} brings no originals to distort")
    top = locate(path)
    for root in (top, *(top / folder for folder in description.folders)):
        if (root / description.references).is_folder():
            return (root / description.references).uri
    raise _layout_error(description, top, f"a folder {description.references}")


def find_set(description: Description, top: Location) -> tuple[Location, Description]:
    """The set's folder and the way in which it is published there. InputError where its tables are not there."""
    roots = [top, *(top / folder for folder in description.folders)]
    for root in roots:
        for variant in description.variants():
            if all(matching_files(root, pattern) for pattern in _needed_files(variant)):
                return root, variant
    expected = " or ".join(" and ".join(_needed_files(variant)) for variant in description.variants())
    raise _layout_error(description, top, expected)


def _needed_files(variant: Description) -> list[str]:
    matlab = dict.fromkeys(place.rpartition(":")[0] for place in variant.matlab.values())
    return [*matlab, *(table.file for table in variant.tables if not table.optional)]


def matching_files(root: Location, pattern: str) -> list[Location]:
    """Files below a folder, by a name, or by a pattern with `*` or `[…]`."""
    if "*" not in pattern and "[" not in pattern:
        file = root / pattern
        return [file] if file.exists() and not file.is_folder() else []
    return root.at(f"{glob.escape(root.path.rstrip('/'))}/{pattern}").glob()


def _layout_error(description: Description, folder: Location, expected: str) -> InputError:
    return InputError(
        f"{folder.uri}: not {description.title} as published: expected {expected}; found {_found(folder)}"
    )


def _found(folder: Location) -> str:
    if not folder.exists():
        return "no such folder"
    infos = folder.filesystem.get_file_info(fs.FileSelector(folder.path, allow_not_found=True))
    names = sorted(f"{info.base_name}{'/' if info.type == fs.FileType.Directory else ''}" for info in infos)
    more = f" and {len(names) - _SHOWN_ENTRIES} more" if len(names) > _SHOWN_ENTRIES else ""
    return f"{', '.join(names[:_SHOWN_ENTRIES])}{more}" if names else "an empty folder or a file"


class Images:
    """The folders that a set's images are in. InputError where none of them is there."""

    def __init__(self, variant: Description, root: Location) -> None:
        self.folders: list[Location] = []
        for pattern in variant.images:
            wild = "*" in pattern or "[" in pattern
            top = glob.escape(root.path) if wild else root.path
            place = root.at(os.path.normpath(f"{top.rstrip('/')}/{pattern}"))
            self.folders = place.glob(folders=True) if wild else [place] if place.is_folder() else []
            if self.folders:
                break
        else:
            expected = f"a folder {' or '.join(variant.images)} with the images"
            raise _layout_error(variant, root, expected)
        self._names = [ImageNames(folder, match=variant.match) for folder in self.folders]

    def find(self, name: str) -> str:
        """Path or URI of an image: of the first folder that has it, else where it would be in the first of all."""
        found = [names.find(name) for names in self._names]
        return next((path for path in found if self.exists(path)), found[0])

    def exists(self, image_path: str) -> bool:
        return any(names.exists(image_path) for names in self._names)

    @property
    def notes(self) -> list[str]:
        return [note for names in self._names for note in names.notes]


def check_some_images(variant: Description, root: Location, images: Images, rows: Sequence[LabelRow]) -> None:
    """InputError where none of the images is there."""
    usable = [row for row in rows if not row.problem]
    if usable and not any(images.exists(row.image_path) for row in usable):
        folder = images.folders[0]
        first = relative(usable[0].image_path, folder.uri)
        raise _layout_error(variant, folder, f"{first} and the other {len(usable) - 1} images of the labels")
