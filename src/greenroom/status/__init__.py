"""The status endpoint: what the pools of a process are doing, over HTTP. See `docs/status.md`."""
