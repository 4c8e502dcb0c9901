"""Four real processes that share: how long it takes until the others have heard, in real time.

PYTHONPATH=tests:tests/helpers .venv/bin/python -m sharing_live [--runs 10] [STORE...]
"""
