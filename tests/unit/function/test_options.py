from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.errors import DefinitionError
from skipper.function import options
from skipper.function.options import mebibytes
from skipper.spec import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("2d", 172_800.0),
    ],
)
def test_a_time_is_seconds_or_a_number_with_its_unit(text: float | str, expected: float) -> None:
    assert seconds(text) == expected


@given(st.integers(0, 9), st.integers(0, 59), st.integers(0, 59))
def test_parts_of_a_time_add_up(h: int, m: int, s: int) -> None:
    assert seconds(f"{h}h{m}m{s}s") == h * 3600 + m * 60 + s


@pytest.mark.parametrize("text", ["", "soon", "30", "30 x", "-3s", "3s!", "1h-30m", True, None, []])
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(DefinitionError, match="is not a time"):
        seconds(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(512, 512), ("512MB", 512), ("512 MiB", 512), ("2GB", 2048), ("1.5GB", 1536)],
)
def test_a_size_is_mebibytes_or_a_number_with_its_unit(size: int | str, expected: int) -> None:
    assert mebibytes(size) == expected


@pytest.mark.parametrize("size", ["", "512", "512kb", "-1GB", "2 G", 0.5, True, None])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(DefinitionError, match="is not a size"):
        mebibytes(size)


@pytest.mark.parametrize(
    "given_",
    [
        {},
        {"pool": "gpu", "mode": "task", "timeout": "30m", "retries": 0, "memory": "2GB"},
        {"min": 0, "max": 1, "idle": 30, "recycle": 1},
        {"batch": 64, "batch_wait": "5ms", "batch_with": "predict_all"},
        {"batch": 1, "batch_with": len},
        {"retries": 1, "retry_on": OSError, "backoff": "5m"},
        {"retries": 1, "retry_on": ("Timeout", "requests.ConnectionError", OSError)},
        {"start_timeout": "10s", "expires": "1h", "priority": -10},
        {"schedule": "0 3 * * *"},
        {"schedule": "0 3 * * *", "timezone": "Europe/Vilnius", "missed": "all"},
        {"schedule": "0 3 * * *", "overlap": "skip"},
        {"concurrency": 1, "concurrency_key": "customer", "threads": 4},
    ],
)
def test_good_options_pass(given_: Any) -> None:
    options.check(given_, "f.py", 1)


def test_a_file_may_name_any_pool_until_it_is_known_which_there_are() -> None:
    options.check({"pool": "big"}, "functions/f.py", 7)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"polo": "cpu"}, "unknown option 'polo'; did you mean 'pool'?"),
        ({"xyz": 1}, "known are pool, mode, timeout"),
        ({"pool": 1}, "pool=1: write a pool's name, as 'cpu'"),
        ({"mode": "queue"}, "mode='queue': write 'direct' or 'task'"),
        ({"timeout": 0}, "timeout=0: write a positive time"),
        ({"timeout": -1}, "timeout=-1: write a positive time"),
        ({"timeout": float("nan")}, "timeout=nan: write a positive time"),
        ({"timeout": float("inf")}, "timeout=inf: write a positive time"),
        ({"timeout": "0.5ms"}, "timeout='0.5ms': write at least '1ms'"),
        ({"idle": "0s"}, "idle='0s': write a positive time"),
        ({"retries": -1}, "retries=-1: write a whole number of at least 0"),
        ({"retries": 1.5}, "retries=1.5: write a whole number"),
        ({"retries": True}, "retries=True: write a whole number"),
        ({"max": 0}, "max=0: write a whole number of at least 1"),
        ({"memory": 0}, "memory=0: write a positive size"),
        ({"recycle": 0}, "recycle=0"),
        ({"batch": 0}, "batch=0"),
        ({"min": 5, "max": 2}, "min=5 is more than max=2"),
        ({"batch_wait": "5ms"}, "batch_wait needs batch="),
        ({"batch_with": "f"}, "batch_with needs batch="),
        ({"batch": 2, "batch_with": "not a name"}, "write the name of a function of this file"),
        ({"batch": 2, "batch_with": 3}, "write the name of a function of this file"),
        ({"retry_on": OSError}, "retry_on needs retries=…, how many further attempts"),
        ({"retries": 0, "backoff": 1}, "backoff needs retries="),
        ({"retries": 1, "retry_on": ()}, "retry_on=(): write an exception class, its name in"),
        ({"retries": 1, "retry_on": int}, "write an exception class"),
        ({"retries": 1, "retry_on": ["OSError"]}, "write an exception class"),
        ({"retries": 1, "retry_on": "not a name"}, "write an exception class"),
        ({"retries": 1, "retry_on": (OSError, 3)}, "write an exception class"),
        ({"retries": 1, "backoff": 0}, "backoff=0: write a positive time"),
        ({"retries": 1, "backoff": "6m"}, "backoff='6m': write at most '5m'"),
        ({"start_timeout": 0}, "start_timeout=0: write a positive time"),
        ({"expires": "soon"}, "'soon' is not a time"),
        ({"expires": "367d"}, "expires='367d': write a positive time of at most a year"),
        ({"priority": 11}, "priority=11: write a whole number from -10 to 10"),
        ({"priority": True}, "priority=True: write a whole number"),
        ({"priority": "high"}, "priority='high': write a whole number"),
        ({"schedule": "0 25 * * *"}, "schedule='0 25 * * *': the hour is wrong"),
        ({"schedule": "@daily"}, "schedule='@daily': write five fields"),
        (
            {"schedule": "0 3 * * *", "timezone": "Europe/Vilna"},
            "timezone='Europe/Vilna': there is no such time zone; did you mean",
        ),
        (
            {"schedule": "0 3 * * *", "missed": "never"},
            "missed='never': write 'once' or 'skip' or 'all'",
        ),
        ({"timezone": "UTC"}, "timezone needs schedule="),
        ({"missed": "all"}, "missed needs schedule="),
        ({"overlap": "skip"}, "overlap needs schedule="),
        (
            {"schedule": "0 3 * * *", "overlap": "wait"},
            "overlap='wait': write 'queue' or 'skip' or 'cancel' or 'allow'",
        ),
        ({"concurrency": 0}, "concurrency=0: write a whole number of at least 1"),
        ({"concurrency_key": "x"}, "concurrency_key needs concurrency=…, how many tasks at once"),
        ({"concurrency": 1, "concurrency_key": 3}, "write a parameter's name in quotes"),
        ({"threads": 0}, "threads=0: write a whole number of at least 1"),
        ({"threads": "all"}, "threads='all': write a whole number"),
    ],
)
def test_a_wrong_option_is_refused_with_its_place_and_what_to_write(
    given_: Any, message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        options.check(given_, "functions/f.py", 7)
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("functions/f.py", 7)
