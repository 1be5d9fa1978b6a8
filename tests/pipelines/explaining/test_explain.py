"""`grmp explain`: files of one image, references, a bad image, and a folder over Ray Data."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from grmp_core.distortions import get
from grmp_core.procedural import scenes
from pipelines.cli import BAD_INPUT, FAILURE, OK, run_command
from pipelines.explaining import explaining_run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clean/` and, by the same names, `damaged/`."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(9):
        clean = scenes.reference(40 + number, 64, 80)
        for name, image in (("clean", clean), ("damaged", get("jpeg")(clean, 4.0, np.random.default_rng(0)))):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def run(*arguments: str, model: str, output: Path) -> int:
    return run_command("explain", [*arguments, "--model", model, "--set", f"output={output}"])


def test_one_image_has_a_page_a_picture_and_its_facts(photos, unadapted_folder, tmp_path, capsys):
    image, reference = (str(photos / name / "0.png") for name in ("damaged", "clean"))
    assert run(image, "--reference", reference, "--json", model=unadapted_folder, output=tmp_path) == OK
    facts = json.loads(capsys.readouterr().out)
    files = facts.pop("files")
    assert json.loads(Path(f"{files}.json").read_text()) == facts
    assert facts["image"] == image
    assert set(facts["reference"]) == {"psnr_db", "ssim", "gmsd", "colour_difference"}
    assert facts["tool"]["kind"] == "reference"
    png = Path(f"{files}.png").read_bytes()
    assert min(Image.open(io.BytesIO(png)).size) > 300
    page = Path(f"{files}.html").read_text()
    assert "data:image/png" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    for sentence in facts["sentences"]:
        assert sentence.replace("'", "&#39;") in page
    manifest = json.loads((tmp_path / "explain" / "manifest.json").read_text())
    assert manifest["counts"] == {"images": 1, "failed": 0, "not_taken": 0}


def test_text_is_the_sentences_and_the_page(photos, unadapted_folder, tmp_path, capsys):
    assert run(str(photos / "clean" / "1.png"), model=unadapted_folder, output=tmp_path) == OK
    *sentences, page = capsys.readouterr().out.strip().splitlines()
    assert sentences[0].startswith("The quality is 0.")
    assert sentences == json.loads(Path(page).with_suffix(".json").read_text())["sentences"]


def test_a_bad_image_costs_its_row_and_alone_one_line(photos, unadapted_folder, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    assert run(str(bad), model=unadapted_folder, output=tmp_path / "out") == BAD_INPUT
    assert "bad.png: not an image" in capsys.readouterr().err
    assert (
        run(str(bad), str(photos / "clean" / "2.png"), "--json", model=unadapted_folder, output=tmp_path / "out") == OK
    )
    found = json.loads(capsys.readouterr().out)
    assert [row["error"] is None for row in found["images"]] == [False, True]
    assert (found["explained"], found["failed"]) == (1, 1)
    (tmp_path / "worse.png").write_bytes(b"no image either")
    assert run(str(bad), str(tmp_path / "worse.png"), model=unadapted_folder, output=tmp_path / "out") == FAILURE


def test_a_reference_that_does_not_fit_costs_the_row(photos, unadapted_folder, tmp_path, capsys):
    small = tmp_path / "small.png"
    Image.fromarray(scenes.reference(1, 64, 70)).save(small)
    image = str(photos / "damaged" / "0.png")
    assert run(image, "--reference", str(small), model=unadapted_folder, output=tmp_path) == BAD_INPUT
    assert "give the undamaged picture at the same size" in capsys.readouterr().err


def test_nothing_to_explain_is_one_line(unadapted_folder, tmp_path, capsys):
    assert run(model=unadapted_folder, output=tmp_path) == BAD_INPUT
    assert "nothing to explain: name images" in capsys.readouterr().err


def test_images_of_one_name_in_a_table_keep_rows_of_their_own(unadapted_folder, tmp_path, capsys, monkeypatch):
    """Pictures of one pixel's height and of different widths: the reason tells which one a row is of."""
    cells = []
    for width in range(1, 10):
        stream = io.BytesIO()
        Image.new("RGB", (width, 1)).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": "image.png"})
    pq.write_table(pa.table({"image": cells}), tmp_path / "images.parquet")

    def in_this_process(config, bundle, worker, given, inputs, **options):
        return reversed(worker(*given)(pa.Table.from_pylist(inputs)).to_pylist())

    monkeypatch.setattr(explaining_run, "rows_on_cluster", in_this_process)
    assert run(str(tmp_path / "images.parquet"), "--json", model=unadapted_folder, output=tmp_path) == FAILURE
    rows = json.loads(capsys.readouterr().out)["images"]
    assert [row["error"].partition(",")[0] for row in rows] == [f"too small: {width}x1" for width in range(1, 10)]
    written = pq.read_table(tmp_path / "explain" / "explanations.parquet")
    assert written.to_pylist() == rows
    assert written.column_names[0] == "image_path"


@pytest.mark.parametrize("bad", [False, True])
def test_one_image_goes_to_workers_where_only_they_can_have_the_gpu(
    photos, unadapted_folder, tmp_path, capsys, monkeypatch, bad
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked: list[float] = []

    def on_a_node_with_a_gpu(config, bundle, worker, given, inputs, **options):
        asked.append(config.score.gpus_per_worker)
        cpu = dataclasses.replace(config, score=dataclasses.replace(config.score, gpus_per_worker=0))
        return worker(cpu, *given[1:])(pa.Table.from_pylist(inputs)).to_pylist()

    monkeypatch.setattr(explaining_run, "rows_on_cluster", on_a_node_with_a_gpu)
    image = photos / "damaged" / "0.png"
    if bad:
        image = tmp_path / "bad.png"
        image.write_bytes(b"no image")
    gpu = ("--set", "score.gpus_per_worker=1", "--json")
    code = run(str(image), *gpu, model=unadapted_folder, output=tmp_path / "out")
    told = capsys.readouterr()
    assert asked == [1]
    if bad:
        assert (code, "bad.png: not an image" in told.err) == (BAD_INPUT, True)
        return
    assert code == OK
    assert run(str(image), "--json", model=unadapted_folder, output=tmp_path / "here") == OK
    there, here = json.loads(told.out), json.loads(capsys.readouterr().out)
    assert there.keys() == here.keys()
    assert there["quality"] == here["quality"]


@pytest.mark.ray
def test_a_folder_with_references_over_ray_data(photos, tmp_path, capsys, ray_instance):
    options = ("--reference", str(photos / "clean"), "--set", "score.workers=1", "--json")
    assert run(str(photos / "damaged"), *options, model="backbone", output=tmp_path) == OK
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["image_path"]).name for row in found["images"]] == [f"{i}.png" for i in range(9)]
    assert all(row["error"] is None for row in found["images"])
    assert (
        run(str(photos / "damaged" / "3.png"), *options[:2], "--json", model="backbone", output=tmp_path / "one") == OK
    )
    alone = json.loads(capsys.readouterr().out)
    assert found["images"][3]["quality"] == alone["quality"]
    assert found["images"][3]["trusted_value"] == alone["tool"]["value"]
    assert Path(f"{found['images'][3]['files']}.html").is_file()
