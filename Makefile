# Everything goes through one virtual environment, .venv, which tools/bootstrap.py makes and keeps.

SHELL := /bin/sh
PY := .venv/bin/python

# Any Python 3 starts the bootstrap; it looks for a Python that fits by itself.
BOOTSTRAP = for python in "$$PYTHON" python3 python3.11 python3.12 python3.13 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then \
	    exec "$$python" tools/bootstrap.py; \
	  fi; \
	done; \
	echo "setup: no Python 3 runs here; install Python 3.11, 3.12 or 3.13" >&2; exit 1

.PHONY: help setup demo up test test-unit test-pythons test-torch coverage chaos check format docs lock \
	bench bench-smoke release clean

help:
	@echo "make setup    make .venv with everything in it (PYTHON=... names the Python to use)"
	@echo "make demo     train a model and ask it for a price; ONCE=1 ends after the answer"
	@echo "make up       run this repository: skipper up"
	@echo "make test     run all tests; ARGS='-k name' passes arguments to pytest"
	@echo "make test-unit     the unit floor alone"
	@echo "make test-pythons  the unit floor on the other Pythons of this machine, without TensorFlow"
	@echo "make test-torch    the tests of models of PyTorch and Hugging Face, in .venv-torch"
	@echo "make coverage      the unit floor, and which lines it does not run"
	@echo "make chaos    kill each part hundreds of times under load; ARGS='--minutes 30' a piece of it"
	@echo "make check    formatting, lint, types, import directions"
	@echo "make format   put formatting and imports right"
	@echo "make docs     write docs/api.md from the code"
	@echo "make lock     resolve requirements/lock-*.txt anew; ARGS=--upgrade takes new releases"
	@echo "make bench    measure beside LitServe, BentoML and others; ARGS='--only direct,tasks'"
	@echo "make bench-smoke  in a minute: has anything become grossly slower?"
	@echo "make release  build wheel and sdist, and try the wheel in a fresh environment"
	@echo "make clean    remove .venv and all caches; .skipper, with its models, stays"

setup:
	@$(BOOTSTRAP)

demo: setup
	@$(PY) tools/demo.py $(ARGS)

up: setup
	@.venv/bin/skipper up $(ARGS)

# Three at once on two cores: most of what tests do is wait. A file's tests stay together, since they
# share trees and servers; the files go in their order, acceptance first, which takes longest.
test: setup
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: setup
	@$(PY) -m pytest -n 3 --dist loadfile tests/unit $(ARGS)

test-pythons: setup
	@$(PY) -m tools.pythons $(ARGS)

test-torch: setup
	@$(PY) -m tools.torch $(ARGS)

coverage: setup
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest -n 3 --dist loadfile tests/unit $(ARGS)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

chaos: setup
	@$(PY) -m tests.chaos.release $(ARGS)

check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: setup
	@$(PY) -m tools.api

lock: setup
	@$(PY) tools/lock.py $(ARGS)

bench: setup
	@$(PY) -m bench $(ARGS)

bench-smoke: setup
	@$(PY) -m bench.smoke

release: setup
	@$(PY) -m tools.release

clean:
	rm -rf .venv .venv-* .coverage .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -prune -exec rm -rf {} +
