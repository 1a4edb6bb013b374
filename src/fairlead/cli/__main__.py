"""``python -m fairlead.cli``: the command without its installed script."""

import sys

from fairlead.cli import main

sys.exit(main())
