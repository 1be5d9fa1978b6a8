"""Bundles and images as the registry's tests have them."""

from tests.pipelines.registry.conftest import images, make_bundle  # noqa: F401
