"""Settings of the pages that `make docs` builds from this folder. The pages load nothing from a network."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

project = "grmp-iqa"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "build"]
html_theme = "furo"
html_title = "grmp-iqa"
html_static_path = ["pages.css"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
highlight_language = "none"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "literal"

PAGES = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changes.md",
    "../cluster/README.md": "cluster.md",
    "../grmp_core/assets/grmp-nano.md": "model-cards.md",
}
"""Files outside this folder that a page of their own includes. Links name the file, which is right on any host of the
repository too."""


def link_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def visit_math(translator, node: nodes.math | nodes.math_block) -> None:
    """MathML, which browsers show by themselves; Sphinx's MathJax would come from a network."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    translator.body.append(f'<div class="math-block">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_pages)
    app.add_node(nodes.math, override=True, html=(visit_math, None))
    app.add_node(nodes.math_block, override=True, html=(visit_math, None))
