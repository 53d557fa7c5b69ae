"""The parts of a host, made in an order in which each is given those that it needs."""

from __future__ import annotations

from dataclasses import dataclass

from skipper.blobs import BlobStore
from skipper.ledger import Ledger
from skipper.pool.catalogue import Catalogue
from skipper.pool.direct.lane import DirectLane
from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import LaneContext, RunningAttempts
from skipper.pool.durable.checkpoints import Checkpoints
from skipper.pool.durable.claimer import Claimer
from skipper.pool.durable.gatekeeper import Gatekeeper
from skipper.pool.durable.journal import Journal
from skipper.pool.durable.lane import TaskLane
from skipper.pool.durable.publications import Publications
from skipper.pool.durable.recorder import Recorder
from skipper.pool.durable.reserve import Reserve
from skipper.pool.durable.shares import Shares
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.named import NamedModels
from skipper.pool.nested import Nested
from skipper.pool.peers import Peers
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.starter import Starter
from skipper.pool.serving import Serving
from skipper.pool.slots import Capacity, Slots
from skipper.pool.trials import Trials
from skipper.pool.wishes import Wishes
from skipper.settings.model import Settings
from skipper.tasks.announcer import Announcer
from skipper.tasks.files import Files
from skipper.tasks.intake import Intake, bounds_of
from skipper.tasks.watchers import Watchers
from skipper.values.spool import Spool
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What one pool's host is made of."""

    pool: str
    host_id: str
    metrics: PoolMetrics
    catalogue: Catalogue
    peers: Peers
    directory: Directory
    journal: Journal
    claimer: Claimer
    starter: Starter
    instances: Instances
    serving: Serving
    direct: DirectLane
    tasks: TaskLane
    spool: Spool


def assemble(
    host_id: str, pool: str, settings: Settings, ledger: Ledger, starter: Starter
) -> Parts:
    """The parts of a host, none of which does anything yet."""
    pool_settings, metrics, watchers = settings.pools[pool], PoolMetrics(), Watchers()
    capacity, quarantine = Capacity.of(pool_settings), Quarantine()
    catalogue = Catalogue(settings, pool, quarantine)
    peers = Peers(catalogue, host_id)
    spool = Spool(settings.spool_dir)
    directory = Directory(
        settings.run_dir,
        settings.local_pools,
        LinkRole.HOST,
        spool=spool,
        on_tasks=watchers.changed,
    )
    blobs = BlobStore(settings.storage_url)
    values = ValueStore(blobs, settings.storage.inline_kb * 1024, spool)
    context = LaneContext(
        pool=pool,
        host_id=host_id,
        ledger=ledger,
        journal=Journal(ledger, peers.publish_task_events),
        values=values,
        files=Files(ledger, values, settings.files),
        metrics=metrics,
        peers=peers,
        watchers=watchers,
    )
    claimer = Claimer(context, RunningAttempts(), ClaimedAhead(Slots(capacity.tasks)))
    shares = Shares(capacity.cores, claimer.running, claimer.ahead)
    named = NamedModels(ledger, catalogue)
    nested = _nested(settings, context, directory, claimer, named)
    instances = Instances(settings, pool, starter, nested, quarantine)
    others = (link for name, link in directory.links.items() if name != pool)
    models = ServedModels(ledger, settings.models)
    serving = Serving(instances, catalogue, models, others, metrics, named=named)
    trials = Trials(settings, catalogue, instances)
    reserve = Reserve(context, catalogue, serving, shares)
    gatekeeper = Gatekeeper(settings.models, directory)
    recorder = Recorder(context, Publications(context, serving, gatekeeper, trials))
    return Parts(
        pool=pool,
        host_id=host_id,
        metrics=metrics,
        catalogue=catalogue,
        peers=peers,
        directory=directory,
        journal=context.journal,
        claimer=claimer,
        starter=starter,
        instances=instances,
        serving=serving,
        direct=DirectLane(pool_settings, Slots(capacity.direct), serving, metrics),
        tasks=TaskLane(context, claimer, reserve, recorder),
        spool=spool,
    )


def _nested(
    settings: Settings,
    context: LaneContext,
    directory: Directory,
    claimer: Claimer,
    named: NamedModels,
) -> Nested:
    """Whoever answers instances: tasks that they start may be this host's own to claim."""

    def nudge(pool: str, task_id: str) -> None:
        if pool == context.pool:
            claimer.nudge(task_id)
        else:
            directory.nudge(pool, task_id)

    bounds = bounds_of(settings.tasks)
    intake = Intake(context.ledger, context.values, Announcer(nudge, None), bounds)
    checkpoints = Checkpoints(context, claimer.running, settings.checkpoints)
    wishes = Wishes(checkpoints=checkpoints, named=named)
    return Nested(context, directory, intake, claimer.running, wishes=wishes)
