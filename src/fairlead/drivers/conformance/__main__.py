"""One check, in a process of its own: ``python -m fairlead.drivers.conformance CHECK DIRECTORY`` with a case on stdin.

Its own helpers run here too: ``plans`` and ``by-hand``, whose questions are JSON as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fairlead.drivers.conformance import CHECKS, UNSUPPORTED, Case, checks
from fairlead.drivers.conformance.lab import Lab, TypingError
from fairlead.errors import FairleadError, MissingFeature
from fairlead.model import decode


def main() -> int:
    """The exit code: 0 when all is well, else what is wrong has been written to stderr."""
    name, asked = sys.argv[1], sys.stdin.buffer.read()
    if name == "plans":
        driver, *records = json.loads(asked)
        print(json.dumps(checks.plans(driver, *(record.encode() for record in records))))
        return 0
    assert name in (*CHECKS, "by-hand")
    try:
        if name == "by-hand":
            print(json.dumps(checks.by_hand(*json.loads(asked))))
            return 0
        getattr(checks, name)(Lab(decode(Case, asked), Path(sys.argv[2])))
    except MissingFeature as error:
        print(error, file=sys.stderr)
        return UNSUPPORTED
    except (checks.Wrong, FairleadError, TypingError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
