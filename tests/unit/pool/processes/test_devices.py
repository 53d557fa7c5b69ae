import pytest

from skipper.pool.processes.devices import Device, environment

A, B = (
    Device(index=n, uuid=f"GPU-{name}", name="T4", memory_mb=16_000) for n, name in enumerate("ab")
)


@pytest.mark.parametrize(
    ("devices", "used", "seen"),
    [
        ((A,), {}, "GPU-a"),
        ((A, B), {}, "GPU-a"),
        ((A, B), {"GPU-a": 1}, "GPU-b"),
        ((A, B), {"GPU-a": 1, "GPU-b": 1}, "GPU-a"),
        ((A, B), {"GPU-a": 1, "GPU-b": 2}, "GPU-a"),
        ((), {}, "-1"),
    ],
)
def test_an_instance_sees_the_least_used_of_its_pools_devices_or_none(
    devices: tuple[Device, ...], used: dict[str, int], seen: str
) -> None:
    assert environment(devices, used) == {"CUDA_VISIBLE_DEVICES": seen}
