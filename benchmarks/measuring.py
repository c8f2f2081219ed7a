"""What the benchmarks share: where a figure was measured, and how it is summed up."""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from pathlib import Path

from keras_l2e import devices

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "torch")
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


def environment() -> dict:
    """Versions, processor and its features."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = set(next((x for x in cpu.splitlines() if x.startswith("flags")), "").split())
    model = next((x for x in cpu.splitlines() if x.startswith("model name")), ":").split(":")[1]
    return {
        "versions": versions,
        "cpu": model.strip() or platform.processor(),
        "cpu_features": [feature for feature in CPU_FEATURES if feature in flags],
        "cores": devices.num_cores(),
    }


def summary(values: list[float]) -> dict:
    """Median, least and greatest of repeated measurements, and the measurements themselves."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": values,
    }


def memory_mib() -> float:
    """Memory that this process holds now."""
    num_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return num_pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def write(path: str | Path | None, result: dict) -> None:
    """Writes a benchmark's result with its environment as JSON, if a path is given."""
    if path:
        Path(path).write_text(json.dumps({**result, **environment()}, indent=1) + "\n")
        print(f"written: {path}", file=sys.stderr)
