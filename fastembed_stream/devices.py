"""What this machine has for a process: GPUs that the driver shows, cores that it may use."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

__all__ = ["available_cores", "cuda_devices"]


@functools.cache
def cuda_devices() -> int:
    """
    Count the GPUs that the NVIDIA driver shows, without a word on a machine that has none.

    ONNX Runtime's GPU build lists CUDA as available everywhere, so its list cannot be asked.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


@functools.cache
def available_cores() -> int:
    """Count the cores that this process may use: its affinity, and the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _cgroup_quota() -> float | None:
    """Read the CPU quota of the control group, version 2 then 1; None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    if quota in {"max", "-1"}:
        return None
    return int(quota) / int(period)
