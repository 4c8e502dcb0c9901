"""Pools in another form: the fallback chain, and the executor with agents made on demand."""
