"""What `images_to_qdrant` stores is what the engine gives, and what is no image is kept."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from fastembed_stream import ImageEmbedding, LateInteractionMultimodalEmbedding, Muvera, catalog
from tests.fastembed_stream.examples import real_model
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    FILES,
    PAGE_DIM,
    image_row,
    write_colpali,
    write_files,
    write_image_model,
)
from tests.flows.things import (
    CLIP,
    CLIP_DIM,
    WAYS,
    Way,
    lines_of,
    read_lines,
    reasons,
    refused,
    run,
    same_vector,
    stored_in,
    topic_of,
)
from tests.servers import RunningQdrant
from tests.servers.image_server import ImageServer, image_server

COLPALI = "Qdrant/colpali-v1.3-fp16"


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    clip = write_image_model(tmp_path / "clip", CONFIGS["CLIP"], dim=CLIP_DIM)
    return {"model": CLIP, "model_folder": str(clip), "lanes": "1"}


@pytest.fixture
def every_model(tmp_path: Path, models: dict[str, str]) -> dict[str, str]:
    colpali = write_colpali(tmp_path / "colpali")
    return {**models, "pages_model": COLPALI, "pages_folder": str(colpali)}


def expected(told: dict[str, str], images: Iterable[bytes]) -> list[dict[str, Any]]:
    """Give the engine's vectors of each image."""
    files = list(images)
    clip = ImageEmbedding(CLIP, specific_model_path=told["model_folder"])
    columns: dict[str, list[Any]] = {"image": list(clip.embed(files))}
    if "pages_folder" in told:
        colpali = LateInteractionMultimodalEmbedding(
            COLPALI, specific_model_path=told["pages_folder"]
        )
        columns["pages"] = list(colpali.embed_image(files))
        muvera = Muvera(PAGE_DIM, k_sim=5, dim_proj=16, r_reps=20, random_seed=42)
        columns["muvera"] = [muvera.process_document(one) for one in columns["pages"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def check(found: Any, wanted: dict[str, Any], *, stored: bool) -> None:
    assert isinstance(found, dict)
    assert found.keys() == wanted.keys()
    for name, vector in wanted.items():
        same_vector(found[name], vector, cosine=stored and name != "muvera")


@pytest.mark.parametrize(
    ("way", "place"),
    [
        ("one worker", "path"),
        ("two workers", "path"),
        ("two workers", "rest"),
        ("two processes", "grpc"),
    ],
)
def test_each_stored_vector_is_what_the_engine_gives_for_its_image(  # noqa: PLR0917  fixtures
    way: Way,
    place: str,
    tmp_path: Path,
    brokers: str,
    server: RunningQdrant,
    every_model: dict[str, str],
) -> None:
    messages = [(name.encode(), content) for name, content in FILES.items()]
    told = {**every_model, **topic_of(brokers, messages)}
    if place == "path":
        told["qdrant_path"] = str(tmp_path / "points")
    else:
        told |= {"qdrant_url": server.url, "qdrant_grpc": str(place == "grpc")}
        told["qdrant_grpc_port"] = str(server.grpc_port)
    run(way, "images_to_qdrant", tmp_path, told)
    points = stored_in(tmp_path / "points" if place == "path" else server.url)
    wanted = dict(zip(FILES, expected(told, FILES.values()), strict=True))
    found = {(point.payload or {})["key"]: point.vector for point in points}
    assert found.keys() == wanted.keys()
    for name, vectors in wanted.items():
        check(found[name], vectors, stored=True)
    assert reasons(tmp_path) == {}


@pytest.mark.parametrize("way", WAYS)
def test_each_image_of_a_folder_is_a_line_with_the_vector_that_the_engine_gives(
    way: Way, tmp_path: Path, models: dict[str, str]
) -> None:
    write_files(tmp_path / "images" / "deep")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    told = {**models, "input_folder": str(tmp_path / "images")}
    told["output_file"] = str(tmp_path / "out.jsonl")
    run(way, "images_to_qdrant", tmp_path, told)
    lines = {line["key"]: line for line in read_lines(tmp_path / "out.jsonl")}
    assert lines.keys() == {f"deep/{name}" for name in FILES}
    for name, vectors in zip(FILES, expected(models, FILES.values()), strict=True):
        line = lines[f"deep/{name}"]
        assert line["fields"] == {"image": {"size_bytes": len(FILES[name])}}
        check(line["vectors"], vectors, stored=False)


def test_a_real_model_gives_the_same_in_a_flow(
    tmp_path: Path, brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real_model("image-efficientnet-lite0")
    row = image_row(folder, name="tests/efficientnet-lite0", dim=1280)
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    catalog.add(row)
    messages = [(name.encode(), content) for name, content in FILES.items()]
    told = {"model": row.name, **topic_of(brokers, messages), "lanes": "1"}
    run("two workers", "images_to_qdrant", tmp_path, told | {"qdrant_path": str(tmp_path / "p")})
    wanted = ImageEmbedding(row.name).embed(list(FILES.values()))
    by_name = dict(zip(FILES, wanted, strict=True))
    points = stored_in(tmp_path / "p")
    assert len(points) == len(FILES)
    for point in points:
        check(point.vector, {"image": by_name[(point.payload or {})["key"]]}, stored=True)


def _bomb() -> bytes:
    """Make a PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(60_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def _large() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((700, 700), 90).save(file, "PNG")
    return file.getvalue()


MAX_BYTES = 300_000
BAD: dict[str, tuple[bytes, str]] = {
    "no image": (b"plainly no image", "expected an image file, one of"),
    "empty": (b"", "is empty; expected an image"),
    "truncated": (FILES["landscape.jpg"][:900], "truncated"),
    "cut header": (FILES["odd.png"][:20], "Truncated"),
    "bomb": (_bomb(), "pixels"),
    "large": (_large(), f"more than max_image_bytes={MAX_BYTES:,}"),
    "page": (b"<html><body>404</body></html>", "expected an image file, one of"),
}


@pytest.mark.parametrize("way", ["one worker", "two workers"])
def test_good_images_are_stored_and_each_bad_one_is_kept_with_its_reason(
    way: Way, tmp_path: Path, brokers: str, models: dict[str, str]
) -> None:
    good = dict(list(FILES.items())[: len(BAD)]) | {"animated.gif": FILES["animated.gif"]}
    messages = [(name.encode(), content) for name, content in good.items()]
    for at, (name, (content, _)) in enumerate(BAD.items()):
        messages.insert(2 * at, (name.encode(), content))
    told = {**models, **topic_of(brokers, messages), "max_image_bytes": str(MAX_BYTES)}
    run(way, "images_to_qdrant", tmp_path, told | {"qdrant_path": str(tmp_path / "points")})
    check_reasons(tmp_path, {name: reason for name, (_, reason) in BAD.items()})
    points = stored_in(tmp_path / "points")
    found = {(point.payload or {})["key"]: point.vector for point in points}
    assert found.keys() == good.keys()
    for name, vectors in zip(good, expected(models, good.values()), strict=True):
        check(found[name], vectors, stored=True)


def check_reasons(folder: Path, wanted: dict[str, str]) -> None:
    found = reasons(folder)
    assert found.keys() == wanted.keys()
    assert {key: found[key] for key, part in wanted.items() if part not in found[key]} == {}


def n_windows() -> float:
    return REGISTRY.get_sample_value("stream_window_records_count") or 0.0


def test_base64_is_unpacked_and_not_stored_and_windows_count_images(
    tmp_path: Path, brokers: str, models: dict[str, str]
) -> None:
    def message(image: object) -> bytes:
        return json.dumps({"image": image, "title": "t"}).encode()

    good = {name: FILES[name] for name in ("landscape.jpg", "animated.gif", "lossy.webp")}
    packed = {name: base64.b64encode(content).decode() for name, content in good.items()}
    packed["lossy.webp"] = f"data:image/webp;base64,{packed['lossy.webp']}"
    bad = {
        "not base64": ("***", "not base64"),
        "cut": (packed["landscape.jpg"][:400], "Expected a whole file"),
        "a number": (7, "is int; expected a string"),
        "a URL": ("http://127.0.0.1/cat.png", "not base64"),
        "nothing": ("", "is empty"),
    }
    more = {f"{name} {number}": text for number in range(4) for name, text in packed.items()}
    messages = [(name.encode(), message(text)) for name, text in more.items()]
    messages += [(name.encode(), message(value)) for name, (value, _) in bad.items()]
    told = {**models, **topic_of(brokers, messages), "format": "json", "window_tokens": "100"}
    before = n_windows()
    run("two workers", "images_to_qdrant", tmp_path, told | {"qdrant_path": str(tmp_path / "p")})
    # As texts, the good ones would be too heavy for any window: each would stand alone.
    assert n_windows() - before < len(messages) - 2
    check_reasons(tmp_path, {name: reason for name, (_, reason) in bad.items()})
    points = stored_in(tmp_path / "p")
    assert len(points) == len(more)
    assert all((point.payload or {}).keys() == {"title", "_stream"} for point in points)


def test_paths_lead_to_images_of_the_folders_that_were_named_alone(
    tmp_path: Path, models: dict[str, str]
) -> None:
    write_files(tmp_path / "images")
    (tmp_path / "secret.png").write_bytes(FILES["odd.png"])
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    lines = {
        "odd.png": "",
        "../secret.png": "leads out of the folders",
        "link.png": "leads out of the folders",
        str(tmp_path / "secret.png"): "leads out of the folders",
        "gone.png": "There is no file",
        ".": "is not a file",
        "thin.png": "",
    }
    told = {**models, **lines_of(tmp_path, [{"image": path, "id": path} for path in lines])}
    told |= {"format": "json", "image_as": "path", "image_folders": str(tmp_path / "images")}
    told |= {"qdrant_path": str(tmp_path / "points"), "key_field": "id"}
    run("one worker", "images_to_qdrant", tmp_path, told)
    keys = [str(at) for at in range(len(lines))]
    bad = {key: part for key, part in zip(keys, lines.values(), strict=True) if part}
    check_reasons(tmp_path, bad)
    payloads = [point.payload or {} for point in stored_in(tmp_path / "points")]
    assert {payload["image"] for payload in payloads} == {"odd.png", "thin.png"}


@pytest.fixture
def web() -> Any:
    with image_server() as server:
        yield server


def urls_of(server: ImageServer) -> dict[str, tuple[str, str, str]]:
    """Give for each key a URL, and the reasons for which it is refused without and with leave."""
    here = f"http://localhost:{server.port}"
    server.answers["/odd.png"] = lambda to: to.send(200, FILES["odd.png"])
    server.redirect("/moved", "/odd.png")
    server.redirect("/inside", f"http://127.0.0.1:{server.port}/odd.png")
    server.redirect("/metadata", "http://169.254.169.254/latest/meta-data")
    private = "leads to the loopback address"
    return {
        "good": (f"{here}/odd.png", private, ""),
        "moved": (f"{here}/moved", private, ""),
        "inside": (f"{here}/inside", private, "host '127.0.0.1' is not allowed"),
        "metadata": (f"{here}/metadata", private, "host '169.254.169.254' is not allowed"),
        "no image": (f"{here}/cat.png", private, "expected an image file"),
        "page": (f"{here}/page", private, "expected an image"),
        "gone": (f"{here}/gone", private, "answers 404"),
        "other port": ("http://localhost:1/a", "port 1 is not", "port 1 is not allowed"),
        "file": ("file:///etc/passwd", "scheme 'file'", "scheme 'file'"),
        "no URL": ("odd.png", "scheme ''", "scheme ''"),
    }


@pytest.mark.parametrize("private", [False, True])
def test_urls_lead_to_hosts_that_were_named_and_into_the_own_network_only_by_leave(
    tmp_path: Path,
    models: dict[str, str],
    web: ImageServer,
    *,
    private: bool,
) -> None:
    urls = urls_of(web)
    told = {**models, **lines_of(tmp_path, [{"image": url} for url, *_ in urls.values()])}
    told |= {"format": "json", "image_as": "url", "image_hosts": "localhost", "image_http": "on"}
    told |= {"image_ports": str(web.port), "image_private": str(private), "lanes": "1"}
    run("one worker", "images_to_qdrant", tmp_path, told | {"qdrant_path": str(tmp_path / "p")})
    parts = [one[2] if private else one[1] for one in urls.values()]
    check_reasons(tmp_path, {str(at): part for at, part in enumerate(parts) if part})
    points = stored_in(tmp_path / "p")
    assert len(points) == parts.count("")
    assert bool(web.requests) == private
    [wanted] = expected(models, [FILES["odd.png"]])
    for point in points:
        check(point.vector, wanted, stored=True)


def test_a_collection_of_another_model_is_refused_with_the_reason(
    tmp_path: Path, models: dict[str, str]
) -> None:
    write_files(tmp_path / "images")
    told = {**models, "input_folder": str(tmp_path / "images")}
    told["qdrant_path"] = str(tmp_path / "points")
    run("one worker", "images_to_qdrant", tmp_path, told)
    other = write_image_model(tmp_path / "other", CONFIGS["SigLIP"], dim=CLIP_DIM)
    said = refused("images_to_qdrant", {**told, "model_folder": str(other)})
    assert "'image' was made by Qdrant/clip-ViT-B-32-vision" in said
    said = refused("images_to_qdrant", {**told, "distance": "dot"})
    assert "'image' compares by Cosine, this flow by dot" in said
