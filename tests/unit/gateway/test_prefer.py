import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.gateway.calls import NO_PREFERENCES
from skipper.gateway.prefer import TERMS, applied, idempotency_key, parse, sticky_key, with_terms


@pytest.mark.parametrize(
    ("header", "respond_async", "wait_s"),
    [
        ("", False, None),
        ("respond-async", True, None),
        ("Respond-Async", True, None),
        ("wait=20", False, 20.0),
        ("wait=0", False, 0.0),
        ('wait="7"', False, 7.0),
        ("wait = 7", False, 7.0),
        ("wait=0.5", False, 0.5),
        ("wait=20, respond-async", True, 20.0),
        ("respond-async,wait=20", True, 20.0),
        ("respond-async; foo=bar, wait=5", True, 5.0),
        ("return=minimal", False, None),
        ("handling=lenient, wait=3", False, 3.0),
        ("wait", False, None),
        ("wait=", False, None),
        ("wait=-1", False, None),
        ("wait=soon", False, None),
        ("wait=1e3", False, None),
        ("wait=nan", False, None),
        ("wait=9999999999", False, None),
        ("wait=\u00b2", False, None),
        ("waiting=5", False, None),
        ("respond-asynchronously", False, None),
        (",,;=,", False, None),
    ],
)
def test_preferences_are_read_and_those_without_a_meaning_ignored(
    header: str, respond_async: bool, wait_s: float | None
) -> None:
    preferences = parse(header)
    assert (preferences.respond_async, preferences.wait_s) == (respond_async, wait_s)
    assert preferences.wants_task is (respond_async or wait_s is not None)


@pytest.mark.parametrize(
    ("header", "is_minimal"),
    [
        ("return=minimal", True),
        ('Return = "Minimal", wait=3', True),
        ("return=representation", False),
        ("return", False),
        ("minimal", False),
        ("", False),
    ],
)
def test_a_value_may_be_wanted_as_a_file(header: str, is_minimal: bool) -> None:
    assert parse(header).is_minimal is is_minimal


def test_nobody_waits_longer_than_a_minute() -> None:
    assert parse("wait=3600").wait_s == 60.0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("respond-async", "respond-async"),
        ("wait=20", "wait=20"),
        ("wait=2.5, respond-async", "respond-async, wait=2.5"),
        ("wait=100", "wait=60"),
        ("return=minimal", ""),
    ],
)
def test_what_was_applied_is_what_was_done(header: str, value: str) -> None:
    assert applied(parse(header)) == value


def test_no_preference_wants_no_task() -> None:
    assert not NO_PREFERENCES.wants_task
    assert parse("") == NO_PREFERENCES


@given(st.text(max_size=60))
def test_any_header_can_be_read(header: str) -> None:
    wait_s = parse(header).wait_s
    assert wait_s is None or 0 <= wait_s <= 60


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc-123", "abc-123"),
        ('"abc-123"', "abc-123"),
        ("  abc  ", "abc"),
        ("a" * 255, "a" * 255),
        ("a" * 256, None),
        ("", None),
        ('""', None),
        ("two words", None),
        ('a"b', None),
        ("caf\u00e9", None),
        ("tab\tbed", None),
    ],
)
def test_an_idempotency_key_is_visible_ascii_quoted_or_bare(header: str, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize(
    ("header", "text", "member", "value"),
    [
        ("X-Skipper-Priority", "5", "priority", 5),
        ("X-Skipper-Priority", "-10", "priority", -10),
        ("X-Skipper-Priority", "+3", "priority", 3),
        ("X-Skipper-Delay", "0", "delay_s", 0.0),
        ("X-Skipper-Delay", "1.5", "delay_s", 1.5),
        ("X-Skipper-Delay", "90s", "delay_s", 90.0),
        ("X-Skipper-Expires", "5m", "expires_s", 300.0),
        ("X-Skipper-Expires", "1h30m", "expires_s", 5400.0),
    ],
)
def test_a_caller_chooses_when_and_how_urgently_a_task_runs(
    header: str, text: str, member: str, value: float
) -> None:
    preferences = with_terms(parse("wait=3"), {header: text})
    assert (getattr(preferences, member), preferences.wait_s) == (value, 3.0)


@pytest.mark.parametrize(
    ("header", "text", "detail"),
    [
        *(("X-Skipper-Priority", text, "from -10 to 10") for text in ("", "11", "-11", "1.5", "x")),
        ("X-Skipper-Priority", "\u0663", "from -10 to 10"),
        *(
            ("X-Skipper-Delay", text, "is no time")
            for text in ("", "soon", "-1", ".", "1.2.3", "inf")
        ),
        *(("X-Skipper-Delay", text, "a year ahead") for text in ("367d", "9" * 400)),
        ("X-Skipper-Expires", "0", "more than 0 seconds"),
        ("X-Skipper-Expires", "nan", "is no time"),
    ],
)
def test_terms_that_cannot_be_understood_are_refused_with_what_to_send(
    header: str, text: str, detail: str
) -> None:
    with pytest.raises(ValueError, match=f"^{header}: .*{detail}"):
        with_terms(NO_PREFERENCES, {header: text})


@given(st.sampled_from(sorted(TERMS)), st.text(max_size=20))
def test_any_text_is_read_or_refused(header: str, text: str) -> None:
    try:
        preferences = with_terms(NO_PREFERENCES, {header: text})
    except ValueError:
        return
    assert -10 <= (preferences.priority or 0) <= 10
    assert 0 <= (preferences.delay_s or preferences.expires_s or 0.0) <= 366 * 86400


@pytest.mark.parametrize(
    ("header", "text", "is_task"),
    [
        ("X-Skipper-Priority", "1", False),
        ("X-Skipper-Delay", "0", True),
        ("X-Skipper-Expires", "1", True),
    ],
)
def test_a_delay_or_an_expiry_makes_a_call_a_task(header: str, text: str, is_task: bool) -> None:
    preferences = with_terms(NO_PREFERENCES, {header: text})
    assert (preferences.wants_task, applied(preferences)) == (is_task, "")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("customer-17", "customer-17"),
        (" customer-17 ", "customer-17"),
        ("x" * 255, "x" * 255),
        ("x" * 256, None),
        ("", None),
        ("a b", None),
        ("caf\u00e9", None),
        ("a\x00", None),
    ],
)
def test_a_callers_key_is_visible_ascii(header: str, key: str | None) -> None:
    assert sticky_key(header) == key
