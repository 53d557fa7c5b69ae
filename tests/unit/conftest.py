"""Empty ledgers, quickly; and this process as an instance that imports a project's modules."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper import formats
from skipper.instance import loader
from skipper.instance.jobs import SourceInfo
from skipper.ledger import Ledger


@pytest.fixture(scope="session")
def blank_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a ledger that nothing has been written to."""
    folder = tmp_path_factory.mktemp("blank")
    Ledger.open(f"sqlite:///{folder / 'ledger.db'}").close()
    return folder


@pytest.fixture
def ledger_url(blank_ledger: Path, tmp_path: Path) -> str:
    """A ledger of the test's own; making its tables anew would take most of the test's time."""
    shutil.copytree(blank_ledger, tmp_path, dirs_exist_ok=True)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[[dict[str, str], str], None]]:
    """Has this process import a project's modules as an instance of one of its files does."""
    modules, path, finders = dict(sys.modules), [*sys.path], [*sys.meta_path]

    def run(files: dict[str, str], of: str) -> None:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        project = loader.project_of(tmp_path)
        loader.make_importable(project)
        file = tmp_path / of
        source = SourceInfo(
            name=file.stem,
            file=file,
            module=f"functions.{file.stem}",
            origin="functions",
            code="",
            files=(),
            libraries=(),
            pools=None,
        )
        loader.import_from(project, loader.texts_of(project, source))

    yield run
    formats.names_are_owned(lambda _: False)
    sys.path[:], sys.meta_path[:] = path, finders
    for name, module in [*sys.modules.items()]:  # libraries cannot be imported twice
        if name not in modules and str(tmp_path) in str(getattr(module, "__file__", None)):
            del sys.modules[name]
    sys.modules.pop("functions", None)
    sys.modules.update({name: modules[name] for name in ("functions",) if name in modules})
