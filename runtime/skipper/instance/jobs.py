"""The job that a host gives an instance, and the instance's report: the first frame each way."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from skipper.settings.plugins import PluginTable
from skipper.spec import DEFAULT_POOL, BrokenFile, FunctionSpec

CALLS_AT_ONCE = 16
"""Calls of an ``async def`` function that one instance runs side by side."""


class JobRecord(BaseModel):
    """A message between a host and its instance; bytes in it, such as source texts, are base64.

    Not one of ``wire.messages``, because importing those would lengthen the start of an instance;
    and host and instance are of one installation, which needs no number of a protocol.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )


class JobKind(StrEnum):
    """What an instance is for."""

    SURVEY = "survey"
    """Load the plugins and report which files define functions, importing none of those."""
    READ = "read"
    """Load one file and report what its functions declare."""
    CHECK = "check"
    """Judge the inputs of a file's functions, from the text that was read, and run none."""
    TRY = "try"
    """Load a file as an instance that serves does, and models with it, and report how that went."""
    SERVE = "serve"
    """Run calls of one function of a file, from the text that was read."""


class ModuleText(JobRecord):
    """A module of the project as it was read, by the name that it is imported under."""

    name: str
    file: Path
    text: bytes


class SourceInfo(JobRecord):
    """A file of functions, as far as it can be known without importing it."""

    name: str
    file: Path
    module: str
    origin: str
    plugin: str = ""
    """The plugin that named it, whose settings its instances are given."""
    code: str
    """Hash of its text and of all modules of the project that it imports, 12 hexadecimal digits."""
    files: tuple[Path, ...] = ()
    """Those of the modules that the hash is of."""
    imports: tuple[str, ...] = ()
    """The third-party modules that loading it imports."""
    libraries: tuple[str, ...]
    """What the template of its instances holds: those, and what plugins add."""
    environment: dict[str, str] = {}
    """Set before those are imported."""
    pools: tuple[str, ...] | None
    """Pools that its decorators name; None where only importing it can show them."""


class ModelRef(JobRecord):
    """A version of a model in the store, as a function asks for it."""

    asked: str = ""
    """How that writes it, where it is not by the name alone: ``boston@candidate``."""
    name: str
    version: int
    digest: str
    format: str

    @property
    def key(self) -> str:
        """As the function writes it."""
        return self.asked or self.name

    @property
    def label(self) -> str:
        """As replies and logs name it: ``boston@7``."""
        return f"{self.name}@{self.version}"


class Job(JobRecord):
    """What an instance is to do, with all it needs to know for it."""

    kind: JobKind
    project_dir: Path
    source: SourceInfo | None = None
    pools: tuple[str, ...] = (DEFAULT_POOL,)
    """To survey and to read: the project's pools; a function may name no other."""
    texts: tuple[ModuleText, ...] = ()
    """To check or serve: the source's modules as they were read, not as they are by now.

    To read: those that are to be read in place of what the disk holds.
    """
    function: str = ""
    models: tuple[ModelRef, ...] = ()
    storage_url: str = ""
    tmp_dir: Path = Path()
    models_dir: Path = Path()
    """To serve and to try: where the files of models lie, for all instances of the machine."""
    spool_dir: Path = Path()
    """To check and to serve: where large values lie while they are on their way."""
    threads: int = 1
    """This instance's share of the cores, to begin with."""
    memory_mb: int = 0
    """Above this resident size the host ends it; 0 means the pool's limit."""
    max_result: int = 0
    """Bytes that the JSON of a returned value may have; 0 means any number."""
    in_development: bool = False
    """Whether saved files are followed, so that somebody sees what is odd about them."""
    nice: int = 0
    """Added to the process's niceness: tasks give way to direct calls."""
    gives_way: bool = False
    """Whether it does so until it is ready, because nobody waits for it."""
    environment: dict[str, str] = {}
    """Set before anything is imported: the devices this instance may use."""
    set_up: frozenset[str] = frozenset()
    """To survey: the plugins that the project has a table of settings for."""
    mark: str = ""
    """How the instance begins the lines on its standard streams that are not text."""
    log_level: str = "info"
    """The least that the function logs."""
    settings: PluginTable | None = None
    """To read and to serve: that of the source's plugin. No other instance is given it."""
    without: tuple[str, ...] = ()
    """Names of plugins that are not to be loaded."""


class UnfitModel(JobRecord):
    """A version of a model that does not load."""

    ref: ModelRef
    reason: str


class Report(JobRecord):
    """The answer to a job: a survey, the specs of a file, readiness to serve, or what is wrong."""

    sources: tuple[SourceInfo, ...] = ()
    specs: tuple[FunctionSpec, ...] = ()
    texts: tuple[ModuleText, ...] = ()
    """What was read."""
    is_stale: bool = False
    """Whether what was read had changed before the report was made."""
    broken: tuple[BrokenFile, ...] = ()
    """Files of functions: those that do not even parse, to a survey; else the job's own."""
    unfit: tuple[UnfitModel, ...] = ()
    """To serve: the model for which it cannot."""
    left_out: tuple[BrokenFile, ...] = ()
    """Plugins that failed in this instance, which goes on without them."""
    warnings: tuple[str, ...] = ()
    """To a survey: what is odd and no error, as sentences."""
    code: str = ""


class Turn(JobRecord):
    """Whose code runs in an instance that has not reported yet: a plugin's, or nobody's.

    Or which model is about to serve there.
    """

    plugin: str = ""
    file: Path | None = None
    hook: str = ""
    """Empty while the plugin is loaded."""
    model: ModelRef | None = None
    """The one that is being loaded."""

    def __str__(self) -> str:
        return f"while its {self.hook} ran" if self.hook else "while it was loaded"
