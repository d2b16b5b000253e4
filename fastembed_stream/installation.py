"""
ONNX Runtime as it is installed here, and what is wrong with it where it does not work.

Its builds for CPU and GPU are packages of two names that write the same files: the one installed
later overwrites the other without a word, and removing one takes the other's files along.
"""

from __future__ import annotations

import functools
import logging
import platform
import sys
from typing import TYPE_CHECKING, Any

from fastembed_stream.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["no_cuda_provider", "onnx_runtime", "warn_of_an_overwritten_gpu_build"]

_LOG = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_CPU_BUILD = "onnxruntime"
_GPU_BUILD = "onnxruntime-gpu"
_BUILDS = (
    _CPU_BUILD,
    _GPU_BUILD,
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)
"""Packages that write a folder `onnxruntime`."""

_NEEDED = ("InferenceSession", "SessionOptions", "get_available_providers")


def onnx_runtime() -> Any:  # noqa: ANN401  a module without types
    """
    Import ONNX Runtime.

    raises  DeviceError where it is missing or cannot work, with the command that cures it
    """
    try:
        import onnxruntime
    except Exception as error:
        if not _installed():
            msg = f"ONNX Runtime is not installed. Run: pip install {_build_for_here()}"
        else:
            told = f"{type(error).__name__}: {error}".rstrip(".")
            msg = f"ONNX Runtime cannot be imported ({told}). {_cause()} {_cure()}"
        raise DeviceError(msg) from error
    lacking = [name for name in _NEEDED if not hasattr(onnxruntime, name)]
    if lacking:
        what = "hollow" if getattr(onnxruntime, "__file__", None) is None else "not whole"
        msg = (
            f"The package 'onnxruntime' in {_place(onnxruntime)} is {what}: it has no "
            f"{' or '.join(lacking)}. {_cause()} {_cure()}"
        )
        raise DeviceError(msg)
    return onnxruntime


def no_cuda_provider() -> str:
    """Say why the ONNX Runtime that is here has no CUDA provider, and what to run."""
    installed = _installed()
    if _GPU_BUILD in installed:
        cause = f"another package has put `{_CPU_BUILD}` over `{_GPU_BUILD}`."
    else:
        cause = f"it is the build {' and '.join(installed) or 'of another source'}."
    return f"the installed ONNX Runtime has no CUDA provider: {cause} {_cure(_GPU_BUILD)}"


@functools.cache
def warn_of_an_overwritten_gpu_build() -> None:
    """Log, once in a process, that a GPU build is installed and another one lies over it."""
    installed = _installed()
    if _GPU_BUILD in installed and len(installed) > 1 and not _has_cuda():
        _LOG.warning(
            "The GPU build of ONNX Runtime was overwritten: %s are installed, and what lies there "
            "has no CUDA provider, so models run on the CPU. %s",
            " and ".join(installed),
            _cure(_GPU_BUILD),
        )


def _has_cuda() -> bool:
    return _CUDA in onnx_runtime().get_available_providers()


def _installed() -> list[str]:
    """Name the builds that are recorded as installed, whether or not their files are there."""
    return [name for name in _BUILDS if _is_installed(name)]


def _is_installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _cause() -> str:
    installed = _installed()
    if len(installed) > 1:
        return f"{' and '.join(installed)} are both installed, and write the same files."
    return (
        f"Only {installed[0] if installed else 'an empty folder'} is left: builds of ONNX Runtime "
        "share their files, and removing one took those of the other along."
    )


def _cure(build: str | None = None) -> str:
    build = build or _build_for_here()
    removed = " ".join(dict.fromkeys((_CPU_BUILD, _GPU_BUILD, *_installed())))
    return f"Run: pip uninstall -y {removed} && pip install {build}"


def _build_for_here() -> str:
    """Name the build that this project depends on: the GPU's, which runs on CPUs too."""
    has_gpu_build = sys.platform == "win32" or (
        sys.platform == "linux" and platform.machine() == "x86_64"
    )
    return _GPU_BUILD if has_gpu_build else _CPU_BUILD


def _place(module: object) -> str:
    paths: Sequence[str] = list(getattr(module, "__path__", ()))
    return paths[0] if paths else "an unknown place"
