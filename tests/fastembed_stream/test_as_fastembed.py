"""Code that imports fastembed, or looks for it, gets this package where that was asked for."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastembed_stream
from fastembed_stream.fastembed_api import paths
from tests.fastembed_stream.examples import ROOT

INSTALL = "import fastembed_stream; fastembed_stream.install_as_fastembed()"
KNOWN = {  # what public code imports, and from where
    "common": {"OnnxProvider", "ImageInput", "PathInput"},
    "common.types": {"NumpyArray", "Device", "OnnxProvider", "ImageInput", "PathInput"},
    "common.model_description": {
        "PoolingType",
        "ModelSource",
        "BaseModelDescription",
        "DenseModelDescription",
        "SparseModelDescription",
    },
    "common.utils": {"define_cache_dir"},
    "embedding": {"DefaultEmbedding", "FlagEmbedding", "JinaEmbedding", "TextEmbedding"},
    "text": {"TextEmbedding"},
    "text.text_embedding": {"TextEmbedding"},
    "text.text_embedding_base": {"TextEmbeddingBase"},
    "image": {"ImageEmbedding"},
    "image.image_embedding": {"ImageEmbedding"},
    "sparse": {"SparseEmbedding", "SparseTextEmbedding"},
    "sparse.bm25": {"Bm25"},
    "sparse.sparse_embedding_base": {"SparseEmbedding", "SparseTextEmbeddingBase"},
    "sparse.sparse_text_embedding": {"SparseTextEmbedding"},
    "late_interaction": {"LateInteractionTextEmbedding"},
    "late_interaction_multimodal": {"LateInteractionMultimodalEmbedding"},
    "rerank.cross_encoder": {"TextCrossEncoder"},
    "rerank.cross_encoder.text_cross_encoder": {"TextCrossEncoder"},
    "postprocess": {"Muvera"},
    "postprocess.muvera": {"Muvera"},
}


def told(code: str, **environment: str) -> Any:
    """Run code in a process of its own, and give what it prints as JSON last."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment or None,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("path", "names"), KNOWN.items())
def test_every_path_that_public_code_imports_is_there(path: str, names: set[str]) -> None:
    module = importlib.import_module(f"fastembed_stream.{path}")
    assert names <= set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert importlib.util.find_spec(module.__name__) is module.__spec__


@pytest.mark.parametrize("path", [path for path in paths._TABLE if path])
def test_every_path_is_one_of_fastembeds_and_has_names_that_stand_there(path: str) -> None:
    pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = importlib.import_module(f"fastembed.{path}")
    ours = importlib.import_module(f"fastembed_stream.{path}")
    assert [name for name in ours.__all__ if not hasattr(theirs, name)] == []


def test_a_path_leads_to_the_same_classes_as_the_package() -> None:
    code = """
import fastembed_stream, json
from fastembed_stream import postprocess, rerank
from fastembed_stream.late_interaction import LateInteractionTextEmbedding
from fastembed_stream.sparse.sparse_embedding_base import SparseEmbedding
import fastembed_stream.text.text_embedding as text
assert rerank.cross_encoder.TextCrossEncoder is fastembed_stream.TextCrossEncoder
assert postprocess.Muvera is fastembed_stream.Muvera
assert LateInteractionTextEmbedding is fastembed_stream.LateInteractionTextEmbedding
assert SparseEmbedding is fastembed_stream.SparseEmbedding
print(json.dumps(text.TextEmbedding is fastembed_stream.TextEmbedding))
"""
    assert told(code) is True


def test_a_path_that_fastembed_lacks_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"fastembed_stream\.common\.nothing"):
        importlib.import_module("fastembed_stream.common.nothing")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from fastembed_stream.common import Nothing")  # noqa: S102  as users write it


def test_the_version_of_the_package_is_told() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {fastembed_stream.__version__}\n" in changes


def test_what_is_loaded_again_is_what_it_was() -> None:
    code = f"""
{INSTALL}
import importlib, json, sys
import fastembed, fastembed.text
finders = list(sys.meta_path)
for module in (fastembed_stream, fastembed, fastembed.text):
    before = set(vars(module)), module.__file__, getattr(module, "__version__", "")
    again = importlib.reload(module)
    after = set(vars(again)), again.__file__, getattr(again, "__version__", "")
    assert before == after, (before, after)
assert sys.meta_path == finders
del sys.modules["fastembed_stream"]
import fastembed_stream
assert fastembed_stream.open_model and fastembed_stream.TextEmbedding is fastembed.TextEmbedding
print(json.dumps(fastembed_stream.__file__))
"""
    assert told(code).endswith("fastembed_stream/__init__.py")


def test_whoever_imports_fastembed_gets_this_package() -> None:
    code = f"""
{INSTALL}
{INSTALL}  # twice is once
import importlib, importlib.util, json, sys
assert sum(isinstance(f, fastembed_stream.fastembed_api.paths.Paths) for f in sys.meta_path) == 2
assert importlib.util.find_spec("fastembed") and "fastembed" not in sys.modules
import fastembed
from fastembed import TextEmbedding
from fastembed.rerank.cross_encoder import TextCrossEncoder
import fastembed.common.types as types
assert fastembed.TextEmbedding is TextEmbedding is fastembed_stream.TextEmbedding
assert fastembed.postprocess.muvera.Muvera is fastembed_stream.Muvera
assert list[types.ImageInput] and types.OnnxProvider | None
assert importlib.import_module("fastembed.sparse.bm25").Bm25("Qdrant/bm25").raw_embed(["a b"])
for path in {sorted(KNOWN)}:
    ours = importlib.import_module("fastembed_stream." + path)
    theirs = importlib.import_module("fastembed." + path)
    assert ours.__all__ == theirs.__all__
    assert all(getattr(ours, name) == getattr(theirs, name) for name in ours.__all__)
assert TextEmbedding.__module__.startswith("fastembed_stream.")  # as a pickle finds it
print(json.dumps(fastembed.__version__))
"""
    assert told(code) == paths.VERSION


def test_whoever_asks_for_the_distribution_is_told_fastembeds_version() -> None:
    code = f"""
{INSTALL}
import json
from importlib import metadata
distribution = metadata.distribution("fastembed")
assert distribution.metadata["Name"] == "fastembed" and not distribution.requires
assert "fastembed" in metadata.packages_distributions()
assert metadata.distribution("numpy").files
print(json.dumps([metadata.version(name) for name in ("fastembed", "FastEmbed", "fastembed-gpu")]))
"""
    assert told(code) == [paths.VERSION] * 3


def test_nothing_stands_for_fastembed_unless_asked_for() -> None:
    code = """
import importlib.util, json, fastembed_stream
spec = importlib.util.find_spec("fastembed")
print(json.dumps(spec and spec.origin))
"""
    assert "fastembed_stream" not in (told(code) or "")


def test_the_version_is_that_of_the_oracle() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    assert fastembed.__version__ == paths.VERSION


def test_an_installed_fastembed_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "fastembed").mkdir()
    (tmp_path / "fastembed/__init__.py").write_text("raise SystemExit('the other one')")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
{INSTALL}
import fastembed, json
print(json.dumps(fastembed.TextEmbedding.__module__))
"""
    assert told(code) == "fastembed_stream.fastembed_api.text"


def test_a_fastembed_that_is_imported_already_is_left_alone_and_the_reason_is_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "fastembed").mkdir()
    (tmp_path / "fastembed/__init__.py").write_text("__version__ = '0.3.1'")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import fastembed, json, fastembed_stream
try:
    fastembed_stream.install_as_fastembed()
except fastembed_stream.SettingError as error:
    print(json.dumps(str(error)))
assert sys.modules["fastembed"] is fastembed
assert not any(getattr(finder, "root", "") == "fastembed" for finder in sys.meta_path)
"""
    said = told(code)
    assert "fastembed 0.3.1 is imported already" in said
    assert str(tmp_path) in said
    assert "before anything that imports fastembed" in said


def test_who_looked_for_fastembed_in_vain_is_named(tmp_path: Path) -> None:
    (tmp_path / "looked.py").write_text(
        "try:\n    from fastembed_absent import TextEmbedding\n"
        "except ImportError:\n    TextEmbedding = None\n"
    )
    code = f"""
import json, sys, warnings; sys.path.insert(0, {str(tmp_path)!r})
import looked, fastembed_stream
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fastembed_stream.install_as_fastembed()
print(json.dumps([str(one.message) for one in caught]))
"""
    [said] = told(code)
    assert said.startswith("looked looked for fastembed earlier, found none")


def test_a_spawned_process_has_it_where_its_main_module_calls_it(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"""
{INSTALL}
import multiprocessing

def where(_):
    from fastembed import SparseTextEmbedding
    return SparseTextEmbedding.__module__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(where, [0])[0])
""")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "fastembed_stream.fastembed_api.sparse", done.stderr
    assert "spawn" in multiprocessing.get_all_start_methods()


def test_to_import_fastembed_so_is_as_cheap_as_this_package() -> None:
    code = f"""
{INSTALL}
import fastembed, json, sys
heavy = ("onnxruntime", "tokenizers", "huggingface_hub", "PIL", "importlib.metadata")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    assert told(code) == []
