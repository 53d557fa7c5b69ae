"""Accelerators of this machine, found through NVML: the host itself never opens one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU. ``memory_mb`` in MiB."""

    index: int
    uuid: str
    name: str
    memory_mb: int


NONE = {"CUDA_VISIBLE_DEVICES": "-1"}
"""What an instance sees that is to use no device: where the pool has none, and to read files."""


def find() -> tuple[Device, ...]:
    """The GPUs, in NVML's order; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_describe(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        log.warning("the GPUs cannot be listed: %s", error)
        return ()
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int) -> Device:
    import pynvml as nvml

    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Device(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_mb=nvml.nvmlDeviceGetMemoryInfo(handle).total // (1 << 20),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def environment(devices: tuple[Device, ...], used: Mapping[str, int]) -> dict[str, str]:
    """What an instance must see: the least used of its pool's devices, or none.

    ``used`` counts the instances by device.
    """
    if not devices:
        return NONE
    device = min(devices, key=lambda device: used.get(device.uuid, 0))
    return {"CUDA_VISIBLE_DEVICES": device.uuid}
