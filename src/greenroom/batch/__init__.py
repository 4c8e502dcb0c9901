"""A batch through a pool: many prompts from a file, each answer a line in another one."""
