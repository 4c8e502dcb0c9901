"""Which clients share an environment, and where each group's requirements are."""

from __future__ import annotations

GROUPS: dict[str, tuple[str, ...]] = {
    "core": (
        "http",
        "openai_like",
        "anthropic_",
        "google_genai",
        "cohere_",
        "mistral",
        "ollama_",
        "bedrock",
        "replicate_",
        "dashscope_",
        "azure_",
        "grpc_",
        "grpc_users",
        "sockets",
        "protocols",
    ),
    "agents": ("agents_",),
    "litellm": ("litellm_",),
}
"""A group's name is that of its environment and of its file of requirements; then its adapters."""

TESTED = {
    "context": ("test_context_packages.py", "test_traced_client.py"),
    "llmock": ("test_llmock.py", "test_newcomer.py"),
    "serve": ("test_served_clients.py",),
}
"""Groups that no server misbehaves to: instead of adapters files of tests."""

ASKED_FOR = {"model": ("test_model.py",)}
"""The same, of what is large: it runs only where it is named, by `make test-model`."""
