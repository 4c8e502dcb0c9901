"""Real clients against a misbehaving loopback server: `make test-clients`."""
