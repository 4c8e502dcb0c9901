"""Which cases share an environment; a group's name is also that of its file of requirements."""

from __future__ import annotations

LIGHT = "light"
"""What the dev extra has, too: its cases run in `make test`."""

GROUPS: dict[str, tuple[str, ...]] = {
    LIGHT: ("adk", "openai_agents", "pydantic_ai"),
    "chat": ("agno", "langchain_core", "llama_index", "smolagents"),
    "dspy": ("dspy",),
    "protocols": ("a2a", "httpx", "mcp"),
    "ag2": ("ag2",),
    "autogen": ("autogen",),
    "crewai": ("crewai",),
    "semantic": ("semantic_kernel",),
    "strands": ("strands",),
}

TESTED: dict[str, tuple[str, ...]] = {
    "apps": (
        "test_apps_celery.py",
        "test_apps_faststream.py",
        "test_apps_notebook.py",
        "test_apps_procrastinate.py",
    ),
}
"""Groups of what is no agent, but has one beside it: instead of cases files of tests."""
