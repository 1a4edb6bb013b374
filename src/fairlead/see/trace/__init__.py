"""Why A cannot reach B: one real probe, watched by the kernel, and one sentence with the cause.

`places` finds the ends, `probe` sends, `fairlead.kernel.packets` and `fairlead.kernel.nftrace` watch, `way` puts what
they saw in order, `survey` asks the namespaces about the way, `verdict` judges; `run` leads.
"""

from __future__ import annotations
