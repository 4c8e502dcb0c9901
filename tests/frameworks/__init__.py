"""Agents of real frameworks as members of pools: `make test-frameworks`, and `docs/frameworks.md`.

A case is a module `cases/<name>.py`, and the section `## <name>` of the page (`_` there is `-`):

1. A docstring, and between the lines `# recipe` and `# end of recipe` what the page shows: imports,
   and `member(name, url)`, the member as it is to be written. Whatever is said of the framework is
   said on the page. `python -m frameworks --write` puts the recipe into the page.
2. Below it a `CASE`, see `frameworks.case.Case`: the recipe once more as `member`; `plain`, the
   framework's own object with its own defaults; where they are, members that stream or have a tool.
3. The module's name in a group of `groups.py`, whose packages are pinned in
   `requirements-<group>.txt`; the group's name in `FRAMEWORKS` of the Makefile.

Everything in the page's table is measured: `measure.py` asks the members at a provider on loopback
(`provider.py`) that answers, fails or cuts its stream. A recipe that does not fail over, makes more
than one request an outage or mixes two callers' conversations is an error, whatever the page says.
What a framework cannot do is measured as well, and stands in its row.

To try one case: `PYTHONPATH=tests:tests/helpers python -m frameworks.child - pydantic_ai`, with the
python of the environment that has it.
"""
