"""``python -m skipper.gateway``."""

from skipper.gateway.server import main

main()
