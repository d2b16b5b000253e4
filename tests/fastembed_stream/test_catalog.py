"""Every model by name: what ships, what a misspelt name gets, and the user's own."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

import fastembed_stream
from fastembed_stream import catalog, families, open_model
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.families.bm25 import Bm25
from fastembed_stream.families.bm42 import Bm42
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.families.minicoil import MiniCoil
from fastembed_stream.families.splade import InferenceFreeSplade, Splade
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.kinds import KINDS
from fastembed_stream.model import HubRepository, LocalFolder, Model
from fastembed_stream.pooling import POOLS
from tests.fastembed_stream.examples import PACKAGED, ROOT
from tests.fastembed_stream.tiny_models import DIM, row, write

FACTS = ROOT / "../shared/facts/models.json"


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


def facts() -> list[dict[str, Any]]:
    """Read what is known of the oracle's models; nothing where the file is not here."""
    return json.loads(FACTS.read_text(encoding="utf-8")) if FACTS.is_file() else []


def test_the_models_of_a_kind_ship_under_names_of_their_own() -> None:
    for kind in KINDS:
        names = [name.lower() for name in catalog.names(kind)]
        assert len(names) == len(set(names)) == _SHIPPED[kind.name], kind
    assert PACKAGED in catalog.names()


def test_every_family_stands_at_the_door_of_the_package() -> None:
    recipes: set[type] = set()
    for file in iter_modules(families.__path__, f"{families.__name__}."):
        found = vars(import_module(file.name)).values()
        classes = {each for each in found if isinstance(each, type) and is_dataclass(each)}
        recipes |= {each for each in classes if hasattr(each, "kind") and hasattr(each, "open")}
    assert {each.__name__ for each in recipes} <= set(fastembed_stream.__all__)
    assert {type(model.recipe) for model in catalog.models()} <= recipes
    assert len(recipes) == _N_RECIPES


def test_every_row_that_ships_says_what_a_user_asks_first() -> None:
    for model in catalog.models():
        assert model.license
        assert 0 < model.size_gb < 10
        assert not isinstance(model.recipe, DenseText) or model.recipe.pooling in POOLS
        if model.model_file.endswith(".safetensors"):
            assert isinstance(model.recipe, StaticText)
        else:
            assert model.model_file.endswith(".onnx") or isinstance(model.recipe, Bm25)


@pytest.mark.skipif(not facts(), reason="the facts about the oracle's models are not here")
def test_all_models_ship_that_the_oracle_has() -> None:
    known = {(row["family"], row["name"]) for row in facts()}
    shipped = {(model.kind.name, model.name) for model in catalog.models()}
    assert len(known) == 71
    assert shipped - known == _OURS
    assert known <= shipped


@pytest.mark.parametrize("known", facts(), ids=lambda known: f"{known['family']} {known['name']}")
def test_a_row_equals_what_is_known_of_the_oracles(known: dict[str, Any]) -> None:
    [kind] = [kind for kind in KINDS if kind.name == known["family"]]
    model = catalog.find(known["name"], kind)
    if not isinstance(model.recipe, Bm25):  # its stop words need not be fetched
        assert model.source == HubRepository(repo=known["hf"])
        assert (model.model_file, list(model.other_files)) == (
            known["model_file"],
            known["additional_files"],
        )
    assert {
        "name": model.name,
        "dim": model.dim or None,
        "max_tokens": model.max_tokens,
        "license": model.license,
        "size_gb": model.size_gb,
    } == {key: known[key] for key in _FACTS_OF_ALL}
    prompts = (model.query_prompt, model.passage_prompt)
    assert prompts == (known.get("query_prompt", ""), known.get("passage_prompt", ""))
    assert known["url"] is None
    match model.recipe:
        case StaticText():
            assert "static" in known["kind"]
        case DenseText() as recipe:
            assert recipe.pooling == known["pooling"]
            assert recipe.normalize == known["normalize"]
            assert recipe.output == known.get("output", known.get("output_index", 0))
            assert recipe.pad_to_max_tokens == (known.get("padding") == "max_length")
            assert recipe.task_input == known.get("task_input")
            assert dict(recipe.tasks) == known.get("tasks", {})
        case DenseImage() as recipe:
            assert recipe.pooling == known["pooling"]
            assert recipe.normalize == known["normalize"]
            assert recipe.output == known.get("output", 0)
        case Bm25() | Bm42() | MiniCoil() | Splade() | InferenceFreeSplade() as recipe:
            assert recipe.needs_idf == known.get("requires_idf", False)
            assert getattr(recipe, "vocab_size", None) == known.get("vocab_size")


_SHIPPED = {
    "dense-text": 42 + 1,
    "sparse-text": 6,
    "late-text": 5 + 2,
    "image": 8,
    "late-multimodal": 2,
    "cross-encoder": 8,
}
"""Rows of each kind: the oracle's, and ours."""

_N_RECIPES = 13

_OURS = {
    ("dense-text", PACKAGED),
    ("late-text", f"{PACKAGED}-tokens"),
    ("late-text", "jinaai/jina-embeddings-v2-small-en-tokens"),
}

_FACTS_OF_ALL = {
    "name",
    "dim",
    "max_tokens",
    "license",
    "size_gb",
}


def test_a_name_is_found_whatever_its_case() -> None:
    assert catalog.find("QDRANT/CLIP-vit-b-32-TEXT").name == "Qdrant/clip-ViT-B-32-text"


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("BAAI/bge-smal-en", "'BAAI/bge-small-en'"),
        ("all-MiniLM-L6-v2", "'sentence-transformers/all-MiniLM-L6-v2'"),
        ("Qwen/Qwen3-Embeding-0.6B", "'Qwen/Qwen3-Embedding-0.6B'"),
    ],
)
def test_a_misspelt_name_is_an_error_with_the_name_that_was_meant(
    misspelt: str, meant: str
) -> None:
    with pytest.raises(
        UnknownModelError, match=rf"No dense-text model named '{misspelt}'.*"
    ) as error:
        catalog.find(misspelt)
    assert f"Did you mean {meant}" in str(error.value)
    assert "catalog.names() lists all" in str(error.value)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(UnknownModelError) as error:
        catalog.find("zzz")
    assert "Did you mean" not in str(error.value)


def test_a_row_of_the_users_own_is_found_and_opens(tmp_path: Path) -> None:
    model = row(write(tmp_path), name="Tests/Own")
    catalog.add(model)
    assert catalog.find("tests/own") is model
    assert catalog.models()[-1] is model
    [vector] = open_model("tests/OWN")(["a text"])
    assert vector.shape == (DIM,)


def test_the_same_row_twice_changes_nothing_and_another_of_its_name_is_refused(
    tmp_path: Path,
) -> None:
    catalog.add(row(tmp_path, name="tests/own"))
    catalog.add(row(tmp_path, name="tests/own"))
    n_rows = len(catalog.models())
    with pytest.raises(SettingError, match=r"'Tests/OWN' is already registered; choose another"):
        catalog.add(row(tmp_path, name="Tests/OWN", dim=3))
    assert len(catalog.models()) == n_rows


def test_a_shipped_name_is_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="already registered"):
        catalog.add(row(tmp_path, name="baai/bge-small-en"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"name": " "}, "empty one"), ({"dim": 0}, "`dim`"), ({"max_tokens": 0}, "`max_tokens`")],
)
def test_a_row_that_cannot_be_right_is_refused_at_birth(changes: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {
        "name": "tests/own",
        "dim": 4,
        "source": LocalFolder(path=Path()),
        "model_file": "model.onnx",
        "recipe": StaticText(),
    }
    with pytest.raises(SettingError, match=said):
        Model(**(values | changes))


def test_a_recipe_whose_task_has_no_number_is_refused() -> None:
    with pytest.raises(SettingError, match=r"'query' is not one of \['passage'\]"):
        DenseText(pooling="mean", normalize=True, tasks=(("passage", 0),), query_task="query")
    with pytest.raises(SettingError, match=r"'task_id' needs `tasks` and a `passage_task`"):
        DenseText(pooling="mean", normalize=True, task_input="task_id")
