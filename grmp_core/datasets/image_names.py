"""From image names of a label table to files, also where they were written on another system than they lie on."""

import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from typing import Literal

from grmp_core.storage import Location

_NOTES = {
    "separator": "{} image names have \\ between folders and were read with /",
    "ending": "{} images have an ending in another case than their name in the table, such as .JPG for .jpg",
    "unicode": "{} images have their name in another Unicode form (NFC or NFD) than the table",
    "case": "{} images have a name that is spelled in another case in the table",
    "format": "{} images found under the same name in another file format",
}


class ImageNames:
    """Finds the images that a table names, relative to one folder.

    A name that is not there stands for the one file whose name differs only in the Unicode form, in the case of its
    ending, or in `/` for a backslash; `notes` says how often that was so. Where two such files are, there is no match.

    Args:
        folder: the names are relative to it.
        match: `case` also takes names in another case throughout, `format` also files with another ending.
    """

    def __init__(self, folder: Location, *, match: Literal["ending", "case", "format"] = "ending") -> None:
        self.folder = folder
        self._match_kind = match
        self._matched: Counter[str] = Counter()
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._remote: dict[str, str] = {}  # path -> URI
        self._remote_by_key: dict[str, list[str]] = defaultdict(list)
        if not folder.is_local:  # by one listing; an answer for each image would take its time
            for file in folder.list(recursive=True):
                self._remote[file.path] = file.uri
                self._remote_by_key[self._key(file.path)].append(file.path)
        self._uris = frozenset(self._remote.values())

    def find(self, name: str) -> str:
        """Absolute path or URI of the image; as the name has it where there is no such file."""
        if "://" in name:
            return name
        path = self._path_of(name)
        if not self._is_there(path):
            for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
                match = self._match(self._path_of(spelling))
                if match is not None:
                    self._count(name, spelling, match)
                    path = match
                    break
        return path if self.folder.is_local else self.folder.at(path).uri

    def exists(self, image_path: str) -> bool:
        """Whether an image that `find` gave is there; of one outside of a remote folder reading it will tell."""
        if self.folder.is_local:
            return "://" in image_path or os.path.isfile(image_path)
        below = self.folder.at(f"{self.folder.path}/").uri.partition("?")[0]
        return image_path in self._uris or not image_path.startswith(below)

    @property
    def notes(self) -> list[str]:
        """One line for each way in which names and files differ."""
        return [note.format(self._matched[kind]) for kind, note in _NOTES.items() if self._matched[kind]]

    def _path_of(self, name: str) -> str:
        if self.folder.is_local:
            return os.path.normpath(os.path.join(self.folder.path, name))
        return posixpath.normpath(posixpath.join(self.folder.path, name))

    def _is_there(self, path: str) -> bool:
        return os.path.isfile(path) if self.folder.is_local else path in self._remote

    def _match(self, path: str) -> str | None:
        if self._is_there(path):
            return path
        matches = self._local_matches(path) if self.folder.is_local else self._remote_by_key[self._key(path)]
        return matches[0] if len(matches) == 1 and self._is_there(matches[0]) else None

    def _local_matches(self, path: str) -> list[str]:
        """Files and folders that `path` may stand for; the folders above it may be in another Unicode form, too."""
        parent, name = os.path.split(path)
        parents = [parent] if os.path.isdir(parent) or not name else self._local_matches(parent)
        if len(parents) != 1 or not os.path.isdir(parents[0]):
            return []
        if not os.access(parents[0], os.R_OK):
            return []
        if parents[0] not in self._listings:
            names = self._listings[parents[0]] = defaultdict(list)
            for entry in sorted(os.listdir(parents[0])):
                names[self._key(entry)].append(os.path.join(parents[0], entry))
        return self._listings[parents[0]].get(self._key(name), [])

    def _count(self, name: str, spelling: str, match: str) -> None:
        if spelling != name:
            self._matched["separator"] += 1
            return
        given, found = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", match)
        if _ending(given).lower() != _ending(found).lower():
            self._matched["format"] += 1
        elif _ending(given) != _ending(found):
            self._matched["ending"] += 1
        elif self._match_kind == "case" and not found.endswith(given):
            self._matched["case"] += 1
        else:
            self._matched["unicode"] += 1

    def _key(self, path: str) -> str:
        """The same for names that differ in what does not matter here."""
        stem, ending = posixpath.splitext(unicodedata.normalize("NFC", path))
        if self._match_kind == "format":
            return stem
        return stem.lower() + ending.lower() if self._match_kind == "case" else stem + ending.lower()


def _ending(path: str) -> str:
    return posixpath.splitext(path)[1]
