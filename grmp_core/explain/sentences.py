"""Sentences about one image, composed of its facts: every number in them is a fact, printed as it stands there."""

from __future__ import annotations

from typing import Any

from grmp_core.explain.tool_choice import TOOLS, Estimator, is_unusual

_REFERENCE_WORDS = {"psnr_db": "PSNR in dB", "ssim": "SSIM", "gmsd": "GMSD", "colour_difference": "CIEDE2000"}


def sentences_of(facts: dict[str, Any]) -> list[str]:
    """The facts of `explanation.Explainer` as sentences, the score first."""
    sentences = [_score(facts), *_trust(facts), *_map(facts["map"]), *_types(facts), *_measured(facts)]
    if facts["reference"] is not None:
        measures = ", ".join(f"{_REFERENCE_WORDS[k]} {number(v)}" for k, v in facts["reference"].items())
        sentences.append(f"Compared with the reference: {measures}.")
    sentences += [*_witness(facts["tool"]), _tool(facts["tool"])]
    return [*sentences, *(_undone(one) for one in facts["undone"])]


def number(value: float) -> str:
    """A fact as it is printed."""
    return f"{value:.10g}"


def _score(facts: dict[str, Any]) -> str:
    low, high = facts["quality_scale"]
    text = f"The quality is {number(facts['quality'])} on a scale from {low} to {high}"
    if facts["mos_scale_score"] is None:
        return f"{text}."
    return f"{text}, {number(facts['mos_scale_score'])} on the scale of the ratings."


def _trust(facts: dict[str, Any]) -> list[str]:
    """The interval and the refusal, where the model has them."""
    sentences = []
    if facts["quality_low"] is not None:
        ends = f"{number(facts['quality_low'])} to {number(facts['quality_high'])}"
        sentences.append(f"The interval of the quality is {ends}.")
    if facts["unlike"]:
        sentences.append("The image is unlike those that the model knows: do not rely on its score.")
    return sentences


def _map(found: dict[str, Any]) -> list[str]:
    if len(found["crops"]) == 1:
        return ["The image is no larger than one crop, so there is no map."]
    lowest, damaged, costliest = found["lowest"], found["most_damaged"], found["costliest"]
    sentences = [
        f"By place it is lowest around row {lowest['row_px']}, column {lowest['column_px']}, with "
        f"{number(lowest['quality'])}; the mean over the crops is {number(found['mean'])}.",
        f"The crop that costs most begins at row {costliest['top_px']}, column {costliest['left_px']}, is "
        f"{costliest['size_px']} px wide and has {number(costliest['quality'])}; without it the mean would be "
        f"{number(costliest['cost'])} higher.",
    ]
    sentences.insert(
        1,
        f"Damage is likeliest around row {damaged['row_px']}, column {damaged['column_px']}, where the probability of "
        f"none is {number(damaged['undamaged'])}.",
    )
    if found["looked_again"]:
        sentences.append(f"Crops whose neighbours disagree and that finer ones looked at: {found['looked_again']}.")
    return sentences


def _types(facts: dict[str, Any]) -> list[str]:
    named = ", ".join(f"{kind['words']} ({number(kind['probability'])})" for kind in facts["types"])
    sentences = [f"The probability of no damage is {number(facts['undamaged'])}. If there is damage: {named}."]
    if not facts["types_calibrated"]:
        sentences.append("These probabilities are not calibrated for this backbone.")
    return sentences


def _measured(facts: dict[str, Any]) -> list[str]:
    """One sentence for each estimator that lies outside of what clean photos have."""
    sentences = []
    for estimator in (tools.estimator for tools in TOOLS.values() if tools.estimator is not None):
        fact = facts["measurements"][estimator.name]
        if fact["value"] is not None and is_unusual(estimator, fact["share_of_clean_below"]):
            sentences.append(_unusual(estimator, fact, facts["clean_photos"]))
    return sentences


def _unusual(estimator: Estimator, fact: dict[str, Any], photos: int) -> str:
    share = number(fact["share_of_clean_below"])
    return (
        f"The {estimator.words} is {number(fact['value'])}; the share of {photos} clean photos with a lower one is "
        f"{share}."
    )


def _tool(tool: dict[str, Any]) -> str:
    name = _REFERENCE_WORDS.get(tool["name"], "the model's quality")
    return f"To be trusted here: {name}, {number(tool['value'])}; {tool['why']}."


def _witness(tool: dict[str, Any]) -> list[str]:
    """Whether the estimator of the probable damage confirms it; nothing without one, or where it has no value.

    One that confirms is unusual, so that its number has been told before.
    """
    if tool["estimator_value"] is None:
        return []
    estimator = next(t.estimator for t in TOOLS.values() if t.estimator and t.estimator.name == tool["estimator"])
    if tool["estimator_confirms"]:
        return [f"The {estimator.words} confirms the damage that is likeliest."]
    return [f"The {estimator.words}, {number(tool['estimator_value'])}, does not confirm the damage that is likeliest."]


def _undone(one: dict[str, Any]) -> str:
    family = one["group"].replace("_", " and ")
    if one["gain"] <= 0:
        return (
            f"An estimate: {one['remedy']} against {family} damage brings nothing, {number(one['after'])} after "
            f"{number(one['before'])}."
        )
    return (
        f"An estimate: were the {family} damage undone, the quality would be {number(one['gain'])} higher "
        f"({number(one['after'])} after {number(one['before'])}, by {one['remedy']})."
    )
