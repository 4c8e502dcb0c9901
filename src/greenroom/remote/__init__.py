"""Members elsewhere: an agent in another process or on another host, behind HTTP or NATS.

`docs/workers.md` says when that is worth while, and what dies with what.
"""

from greenroom.remote.remote_agent import RemoteAgent as RemoteAgent
from greenroom.remote.worker import serve_worker as serve_worker
