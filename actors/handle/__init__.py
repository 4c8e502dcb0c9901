"""What the app holds: the ref of a pool, and the stream of an answer."""
