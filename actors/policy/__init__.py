"""Rules: what is to be done, given a state and a time: retries, hedges, blame. Pure."""
