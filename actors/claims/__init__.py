"""Who may answer a request: all that its router and those who run its agents share."""
