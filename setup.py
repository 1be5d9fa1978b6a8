"""The description in the package's metadata; everything else stands in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

PAGES = "The pages that this text names are in the source distribution: `docs/`, `cluster/README.md` and others.\n"


def description(readme: str) -> str:
    """The README without what needs the repository's files beside it: the parts between `<!--repository-->` and
    `<!--/repository-->` are left out, and of links to files only the text stays."""
    text = re.sub(r"<!--repository-->.*?<!--/repository-->\n*", "", readme, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", text)
    return f"{text.rstrip()}\n\n{PAGES}"


setup(
    long_description=description(Path(__file__).with_name("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
