"""The machine room: threads, event loops, clocks, mailboxes, locks, Pykka."""
