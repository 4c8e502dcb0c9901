"""Tells that outlive their process: stored before `tell` returns, and worked off by any process
that runs the same courier.

`docs/durable.md` says what is promised, and what is not.
"""

from greenroom.courier.courier_store import Courier as Courier
from greenroom.courier.courier_store import CourierRules as CourierRules
from greenroom.courier.jetstream import JetStream as JetStream
from greenroom.courier.redis_streams import RedisStreams as RedisStreams
