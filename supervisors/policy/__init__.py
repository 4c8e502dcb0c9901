"""Rules of who may be asked: breaker, health, probes, restarts, signs of life. Pure."""
