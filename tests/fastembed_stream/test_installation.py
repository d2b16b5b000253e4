"""ONNX Runtime that was overwritten or emptied: the error says so, and how to cure it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fastembed_stream.examples import ROOT
from tests.fastembed_stream.tiny_models import write

CPU, GPU = "onnxruntime", "onnxruntime-gpu"
CURE = r"Run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"

WORKS = """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

# The real one, as if it had been installed here.
spec = PathFinder.find_spec("onnxruntime", {real!r})
module = module_from_spec(spec)
sys.modules["onnxruntime"] = module
spec.loader.exec_module(module)
module.get_available_providers = lambda: ["CPUExecutionProvider"]
"""
"""An `__init__.py` that hands on to the ONNX Runtime of the tests, as a build without CUDA."""

OPENS = """
import logging
from pathlib import Path
logging.basicConfig(format="LOGGED %(levelname)s %(message)s")
from fastembed_stream.errors import DeviceError
from fastembed_stream.runtime import Runtime
from fastembed_stream.shared_sessions import open_session
try:
    for threads in (1, 2):
        session = open_session(Path({graph!r}), Runtime(device={device!r}, threads=threads))
        print("RUNS ON", session.device)
except DeviceError as error:
    print("ERROR", error)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    A folder of installed packages.

    installed  builds that are recorded as installed
    files      files of the package `onnxruntime` by path
    """

    installed: Sequence[str]
    files: dict[str, str]

    def write(self, folder: Path) -> Path:
        for name in (CPU, GPU):
            record = folder / f"{name.replace('-', '_')}-1.23.2.dist-info"
            record.mkdir(parents=True)
            if name in self.installed:
                metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.23.2\n"
                (record / "METADATA").write_text(metadata, encoding="utf-8")
            else:
                record.rmdir()
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return folder


def opened(site: Path, graph: Path, device: str = "auto") -> str:
    """Open a graph in a process that finds the packages of a folder first; give what it says."""
    hide = (
        # What the tests have installed must not be found behind the folder.
        "import sys\n"
        "import importlib.metadata as m\n"
        "from importlib.machinery import PathFinder\n"
        "class Here:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            return PathFinder.find_spec(name, [site])\n"
        "sys.meta_path.insert(0, Here())\n"
        "real = m.version\n"
        f"site = {str(site)!r}\n"
        "def version(name):\n"
        "    if name.startswith('onnxruntime'):\n"
        "        for found in m.distributions(name=name, path=[site]):\n"
        "            return found.version\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
    )
    code = hide + OPENS.format(graph=str(graph), device=device)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("toy")) / "model.onnx"


@pytest.fixture(scope="module")
def works() -> str:
    import onnxruntime

    return WORKS.format(real=[str(Path(onnxruntime.__file__).parents[1])])


HOLLOW = {"onnxruntime/capi/libonnxruntime_providers_cuda.so": "left by the GPU build"}
NO_BINARY = {
    "onnxruntime/__init__.py": "from onnxruntime.capi._pybind_state import InferenceSession",
    "onnxruntime/capi/__init__.py": "",
}
MIXED = NO_BINARY | {
    "onnxruntime/__init__.py": "import onnxruntime.capi as built\nbuilt.get_available_providers"
}
LEFT: list[tuple[dict[str, str], list[str], str, str]] = [
    (HOLLOW, [GPU], "auto", r"is hollow: it has no InferenceSession .* Only onnxruntime-gpu is"),
    (HOLLOW, [GPU], "cpu", r"is hollow: it has no InferenceSession"),
    (HOLLOW, [GPU], "cuda", r"is hollow: it has no InferenceSession"),
    (HOLLOW, [CPU], "auto", r"is hollow: .* Only onnxruntime is left.* took those of the other"),
    (HOLLOW, [CPU, GPU], "auto", r"is hollow: .*onnxruntime and onnxruntime-gpu are both inst"),
    (HOLLOW, [], "auto", r"is hollow: "),
    ({"onnxruntime/__init__.py": ""}, [CPU, GPU], "cpu", r"is not whole: it has no Inference"),
    (NO_BINARY, [GPU], "auto", r"cannot be imported \(ModuleNotFoundError: .*_pybind_state"),
    (MIXED, [CPU, GPU], "cpu", r"cannot be imported \(AttributeError: .* are both installed"),
]


@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_of_a_package_is_an_error_with_its_cause_and_cure(
    left: tuple[dict[str, str], list[str], str, str], graph: Path, tmp_path: Path
) -> None:
    files, installed, device, told = left
    said = opened(Site(installed=installed, files=files).write(tmp_path / "site"), graph, device)
    assert re.search(rf"^ERROR .*{told}", said, re.MULTILINE), said
    assert CURE in said


def test_auto_says_once_that_the_gpu_build_was_overwritten(
    graph: Path, works: str, tmp_path: Path
) -> None:
    files = {"onnxruntime/__init__.py": works}
    said = opened(Site(installed=[CPU, GPU], files=files).write(tmp_path / "site"), graph)
    assert said.count("RUNS ON cpu") == 2
    assert said.count("LOGGED WARNING The GPU build of ONNX Runtime was overwritten") == 1
    assert CURE in said


@pytest.mark.parametrize("installed", [[CPU], [GPU], []])
def test_a_single_build_is_nothing_to_speak_of(
    installed: list[str], graph: Path, works: str, tmp_path: Path
) -> None:
    files = {"onnxruntime/__init__.py": works}
    said = opened(Site(installed=installed, files=files).write(tmp_path / "site"), graph)
    assert said.count("RUNS ON cpu") == 2
    assert "LOGGED" not in said


@pytest.mark.parametrize(
    ("installed", "cause"),
    [
        ([CPU, GPU], "another package has put `onnxruntime` over `onnxruntime-gpu`"),
        ([CPU], "it is the build onnxruntime"),
    ],
)
def test_cuda_without_its_provider_says_which_build_is_here(
    installed: list[str], cause: str, graph: Path, works: str, tmp_path: Path
) -> None:
    files = {"onnxruntime/__init__.py": works}
    site = Site(installed=installed, files=files).write(tmp_path / "site")
    said = opened(site, graph, "cuda")
    told = f"device='cuda', but the installed ONNX Runtime has no CUDA provider: {cause}"
    assert f"ERROR {told}" in said
    assert CURE in said


def test_no_onnx_runtime_at_all_is_an_error_that_says_what_to_install(
    graph: Path, tmp_path: Path
) -> None:
    files = {"onnxruntime.py": "raise ModuleNotFoundError(\"No module named 'onnxruntime'\")"}
    said = opened(Site(installed=[], files=files).write(tmp_path / "site"), graph)
    assert "ERROR ONNX Runtime is not installed. Run: pip install onnxruntime" in said
