"""The actor around the life of requests: brings messages, does what is asked for."""
