"""What several processes know of the same members together: where they leave word for each other.

`docs/several-processes.md` says what is shared, and when that is worth while.
"""

from greenroom.shared.nats_state import NatsState as NatsState
from greenroom.shared.postgres_state import PostgresState as PostgresState
from greenroom.shared.redis_state import RedisState as RedisState
from greenroom.shared.sqlite_state import SqliteState as SqliteState
from greenroom.shared.state_store import Ledger as Ledger
from greenroom.shared.state_store import SharedState as SharedState
