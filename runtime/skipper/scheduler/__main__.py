"""``python -m skipper.scheduler``."""

from skipper.scheduler.scheduler import main

main()
