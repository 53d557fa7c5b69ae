"""The launcher: the process at the root of the tree. It supervises, and owns nothing else.

``plan`` has which children there are, ``process`` runs one, ``keeper`` keeps one alive by the
rules of ``restarts``, ``supervisor`` all of them, ``tree`` is the whole life from lock to drain.
``guard`` (a process of its own) and ``orphans`` leave nothing behind. ``output`` and ``lines``
carry the log, ``announce`` and ``banner`` write to people, ``control`` answers ``client``.
``settings_file`` tells of settings that have changed. ``listen`` and ``unix_socket`` open the
gateway's listener, ``certificate`` looks at its key before.

It starts processes by command line and imports none of them. Importing this module costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipper.launcher.tree import Planner
    from skipper.settings.model import Settings

ALREADY_RUNNING = -1
"""What :func:`run` returns where the project's tree runs already."""


def run(
    settings: Settings,
    *,
    only: frozenset[str] | None = None,
    detach: bool = False,
    reread: Callable[[], Settings] | None = None,
    planner: Planner | None = None,
) -> int:
    """Run the project's tree until it is stopped; the exit code.

    0 after ``skipper down``, 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP;
    :data:`ALREADY_RUNNING` where another launcher holds the project. ``only`` names parts of the
    tree (:func:`skipper.launcher.plan.parts_of`). With ``detach`` the tree runs as a daemon, and 0
    is returned once it is ready. ``reread`` reads the settings as a start now would have
    them: where saved files are followed, what has changed in them is told. ``planner`` stands in
    for :mod:`skipper.launcher.plan` in tests.

    Raises :class:`skipper.errors.StartError` where the tree cannot start or go on, with code 2 for
    a wrong ``only``, 3 for a broken file under ``run.strict``, 7 for a taken port, 9 for a broker
    or database that cannot be reached, 10 for a folder that cannot be written, else the exit code
    of the role that failed.
    """
    from skipper.launcher import tree

    if not detach:
        return tree.run(settings, only=only, reread=reread, planner=planner)
    from skipper.launcher.detach import detached

    return detached(
        lambda report: tree.run(settings, only=only, report=report, reread=reread, planner=planner)
    )
