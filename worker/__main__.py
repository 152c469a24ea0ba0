"""``python -m worker io``, ``python -m worker cpu``: the same as ``twolane worker …``."""

import sys

from twolane.commandline import one_line_errors
from worker.cli import worker

if __name__ == "__main__":
    sys.exit(one_line_errors(worker)(prog_name="worker"))
