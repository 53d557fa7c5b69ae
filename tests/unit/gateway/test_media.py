from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.gateway.http.asgi import _checked
from skipper.gateway.media import (
    MAX_NAME,
    disposition,
    file_name,
    is_shown,
    media_type_of,
    told_by_name,
)

OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("image/png", "image/png"),
        ("Image/PNG", "image/png"),
        ("text/csv; charset=UTF-8", "text/csv; charset=utf-8"),
        ('text/csv;charset="utf-8"', "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-8\r\nSet-Cookie: a=b", "text/csv"),
        ("image/png; charset=utf-8", "image/png"),
        ("image/png\r\nX: y", OCTETS),
        ("image/png\0", OCTETS),
        ("image", OCTETS),
        ("*/*", OCTETS),
        ("", OCTETS),
        ("image/" + "x" * 1000, OCTETS),
        ("imäge/png", OCTETS),
    ],
)
def test_a_media_type_is_sent_only_if_it_is_one(text: str, sent: str) -> None:
    assert media_type_of(text) == sent


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("7.png", "7.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\calc.exe", "calc.exe"),
        ("a\r\nb: c", "a__b_ c"),
        ("a\0b", "a_b"),
        ("..", ""),
        (".bashrc", "bashrc"),
        ("ends. ", "ends"),
        ("gpj\u202eexe.txt", "gpj_exe.txt"),
        ('quo"te', "quo_te"),
        ("naïve café.txt", "naïve café.txt"),
        ("lone \udc80 surrogate", "lone ? surrogate"),
        (None, ""),
        ("x" * 1000, "x" * MAX_NAME),
    ],
)
def test_a_name_is_one_that_no_system_takes_for_a_path(text: str | None, safe: str) -> None:
    assert file_name(text) == safe


@pytest.mark.parametrize(
    ("media_type", "is_safe"),
    [
        ("image/png", True),
        ("audio/wav", True),
        (OCTETS, True),
        ("text/csv; charset=utf-8", True),
        ("application/json", True),
        ("text/html", False),
        ("text/html; charset=utf-8", False),
        ("image/svg+xml", False),
        ("application/xhtml+xml", False),
        ("text/xml", False),
        ("text/javascript", False),
        ("application/ecmascript", False),
        ("application/pdf", False),
        ("multipart/x-mixed-replace", False),
        ("text/x-unheard-of", False),
    ],
)
def test_what_a_browser_might_run_is_sent_to_be_saved(media_type: str, is_safe: bool) -> None:
    assert is_shown(media_type) is is_safe
    assert disposition(media_type, None) == (None if is_safe else "attachment")


def test_a_name_is_told_in_ascii_and_as_it_is() -> None:
    assert disposition("image/png", "7.png") == 'inline; filename="7.png"'
    assert disposition("text/html", "a.html") == 'attachment; filename="a.html"'
    assert disposition("image/png", "ä%b;.png") == (
        "inline; filename=\"__b_.png\"; filename*=UTF-8''%C3%A4%25b%3B.png"
    )


@given(st.text(), st.text())
def test_no_word_of_others_ends_a_header(media_type: str, name: str) -> None:
    line = (disposition(media_type_of(media_type), name) or "").encode("ascii")
    headers = [(b"content-type", media_type_of(media_type).encode("ascii"))]
    headers.append((b"content-disposition", line))
    assert _checked(headers) == headers
    assert line.count(b'"') in (0, 2)


@given(st.text(max_size=20, alphabet="image/textsvghml+;= \r\n"))
def test_what_is_sent_as_a_type_is_sent_so_again(text: str) -> None:
    assert media_type_of(media_type_of(text)) == media_type_of(text)


@pytest.mark.parametrize(
    ("media_type", "name", "reads", "told"),
    [
        ("", "a.png", ("image/*",), "image/png"),
        (OCTETS, "a.PNG", ("image/*",), "image/png"),
        (OCTETS, "a.npy", ("application/x-npy",), "application/x-npy"),
        (
            OCTETS,
            "x/../a.parquet",
            ("application/vnd.apache.parquet",),
            "application/vnd.apache.parquet",
        ),
        (OCTETS, "a.html", ("image/*",), OCTETS),
        (OCTETS, None, ("image/*",), OCTETS),
        ("text/csv", "a.png", ("image/*",), "text/csv"),
    ],
)
def test_the_name_tells_a_type_that_its_sender_did_not(
    media_type: str, name: str | None, reads: tuple[str, ...], told: str
) -> None:
    assert told_by_name(media_type, name, reads) == told
