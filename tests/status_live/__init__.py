"""The status endpoint with what it is for: promtool, a real Prometheus, a browser.

`make test-status` runs it all, `make test-status ARGS=page` a part of it; `make docs-shots` makes
the picture of `docs/status.md`. What is not installed is named, and left out: on Debian it is
`apt-get install prometheus chromium`.
"""
