"""``python -m skipper.pool``: the host of one pool."""

from skipper.pool.processes.starter import first_template
from skipper.settings.environment import tree_mark


def main() -> None:
    """Start the template that is needed first, and only then import what a host is made of."""
    first = first_template(tree_mark())
    from skipper.pool import host

    host.main(first)


main()
