"""A pool as an app starts it: the router with its supervisor."""
