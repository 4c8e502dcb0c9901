"""Members elsewhere: an agent in another process or on another host, behind HTTP or NATS.

`docs/workers.md` says when that is worth while, and what dies with what.
"""
