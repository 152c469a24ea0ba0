"""``python -m twolane``: the same as the ``twolane`` command."""

import sys

from twolane.cli import main

sys.exit(main(prog_name="twolane"))
