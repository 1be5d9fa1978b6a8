"""`grmp score` scores images, with Ray Data, and videos."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.scoring_run import Scoring
    from pipelines.video.video_run import VideoScoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders, globs, Parquet or CSV tables, s3://… (score.images)"
    )
    parser.add_argument("--model", help="bundle folder, models:/name@alias, or backbone (score.model)")
    parser.add_argument("--output", help="scores file, .parquet or .csv (score.output)")
    parser.add_argument("--fps", type=float, help="of a video: frames a second that are scored (video.fps)")
    parser.add_argument("--window", type=float, help="of a video: seconds of a row of its table (video.window_s)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"score.images": options.images, "score.model": options.model, "score.output": options.output}
    given |= {"video.fps": options.fps, "video.window_s": options.window}
    return {key: value for key, value in given.items() if value is not None and value != []}


def run(config: Config) -> Scoring | VideoScoring:
    from pipelines.video.video_inputs import videos_of  # `--help` does without these, and images without the others

    videos = videos_of(config.score.images)
    if videos is None:
        from pipelines.scoring.scoring_run import score_images

        return score_images(config)
    from pipelines.video.video_run import score_videos

    return score_videos(config, videos)


if __name__ == "__main__":
    module_main("score")
