"""The supervisor, the circuit breakers, the probes, the restarts."""
