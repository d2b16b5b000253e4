"""What cannot work is told when a model is opened; what can be fed is fed right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastembed_stream import (
    CROSS_ENCODER,
    IMAGE,
    LATE_MULTIMODAL,
    LATE_TEXT,
    Colbert,
    ColPali,
    CrossEncoder,
    DenseImage,
    DenseText,
    ImageEmbedding,
    ModelFilesError,
    PoolingType,
    Runtime,
    SettingError,
    SparseTextEmbedding,
    StaticText,
    TextEmbedding,
    TokenEmbeddings,
    catalog,
    open_model,
)
from fastembed_stream.families.splade import Splade
from fastembed_stream.kinds import SPARSE_TEXT, Kind
from fastembed_stream.positions import Positions
from fastembed_stream.recipe import Recipe
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import write_colpali, write_image_model
from tests.fastembed_stream.tiny_models import (
    DIM,
    VOCABULARY,
    Toy,
    graph,
    row,
    write,
    write_static,
    write_tokenizer,
)
from tests.fastembed_stream.tiny_sparse import write_bm42, write_minicoil, write_splade

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
TEXTS = ["the stream of text", "kafka", "", "a vector is a point of the stream"]
LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 133466304\n"
)


def opened(folder: Path, recipe: Recipe | None = None, **changes: Any) -> Any:
    model = row(folder, recipe, **changes)
    return open_model(model, model.kind, runtime=ON_CPU)


def edited(folder: Path, edit: Callable[[Any], None]) -> Path:
    """Change the graph of a folder."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    edit(model.graph)
    onnx.save(model, path)
    return folder


def with_input(name: str, kind: int = TensorProto.INT64, shape: Any = ("batch", "seq")) -> Any:
    def edit(body: Any) -> None:
        body.input.append(helper.make_tensor_value_info(name, kind, list(shape)))
        body.node.append(helper.make_node("Identity", [name], [f"{name}_too"]))
        body.output.append(helper.make_tensor_value_info(f"{name}_too", kind, list(shape)))

    return edit


def with_type(name: str, kind: int) -> Any:
    """Let an input be of another type, and cast it where the graph starts."""

    def edit(body: Any) -> None:
        [node] = [node for node in body.input if node.name == name]
        node.type.tensor_type.elem_type = kind
        for each in body.node:
            each.input[:] = [f"{name}_64" if each_in == name else each_in for each_in in each.input]
        cast = helper.make_node("Cast", [name], [f"{name}_64"], to=TensorProto.INT64)
        body.node.insert(0, cast)

    return edit


def write_positioned(folder: Path, n_rows: int = 64, **tokenizer: Any) -> Path:
    """Make a model that looks its positions up in a table, where it is told to: no mask, no sum."""
    random = np.random.default_rng(5)
    shape = ["batch", "seq"]
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("Gather", ["places", "position_ids"], ["where"]),
            helper.make_node("Add", ["words", "where"], ["last_hidden_state"]),
        ],
        "positioned",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "position_ids")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, DIM])],
        [
            numpy_helper.from_array(random.normal(size=(n, DIM)).astype(np.float32), name)
            for name, n in (("table", len(VOCABULARY)), ("places", n_rows))
        ],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return write_tokenizer(folder, **tokenizer)


def places_of(folder: Path) -> np.ndarray:
    weights = {each.name: each for each in onnx.load(folder / "model.onnx").graph.initializer}
    return numpy_helper.to_array(weights["places"])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("kind", "first"), [("bert", 0), ("roberta", 2), ("xlm-roberta", 2)])
def test_positions_are_counted_from_the_first_real_token_of_each_row(
    tmp_path: Path, side: str, kind: str, first: int
) -> None:
    config = {"model_type": kind, "pad_token_id": 1, "max_position_embeddings": 60}
    folder = write_positioned(tmp_path, config={"padding_side": side}, model_config=config)
    embed = opened(folder, TokenEmbeddings())
    places = places_of(folder)
    words = {each.name: each for each in onnx.load(folder / "model.onnx").graph.initializer}
    table = numpy_helper.to_array(words["table"])
    ids = embed.documents.family.read(TEXTS).ids
    for vectors, own in zip(embed(TEXTS), ids, strict=True):
        expected = table[own] + places[first : first + len(own)]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_the_fill_of_a_query_has_positions_too(tmp_path: Path) -> None:
    folder = write_positioned(tmp_path)
    recipe = Colbert(query_marker=1, document_marker=2, query_length=12)
    [query] = opened(folder, recipe).queries(["kafka"])
    family = opened(folder, recipe).queries.family
    feeds = family.pack(family.read(["kafka"]), np.zeros(1, dtype=np.int64))
    assert feeds["position_ids"].tolist() == [list(range(13))]
    assert query.shape == (13, DIM)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("input_ids", TensorProto.INT32),
        ("attention_mask", TensorProto.INT32),
        ("attention_mask", TensorProto.BOOL),
        ("attention_mask", TensorProto.FLOAT),
        ("attention_mask", TensorProto.FLOAT16),
        ("token_type_ids", TensorProto.INT32),
    ],
)
@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (write, DenseText(pooling="mean", normalize=True)),
        (write, TokenEmbeddings()),
        (write_cross_encoder, CrossEncoder()),
    ],
)
def test_inputs_are_fed_in_the_type_that_the_graph_takes(
    tmp_path: Path, name: str, kind: int, make: Any, recipe: Recipe
) -> None:
    changes = {"dim": 0} if isinstance(recipe, CrossEncoder) else {}
    rows: Any = [(text, "text") for text in TEXTS] if changes else TEXTS
    expected = opened(make(tmp_path / "as_ever"), recipe, **changes)(rows)
    folder = edited(make(tmp_path / "other"), with_type(name, kind))
    got = opened(folder, recipe, **changes)(rows)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_pixels_are_fed_in_the_type_that_the_graph_takes(tmp_path: Path) -> None:
    from tests.fastembed_stream.tiny_images import FILES

    image = FILES["odd.png"]
    [expected] = opened(write_image_model(tmp_path / "as_ever"), DenseImage())([image])

    def half(body: Any) -> None:
        [node] = body.input
        node.type.tensor_type.elem_type = TensorProto.FLOAT16
        for each in body.node:
            each.input[:] = ["as_float" if name == node.name else name for name in each.input]
        cast = helper.make_node("Cast", [node.name], ["as_float"], to=TensorProto.FLOAT)
        body.node.insert(0, cast)

    folder = edited(write_image_model(tmp_path / "half"), half)
    [got] = opened(folder, DenseImage())([image])
    np.testing.assert_allclose(got, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("make", "recipe", "dim"),
    [
        (write, DenseText(pooling="mean", normalize=True), DIM),
        (write_late, Colbert(query_marker=1, document_marker=2), DIM),
        (write, TokenEmbeddings(), DIM),
        (write_cross_encoder, CrossEncoder(), 0),
        (write_image_model, DenseImage(), DIM),
        (write_colpali, ColPali(), 128),
    ],
)
def test_an_input_that_nobody_feeds_is_named_when_the_model_is_opened(
    tmp_path: Path, make: Any, recipe: Recipe, dim: int
) -> None:
    make(tmp_path)
    edited(tmp_path, with_input("noise", TensorProto.FLOAT, ("batch", 7)))
    told = r"takes 'noise' \(tensor\(float\), \[batch, 7\]\), which nobody feeds"
    with pytest.raises(SettingError, match=told):
        opened(tmp_path, recipe, dim=dim)


def test_what_is_known_of_an_input_that_nobody_feeds_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"takes 'task_id'.*DenseText\(task_input="):
        opened(write(tmp_path / "task", Toy(task=True)))
    folder = edited(
        write(tmp_path / "cache"),
        with_input("past_key_values.0.key", TensorProto.FLOAT, ("batch", 2, "past", 4)),
    )
    with pytest.raises(SettingError, match=r"'past_key_values.0.key'.*cache of a model"):
        opened(folder)


def test_a_graph_of_texts_themselves_is_refused(tmp_path: Path) -> None:
    def edit(body: Any) -> None:
        body.input[0].type.tensor_type.elem_type = TensorProto.STRING
        del body.node[:]
        del body.output[:]
        body.output.extend([helper.make_tensor_value_info("length", TensorProto.INT64, [2])])
        body.node.append(helper.make_node("Shape", ["input_ids"], ["length"]))

    folder = edited(write(tmp_path), edit)
    with pytest.raises(SettingError, match=r"'input_ids' \(tensor\(string\).*expected numbers"):
        opened(folder, DenseText(pooling="none", normalize=True))


def test_a_graph_of_one_fixed_width_is_refused_unless_texts_are_padded_to_it(
    tmp_path: Path,
) -> None:
    def edit(body: Any) -> None:
        for node in body.input:
            node.type.tensor_type.shape.dim[1].dim_value = 48

    folder = edited(write(tmp_path, Toy(pooled=(("pooled", "first"),))), edit)
    with pytest.raises(SettingError, match=r"'input_ids' \(tensor\(int64\), \[batch, 48\]\)"):
        opened(folder)
    padded = DenseText(pooling="none", normalize=True, output="pooled", pad_to_max_tokens=True)
    assert len(opened(folder, padded)(TEXTS)) == len(TEXTS)


POOLED = Toy(pooled=(("pooled", "first"),))


def _open_output(body: Any) -> None:
    """Leave open how long a vector is, as many exporters do."""
    for node in body.output:
        node.type.tensor_type.shape.dim[-1].dim_param = "hidden"


@pytest.mark.parametrize("tell", [lambda _: None, _open_output])
@pytest.mark.parametrize(
    ("make", "recipe", "dim"),
    [
        (write, DenseText(pooling="mean", normalize=True), 384),
        (write, DenseText(pooling="cls", normalize=True), 384),
        (write, DenseText(pooling="last_token", normalize=True), 8),
        (write, TokenEmbeddings(), 384),
        (write_late, Colbert(query_marker=1, document_marker=2), 128),
        (write_image_model, DenseImage(), 512),
        (lambda path: write_image_model(path, shape="patches"), DenseImage(pooling="cls"), 512),
        (lambda path: write(path, POOLED), DenseText(pooling="none", normalize=True, output=1), 9),
    ],
)
def test_a_length_that_the_graph_does_not_give_is_refused(
    tmp_path: Path, make: Any, recipe: Recipe, dim: int, tell: Any
) -> None:
    make(tmp_path)
    edited(tmp_path, tell)
    with pytest.raises(SettingError, match=rf"vectors of 16 numbers, but tests/tiny has {dim}"):
        opened(tmp_path, recipe, dim=dim)
    opened(tmp_path, recipe)


def test_a_page_has_vectors_of_the_length_that_its_graph_tells(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"vectors of 128 numbers, but tests/tiny has 96"):
        opened(write_colpali(tmp_path), ColPali(), dim=96)


def test_a_static_table_of_another_length_is_refused(tmp_path: Path) -> None:
    folder = write_static(tmp_path)
    with pytest.raises(SettingError, match="vectors of 16 numbers, but tests/tiny has 256"):
        opened(folder, StaticText(), model_file="model.safetensors", dim=256)


def test_a_name_that_ships_may_stand_for_a_folder_of_ones_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = catalog.find("sentence-transformers/all-MiniLM-L6-v2")
    write(tmp_path, model_file=known.model_file)
    with caplog.at_level(logging.INFO, "fastembed_stream"):
        [vector] = open_model(known, folder=tmp_path, runtime=ON_CPU)(["kafka"])
    assert vector.shape == (DIM,)
    assert "vectors of another length" in caplog.text
    with pytest.raises(SettingError, match="vectors of 16 numbers"):
        open_model(replace(known, dim=385), folder=tmp_path, runtime=ON_CPU)


def _cross(folder: Path) -> Path:
    """Make a cross-encoder with one score, as most are."""

    def edit(body: Any) -> None:
        one = numpy_helper.from_array(np.array([0], dtype=np.int64), "column")
        body.initializer.append(one)
        body.node.append(helper.make_node("Gather", ["logits", "column"], ["score"], axis=1))
        shape: list[Any] = ["batch", 1]
        del body.output[:]
        body.output.extend([helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)])

    return edited(write_cross_encoder(folder), edit)


def _splade(folder: Path) -> Path:
    write_splade(folder)
    return folder


def _bm42(folder: Path) -> Path:
    write_bm42(folder)
    return folder


DENSE = DenseText(pooling="mean", normalize=True)


@pytest.mark.parametrize(
    ("make", "recipe", "dim", "told"),
    [
        (
            _cross,
            DENSE,
            DIM,
            r"Pooling 'mean' expects .*\(batch, seq, 16\); .*\(\w+, 1\).*CrossEnc",
        ),
        (_cross, replace(DENSE, pooling="cls"), DIM, r"looks like the score of a CrossEncoder"),
        (_cross, replace(DENSE, pooling="none"), DIM, r"looks like the score of a CrossEncoder"),
        (_cross, TokenEmbeddings(), DIM, r"A vector for each token expects"),
        (_cross, Colbert(query_marker=1, document_marker=2), DIM, r"A vector for each token"),
        (_splade, DENSE, DIM, rf"vectors of {len(VOCABULARY)} numbers"),
        (_bm42, replace(DENSE, output="attention_6"), DIM, r"Pooling 'mean' expects"),
        (write, CrossEncoder(), 0, r"should give scores of shape \(batch, labels\)"),
        (_bm42, Splade(output="attention_6"), 0, r"SPLADE expects the graph to give logits"),
        (write, Splade(), 0, rf"SPLADE expects .*, one for each of {len(VOCABULARY)} words"),
        (write, replace(DENSE, pooling="none"), DIM, r"Pooling 'none' expects .* \(batch, 16\)"),
    ],
)
def test_a_recipe_on_a_graph_of_another_family_is_refused_when_it_is_opened(
    tmp_path: Path, make: Any, recipe: Recipe, dim: int, told: str
) -> None:
    with pytest.raises(SettingError, match=told):
        opened(make(tmp_path), recipe, dim=dim)


def test_a_graph_with_a_text_and_an_image_part_is_refused_as_either(tmp_path: Path) -> None:
    folder = edited(
        write_image_model(tmp_path),
        with_input("input_ids"),
    )
    with pytest.raises(SettingError, match=r"'input_ids'.*which nobody feeds"):
        opened(folder, DenseImage())


def test_a_vocabulary_of_another_length_than_the_meanings_is_refused(tmp_path: Path) -> None:
    model = write_minicoil(tmp_path)
    wide = np.zeros((5, DIM + 1, 4), dtype=np.float32)
    np.save(tmp_path / "minicoil.triplet.model.npy", wide)
    with pytest.raises(SettingError, match=r"A vector for each token expects .* dim 17"):
        open_model(model, SPARSE_TEXT, runtime=ON_CPU)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"max_position_embeddings": 20}, 20),
        ({"max_position_embeddings": 22, "model_type": "roberta", "pad_token_id": 1}, 20),
        ({"max_position_embeddings": 22, "model_type": "xlm-roberta", "pad_token_id": 1}, 20),
        ({"max_position_embeddings": 22, "model_type": "mpnet", "pad_token_id": 1}, 20),
        ({"max_position_embeddings": None, "text_config": {"max_position_embeddings": 20}}, 20),
    ],
)
def test_a_limit_above_the_positions_is_told_when_the_model_is_opened(
    tmp_path: Path, config: dict[str, Any], most: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_positioned(tmp_path, n_rows=22, model_config=config)
    with pytest.raises(SettingError, match=rf"max_tokens=21 .*expected 1 to {most}, the positions"):
        open_model(row(folder), runtime=ON_CPU, max_tokens=most + 1)
    with caplog.at_level(logging.WARNING, "fastembed_stream"):
        embed = opened(folder)
    assert embed.max_tokens == most
    assert f"allows texts of 48 tokens, but the model has positions for {most}" in caplog.text
    assert len(embed(["a " * 100])) == 1
    short = open_model(row(folder), runtime=ON_CPU, max_tokens=most)
    np.testing.assert_allclose(short(TEXTS), embed(TEXTS), atol=1e-6)


def test_the_card_of_a_row_is_held_to_the_positions_too(tmp_path: Path) -> None:
    folder = write_positioned(
        tmp_path,
        n_rows=20,
        config={"model_max_length": None},
        model_config={"max_position_embeddings": 20},
    )
    assert opened(folder, max_tokens=48).max_tokens == 20


def test_a_marker_beyond_the_limit_has_a_position_too(tmp_path: Path) -> None:
    folder = write_positioned(tmp_path, n_rows=48, model_config={"max_position_embeddings": 48})
    recipe = Colbert(query_marker=1, document_marker=2, marker_is_counted=False, query_length=5)
    embed = opened(folder, recipe)
    assert embed.max_tokens == 48
    assert len(embed(["a " * 100])[0]) <= 48


def test_a_fill_of_queries_beyond_the_positions_is_refused(tmp_path: Path) -> None:
    folder = write_positioned(tmp_path, model_config={"max_position_embeddings": 20})
    with pytest.raises(
        SettingError, match=r"query_length=20 .* are 21 tokens, .* positions for 20"
    ):
        opened(folder, Colbert(query_marker=1, document_marker=2, query_length=20))


@pytest.mark.parametrize(
    "computed",
    [
        {"rope_theta": 10_000.0},
        {"global_rope_theta": 160_000.0},
        {"rotary_emb_base": 1000},
        {"position_embedding_type": "alibi"},
    ],
)
def test_positions_that_are_computed_are_no_limit_of_the_files(
    tmp_path: Path, computed: dict[str, Any]
) -> None:
    config = {"max_position_embeddings": 20} | computed
    assert opened(write(tmp_path, model_config=config)).max_tokens == 48
    assert not Positions.of(config).is_a_table


LFS_CASES = [
    (lambda path: write(path, Toy(external=True)), "model.onnx", DENSE, {}),
    (lambda path: write(path, Toy(external=True)), "model.onnx_data", DENSE, {}),
    (write, "tokenizer.json", DENSE, {}),
    (write, "tokenizer_config.json", DENSE, {}),
    (write, "config.json", DENSE, {}),
    (write_static, "model.safetensors", StaticText(), {"model_file": "model.safetensors"}),
    (write_static, "tokenizer.json", StaticText(), {"model_file": "model.safetensors"}),
    (write_image_model, "model.onnx", DenseImage(), {}),
    (write_image_model, "preprocessor_config.json", DenseImage(), {}),
    (write_cross_encoder, "model.onnx", CrossEncoder(), {"dim": 0}),
]


@pytest.mark.parametrize(("make", "name", "recipe", "changes"), LFS_CASES)
def test_a_pointer_in_place_of_a_file_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, make: Any, name: str, recipe: Recipe, changes: dict[str, Any]
) -> None:
    make(tmp_path)
    (tmp_path / name).write_text(LFS, encoding="utf-8")
    told = rf"{name} in .* holds {len(LFS)} bytes of text that point .*git lfs pull"
    with pytest.raises(ModelFilesError, match=told):
        opened(tmp_path, recipe, **changes)


def test_a_pointer_that_no_model_needs_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "pytorch_model.bin").write_text(LFS, encoding="utf-8")
    assert len(opened(folder)(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("pooling", ["avg", "MEANS", "", None, PoolingType.MEAN])
def test_an_unknown_pooling_is_refused_with_the_names_there_are(pooling: Any) -> None:
    names = "'cls', 'mean', 'last_token', 'none'"
    with pytest.raises(SettingError, match=f"^No pooling .*; there are {names}"):
        DenseText(pooling=pooling, normalize=True)
    with pytest.raises(SettingError, match=r"there are 'none', 'cls'"):
        DenseImage(pooling=pooling)


def test_a_pooling_that_is_called_otherwise_elsewhere_is_suggested() -> None:
    with pytest.raises(SettingError, match="Did you mean 'mean'"):
        DenseText(pooling="avg", normalize=True)  # type: ignore[arg-type]  # what a user writes
    with pytest.raises(SettingError, match="No pooling 'avg'; there are CLS, MEAN, LAST_TOKEN"):
        PoolingType("avg")
    assert PoolingType("mean") is PoolingType.MEAN
    assert PoolingType("none") is PoolingType.DISABLED


def test_an_unknown_argument_is_refused_with_its_like() -> None:
    opens: list[tuple[Any, str]] = [
        (TextEmbedding, "fastembed-stream/all-MiniLM-L6-v2-int8"),
        (SparseTextEmbedding, "Qdrant/bm25"),
        (ImageEmbedding, "Qdrant/clip-ViT-B-32-vision"),
    ]
    for opened_by, name in opens:
        with pytest.raises(SettingError, match=r"no option 'threadz'; .*Did you mean 'threads'"):
            opened_by(name, threadz=3)
    with pytest.raises(SettingError, match=r"no option 'langauge'; .*Did you mean 'language'"):
        SparseTextEmbedding("Qdrant/bm25", langauge="german")


def test_an_unknown_device_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SettingError, match=r"device='gpu'\): expected one of 'auto', 'cpu'"):
        Runtime(device="gpu")  # type: ignore[arg-type]  # what a user writes


def test_kinds_are_told_apart_before_files_are_looked_at(tmp_path: Path) -> None:
    kinds: list[Kind[Any, Any, Any]] = [LATE_TEXT, IMAGE, LATE_MULTIMODAL, CROSS_ENCODER]
    for kind in kinds:
        with pytest.raises(SettingError, match="is a dense-text model"):
            open_model(row(tmp_path), kind)
    assert graph(Toy()) is not None
