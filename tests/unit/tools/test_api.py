"""The page of public names is what the code says, and the tool that makes it reads all of it."""

import pytest

import skipper
from tools import api


def test_the_page_is_what_the_code_says() -> None:
    assert api.PAGE.read_text() == api.page(), (
        "a public name or a hook has changed: run `make docs`"
    )


def test_every_public_name_and_every_hook_has_its_heading() -> None:
    headings = [line for line in api.page().splitlines() if line.startswith("### ")]
    names = {f"### `skipper.{name}`" for name in skipper.__all__}
    assert len(names) > 20
    assert names | {f"### `{hook}`" for hook in api.hook_names()} <= set(headings)
    assert len(headings) == len(set(headings))


def test_a_public_name_without_a_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skipper, "__all__", [*skipper.__all__, "brand_new"])
    with pytest.raises(LookupError, match="brand_new"):
        api.page()


class Sample:
    """A class with one of each."""

    plain: int
    """What it is.

    And more.
    """
    _private: str = ""

    def __init__(self) -> None:
        self.made = 1
        """What is made."""
        self.typed: list[int] = []

    @property
    def seen(self) -> bool:
        """Whether it was."""
        return True

    def method(self, a: "int | None", /, b: str = "x", *rest: int, c: object = None) -> "str":
        """Do it."""
        return f"{a}{b}{rest}{c}"


def test_members_are_listed_with_types_signatures_and_descriptions() -> None:
    names = ["plain", "made", "typed", "seen", "method"]
    assert list(api.attributes(Sample)) == ["plain", "made", "typed"]
    assert list(api.listed(Sample, names)) == [
        "- `plain: int` — What it is.\n\n  And more.",
        "- `made` — What is made.",
        "- `typed: list[int]`",
        "- `seen: bool` — Whether it was.",
        "- `method(a: int | None, /, b: str = 'x', *rest: int, c: object = None) -> str` — Do it.",
        "",
    ]


@pytest.mark.parametrize(
    ("doc", "markdown"),
    [
        ("``x`` and :class:`~a.b.C` of :meth:`D.e`.", "`x` and `C` of `D.e`."),
        ("So::\n\n    a = 1\n\n    b = 2\n\nEnd.", "So:\n\n```python\na = 1\n\nb = 2\n```\n\nEnd."),
    ],
)
def test_a_docstring_becomes_markdown(doc: str, markdown: str) -> None:
    assert api.markdown(doc) == markdown
