"""What agents bring: errors, answers, chunks, and which of them are failures. Pure."""
