import pytest

from skipper.pool.processes.devices import Device, environment

A, B = (
    Device(index=n, uuid=f"GPU-{name}", name="T4", memory_mb=16_000) for n, name in enumerate("ab")
)


@pytest.mark.parametrize(
    ("pool", "devices", "used", "seen"),
    [
        ("gpu", (A,), {}, "GPU-a"),
        ("gpu", (A, B), {}, "GPU-a"),
        ("gpu", (A, B), {"GPU-a": 1}, "GPU-b"),
        ("gpu", (A, B), {"GPU-a": 1, "GPU-b": 1}, "GPU-a"),
        ("gpu", (A, B), {"GPU-a": 1, "GPU-b": 2}, "GPU-a"),
        ("gpu", (), {}, "-1"),
        ("cpu", (A, B), {}, "-1"),
    ],
)
def test_an_instance_of_the_gpu_pool_sees_the_least_used_device_and_no_other_sees_any(
    pool: str, devices: tuple[Device, ...], used: dict[str, int], seen: str
) -> None:
    assert environment(pool, devices, used) == {"CUDA_VISIBLE_DEVICES": seen}
