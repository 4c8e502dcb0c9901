"""Real clients against a misbehaving loopback server: `make test-clients`. Not part of `make test`."""
