"""Where agents run, threads and event loops, and what one call of them is."""
