"""Tables for Skipper: any CSV plus a target column becomes a served scikit-learn model.

Its functions let callers read files and replace models, so a project has them only where it has a
``[plugins.tabular]`` table, and within its bounds. The models are kept by ``skipper_sklearn``. This
module holds the hooks and imports none of the libraries: every instance loads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import skipper
from skipper_tabular.settings import Settings, check_libraries

SOURCE = "tabular"
"""The source of its functions, and the table of settings that they need."""
configured: list[Settings] = []
"""The project's table, in an instance of those functions; in all others nothing."""
_HELD = frozenset(
    {"pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "skops.io"}
)


@skipper.hook
def skipper_sources(project: skipper.Project) -> Collection[skipper.Source]:
    """Name the file of ``tabular.prepare``, ``train`` and ``predict``, where a table stands."""
    if SOURCE not in project.set_up:
        return ()
    file = Path(__file__).with_name("tabular.py")
    module = "skipper_tabular.tabular"
    return (skipper.Source(name=SOURCE, file=file, module=module, origin="tabular"),)


@skipper.hook
def skipper_settings(settings: Mapping[str, Any]) -> None:
    """Take the table: the folder that callers may read, and the models that they may replace."""
    check_libraries()
    configured[:] = [Settings.model_validate(settings)]


@skipper.hook
def skipper_libraries(imports: frozenset[str]) -> Collection[str]:
    """Name what this package's own modules import, for a file that uses them."""
    return _HELD if any(name.partition(".")[0] == __name__ for name in imports) else ()
