"""One small file a family of clients; each has a list ADAPTERS."""
