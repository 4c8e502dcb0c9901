"""A pool behind handlers of your own, whatever the framework: see `docs/web.md`.

`problem_of` says with which status and headers an error is answered, and what the client may be
told; `drain_on_sigterm` has a server go on listening until the pool has answered what is at hand.
Nothing here needs an extra.
"""

from greenroom.web.problems import Problem, problem_of
from greenroom.web.sigterm import drain_on_sigterm

__all__ = ["Problem", "drain_on_sigterm", "problem_of"]
