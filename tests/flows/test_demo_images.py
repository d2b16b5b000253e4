"""The demonstration of images: pictures drawn here, by a model whose graph is made here."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fastembed_stream import IMAGE, SettingError, catalog, open_model
from flows import demo
from flows.demo.image_model import image_model
from flows.demo.images import alike
from flows.demo.pictures import drawn
from flows.demo.torch_weights import checked_weights
from tests.fastembed_stream.examples import real_model


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Keep a small demonstration; give its folder and what it printed."""
    folder = tmp_path_factory.mktemp("kept")
    console = Console(file=io.StringIO(), width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setattr(catalog, "_ROWS", dict(catalog._ROWS))  # the demonstration adds a row
        demo.run(console, flow="images", n_documents=120, keep=folder)
    assert isinstance(console.file, io.StringIO)
    return folder, console.file.getvalue()


def test_every_picture_becomes_a_point_and_four_more_are_compared_with_them(
    kept: tuple[Path, str],
) -> None:
    _, printed = kept
    assert "120 points in collection 'pictures'" in printed
    assert "pictures a second" in printed
    assert printed.count("score") == 4


def test_what_is_most_alike_most_often_has_the_same_shape(kept: tuple[Path, str]) -> None:
    folder, _ = kept
    others = sorted((folder / "pictures").glob("*-01[2-4]?.jpg"))
    found = alike(folder, others, 1)
    same = [
        hits[0].payload["text"].split()[-1] == path.name.split("-")[1]  # type: ignore[attr-defined]  # JSON
        for path, hits in zip(others, found, strict=True)
    ]
    assert len(same) == 28
    assert np.mean(same) > 0.8


def test_a_picture_is_most_like_itself_and_search_shows_it(kept: tuple[Path, str]) -> None:
    folder, _ = kept
    picture = next((folder / "pictures").glob("*-0007.jpg"))
    table = demo.search(str(picture), folder=folder, limit=2)
    names = list(table.columns[1].cells)
    assert names[0] == picture.name
    assert next(iter(table.columns[0].cells)) == "1.00"


def test_a_picture_that_is_not_there_is_an_error_with_its_path(kept: tuple[Path, str]) -> None:
    folder, _ = kept
    with pytest.raises(SettingError, match=r"missing\.jpg is no picture"):
        demo.search("missing.jpg", mode="image", folder=folder)


def test_pictures_cannot_be_put_in_order_by_a_cross_encoder(kept: tuple[Path, str]) -> None:
    folder, _ = kept
    with pytest.raises(SettingError, match="reads texts"):
        demo.search("missing.jpg", folder=folder, rerank_model="any")


def test_pictures_are_the_same_each_time_and_show_each_thing_as_often(tmp_path: Path) -> None:
    first, second = (drawn(60, tmp_path / name) for name in ("first", "second"))
    assert [one.path.read_bytes() for one in first] == [one.path.read_bytes() for one in second]
    assert set(Counter(one.shows for one in first).values()) == {2}
    assert len({one.path.read_bytes() for one in first}) == 60


def test_the_graph_made_here_gives_the_vectors_of_the_test_models(tmp_path: Path) -> None:
    folder = real_model("image-efficientnet-lite0")
    pictures = [one.path for one in drawn(6, tmp_path / "pictures")]
    ours = image_model(tmp_path / "model")
    embed = open_model(ours, IMAGE)
    expect = open_model(ours, IMAGE, folder=folder)
    np.testing.assert_allclose(embed(pictures), expect(pictures), atol=1e-5)


def test_a_model_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    image_model(tmp_path)
    made = (tmp_path / "model.onnx").stat().st_mtime_ns
    image_model(tmp_path)
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == made
    assert not list(tmp_path.glob("*.part"))


def test_weights_of_another_file_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"anything")
    with pytest.raises(SettingError, match="SHA-256"):
        checked_weights(path, "0" * 64)


def test_a_pickle_that_names_anything_but_tensors_is_refused_and_does_not_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(SettingError, match=r"builtins\.print"):
        checked_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())
