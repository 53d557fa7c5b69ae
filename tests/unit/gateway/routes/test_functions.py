"""What callers elsewhere are shown of where a function's file lies."""

from __future__ import annotations

import pytest

from skipper.gateway.routes.functions import short


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("functions/houses.py", "functions/houses.py"),
        ("functions/houses/__init__.py", "functions/houses/__init__.py"),
        ("/srv/venv/lib/site-packages/skipper_tabular/tabular.py", "skipper_tabular/tabular.py"),
        ("/plugin.py", "/plugin.py"),
    ],
)
def test_a_file_of_the_project_is_whole_and_an_installed_one_is_not(file: str, shown: str) -> None:
    assert short(file) == shown
