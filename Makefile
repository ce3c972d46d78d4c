# On a fresh machine `make demo` and `make test` are all that is needed.
# PYTHON names the interpreter (3.11 or later, with venv) that the environment is made from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST  = $(BIN)/python -m pytest
# Processes that the tests are spread over.
JOBS   ?= auto
# The lengths, models and designs of FuseMax's evaluation (MICRO 2024) that the demo shows.
LENGTHS := 1K,4K,16K,64K,256K,1M
# Interpreters for `make test-pythons`, and options of `make mutate`, as --each 8 --only passes.
PYTHONS ?= python3.11 python3.12 python3.13
MUTATE  ?=
SAY      = @printf '\n== %s ==\n'

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-browser test-peer test-pythons mutate dist bench docs grammar lint format clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'accelsim needs Python 3.11 or later with venv: make PYTHON=python3.12 ...' >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,plot]'
	@touch $@

demo: $(STAMP)  ## passes, FuseMax against FLAT and unfused, error against the published rows
	$(SAY) 'Passes over the keys: three ways to write the same attention'
	@for c in attention-3pass attention-2pass attention-1pass; do \
	  $(BIN)/accelsim passes $$c || exit $$?; done
	$(SAY) 'FuseMax against FLAT, attention of BERT'
	@$(BIN)/accelsim compare flat fusemax --baseline flat --model BERT --seq $(LENGTHS)
	$(SAY) 'FuseMax against unfused, attention of BERT'
	@$(BIN)/accelsim compare unfused flat fusemax --baseline unfused --model BERT --seq $(LENGTHS) \
	  --plot out/speedup.png
	$(SAY) 'Error against the published rows'
	@$(BIN)/accelsim validate fusemax --brief

test: $(STAMP)  ## the tests that CI runs, doctests included
	$(PYTEST) -n $(JOBS) --dist worksteal

test-long: $(STAMP)  ## every test on newly drawn examples, and property and replay runs of minutes
	ACCELSIM_RANDOM=1 $(PYTEST) -n $(JOBS) -m "not bench and not browser and not peer"

test-browser: $(STAMP)  ## the report page in headless Chromium, which must be installed
	$(PYTEST) -m browser

test-peer: $(STAMP)  ## counts against AccelForge, in the Python 3.12 that ACCELFORGE_PYTHON names
	$(PYTEST) -m peer

test-pythons:  ## the tests that CI runs, in each of PYTHONS, in environments under out/
	@set -e; for python in $(PYTHONS); do \
	  env=out/env-$$($$python -c 'import sys; print(*sys.version_info[:2], sep=".")'); test -x $$env/bin/python || $$python -m venv $$env; \
	  $$env/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,plot]'; \
	  $$env/bin/python --version; $$env/bin/python -m pytest -q -n $(JOBS) -p no:cacheprovider; \
	done

mutate: $(STAMP)  ## small changes to analysis and models: the share that no test notices
	$(BIN)/python -m tests.mutation $(MUTATE)

dist: $(STAMP)  ## wheel and sdist in dist/, the same bytes wherever and whenever they are built
	$(BIN)/python -m hatchling build -d dist

bench: $(STAMP)  ## timings, printed
	$(PYTEST) -m bench -s

docs: $(STAMP)  ## the documentation, in out/site
	$(BIN)/python -m mkdocs build --strict --quiet

grammar: $(STAMP)  ## the parser's tables of accelsim/load/einsum.lark, which are kept beside it
	$(BIN)/python -c 'from accelsim.load.syntax import write_tables; write_tables()'

lint: $(STAMP)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## ruff's formatting and safe fixes, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## everything that can be made again, the environment too
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
