"""The reference of the HTTP interface as one page without scripts, made of its OpenAPI description."""

from __future__ import annotations

from typing import Any

from pipelines.rendering.templating import render


def reference_page(openapi: dict[str, Any]) -> str:
    """HTML that loads nothing."""
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = {
        name: {
            "about": schema.get("description", ""),
            "fields": [
                (field, type_of(described), described.get("description", ""))
                for field, described in schema.get("properties", {}).items()
            ],
        }
        for name, schema in openapi.get("components", {}).get("schemas", {}).items()
    }
    return render("reference", title=openapi["info"]["title"], operations=operations, schemas=schemas)


def type_of(schema: dict[str, Any]) -> str:
    """A JSON schema in words: "number or null", "list of Row"."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(type_of(option) for option in schema["anyOf"])
    if "prefixItems" in schema:
        return f"[{', '.join(type_of(item) for item in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
