"""What must outlive every process: tasks, hosts, models and events, in SQL.

``Ledger`` (``ledger.py``) opens it and runs operations: ``await ledger.write(lambda conn:
tasks.cancel(conn, id, now))``. The operations stand in ``tasks`` (with ``accepting``, ``sweeps``
and ``views``), ``schedules``, ``endings``, ``hosts``, ``leases``, ``models``, ``assignments``,
``events``, ``totals`` and ``retention``, what goes in and out of them in ``records``.
"""

from skipper.ledger.connection import Connection
from skipper.ledger.ledger import Ledger

__all__ = ["Connection", "Ledger"]
