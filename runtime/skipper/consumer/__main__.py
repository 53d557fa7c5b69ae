"""``python -m skipper.consumer``."""

import sys

from skipper.consumer.worker import main

sys.exit(main())
