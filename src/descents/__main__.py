"""``python -m descents``."""

import sys

from descents.cli import main

sys.exit(main())
