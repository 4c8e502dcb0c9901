"""What several processes know of the same members together; `docs/several-processes.md`."""
