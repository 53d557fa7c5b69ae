"""A sink that keeps a run's events, and can cancel it; a survey by a fresh process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from skipper.function.run import Run
from skipper.instance.jobs import Report

_SURVEY = """
import pathlib, sys
from skipper.instance import loader
from skipper.instance.plugins import Plugins
project = loader.project_of(pathlib.Path(sys.argv[1]), frozenset(sys.argv[2:]))
loader.make_importable(project)
plugins = Plugins(project.plugins_dir)
print(loader.survey(project, plugins, ["cpu", "gpu"]).model_dump_json())
"""


def survey(folder: Path, *set_up: str) -> Report:
    """What an instance reports of a project that has tables of the plugins ``set_up``."""
    command = [sys.executable, "-c", _SURVEY, str(folder), *set_up]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Report.model_validate_json(done.stdout)


class KeptEvents:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.cancel_after: int | None = None

    @property
    def run(self) -> Run:
        return Run(self)

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == "progress"]

    def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def is_cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.events) >= self.cancel_after
