"""``python -m skipper.pool``: the host of one pool."""

from skipper.pool.starter import first_template
from skipper.settings import tree_mark


def main() -> None:
    """Start the template that is needed first, and only then import what a host is made of."""
    first = first_template(tree_mark())
    from skipper.pool import host

    host.main(first)


main()
