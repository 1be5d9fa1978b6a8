"""Rankings of images, as the pairs that are in them.

A ranking of k images is k (k - 1) / 2 pairs; equal ranks are ties. Bradley and Terry's strengths of all these pairs
estimate those of Plackett and Luce's model of rankings (full breaking; Azari Soufiani et al. 2013). The pairs of one
ranking are not independent, so standard errors come out too small.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

from grmp_core.datasets.labelled_set import Reject
from grmp_core.datasets.tables import open_table
from grmp_core.errors import InputError
from grmp_core.ratings.label_studio import Import
from grmp_core.ratings.vote_log import Vote, now
from grmp_core.storage import locate

COLUMNS = ("rater", "ranking", "image", "rank")


def read_rankings(path: str, find_image: Callable[[str], str | None]) -> Import:
    """Read a table with a row for each ranked image: rater, ranking (its name, of that rater), image, rank (1 is best).

    find_image: file name -> path of the image in the rated folder, or null; its InputError rejects the row.

    Raises:
        InputError: no such table, a column is missing, or an image twice in one ranking.
    """
    rankings: dict[tuple[str, str], dict[str, float]] = {}
    rejected = []
    for where, (rater, ranking, image, rank) in open_table(locate(path)).rows(COLUMNS):
        problem, place, found = "", 0.0, None
        try:
            found = find_image(str(image))
            place = float(str(rank))
        except InputError as error:
            problem = str(error)
        except ValueError:
            problem = f"the rank {rank!r} is no number"
        if not problem and not place >= 1:
            problem = f"the rank {rank!r} is below 1, the best"
        if not problem and found is None:
            problem = f"no image {image} in the folder"
        if not problem and not str(rater or "").strip():
            problem = "the rater has no name"
        if problem or found is None:
            rejected.append(Reject(path, f"{where}: {problem}"))
            continue
        of_ranking = rankings.setdefault((str(rater), str(ranking)), {})
        if found in of_ranking:
            raise InputError(f"{where}: {image} is twice in the ranking {ranking} of {rater}; keep one row")
        of_ranking[found] = place
    for (rater, ranking), places in rankings.items():
        if len(places) == 1:
            rejected.append(Reject(path, f"ranking {ranking} of {rater}: a ranking needs two images"))
    votes = [vote for (rater, name), places in rankings.items() for vote in _pairs(rater, name, places)]
    return Import(votes=tuple(votes), rejected=tuple(rejected))


def _pairs(rater: str, name: str, places: dict[str, float]) -> list[Vote]:
    """The id is of rater, ranking and pair, without the answer: a second import adds nothing, or corrects."""
    votes, time = [], now()
    for left, right in itertools.combinations(sorted(places), 2):
        text = "\0".join([rater, name, left, right])
        value = "same" if places[left] == places[right] else "left" if places[left] < places[right] else "right"
        votes.append(
            Vote(
                id=hashlib.sha256(text.encode()).hexdigest()[:16],
                rater=rater,
                time=time,
                kind="pair",
                images=(left, right),
                image_ids=(None, None),
                value=value,
            )
        )
    return votes
