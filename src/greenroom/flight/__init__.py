"""The flight recorder: what each request saw, where it went and why; what can be asked of that."""
