"""Ten thousand durable tells, with tellers, workers and the broker killed at random."""
