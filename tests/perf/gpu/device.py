"""The device that is measured on, and how a measurement that fails becomes a row, not an end."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ON_CPU = "tiny shape on CPU: only shows that it runs"
OUT_OF_MEMORY = "out of memory"

# Dense bf16 with float32 accumulation, TFLOP/s, as their makers state it; the first name that is
# part of the device's counts.
PEAKS = {
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200 NVL": 835,
    "H200": 989,
    "A100": 312,
    "RTX 4090": 165,
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Device:
    """A GPU, or a CPU on which everything is tiny. `peak_tflops` is None where we do not know it,
    `memory_gib` on a CPU.
    """

    torch: torch.device
    name: str
    peak_tflops: float | None
    memory_gib: float | None

    @property
    def is_gpu(self) -> bool:
        return self.torch.type == "cuda"

    @property
    def note(self) -> str:
        """What every line says that is printed."""
        return "" if self.is_gpu else ON_CPU

    @property
    def title(self) -> str:
        """What a table's heading says."""
        return f"{self.name} · {self.note}" if self.note else self.name

    def wait(self) -> None:
        """Until all that was asked of the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def watch_memory(self) -> float:
        """Forget the peak so far; return the GiB that are held now."""
        if not self.is_gpu:
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**30

    def peak_gib(self) -> float | None:
        """The peak since `watch_memory`; None on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.is_gpu else None

    def release(self) -> None:
        """Give back what nobody holds any more."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()


def find_device() -> Device:
    """The first GPU, or the CPU."""
    if not torch.cuda.is_available():
        return Device(torch.device("cpu"), "CPU", None, None)
    name = torch.cuda.get_device_name(0)
    return Device(
        torch.device("cuda", 0),
        name,
        peak_of(name),
        torch.cuda.get_device_properties(0).total_memory / 2**30,
    )


def peak_of(name: str) -> float | None:
    """TFLOP/s of a device with this name, None if we do not know it."""
    return next((value for part, value in PEAKS.items() if part in name), None)


def attempt(measure: Callable[[], Row], device: Device) -> Row:
    """What `measure` finds, or {"failed": why}."""
    device.release()
    try:
        return measure()
    except torch.OutOfMemoryError:
        failed = OUT_OF_MEMORY
    except ImportError as error:
        failed = f"not installed: {error.name}"
    # another version of a library may raise anything, and the other rows are worth having
    except Exception as error:
        text = " ".join(str(error).split())
        failed = (
            OUT_OF_MEMORY
            if "out of memory" in text.lower()
            else f"{type(error).__name__}: {text[:200]}"
        )
    return {"failed": failed}


def shown(value: float | None, form: str, width: int) -> str:
    """A number in a column of a table; a dash where there is none."""
    return ("–" if value is None else format(value, form)).rjust(width)


def said(row: Row, device: Device) -> str:
    """What stands behind the numbers of a row: why there are none, and what they are worth."""
    return " " + " · ".join(part for part in (row["failed"], device.note) if part)
