"""``python -m skipper.pool``: the host of one pool."""

from skipper.pool.host import main

main()
