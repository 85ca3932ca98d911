# The two commands of a new user are `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
export OMP_WAIT_POLICY := PASSIVE
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: demo test lint docs dist pythons bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# Phantoms stand in for patients; the same stages run on your own data (README, "Your own data").
demo: .venv/installed
	$(BIN)/python scripts/demo.py $(DEMO)

# A file of tests on each core, one thread each; more than four would want more memory than most have.
# The order of files is the one of tests/conftest.py, slow ones first, not that of pytest-xdist.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
	    --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, without the network: build/site/index.html. A warning is an error, which MkDocs counts
# only where it may print them (without --quiet).
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Sdist and wheel, and the wheel tried in an environment of its own (scripts/try_wheel.py); with
# `make dist TRY=--install` pip fetches what the wheel needs, as a user's would.
dist: .venv/installed
	$(BIN)/python scripts/try_wheel.py $(TRY)

# The fast tests on every Python that is promised, as far as it is installed here. Each gets an
# environment of its own, which takes some minutes and gigabytes: not part of .ci/run.
PYTHONS ?= python3.11 python3.12 python3.13
pythons:
	for python in $(PYTHONS); do \
	    name=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	    { [ -d build/venv-$$name ] || $$python -m venv build/venv-$$name; } && \
	    build/venv-$$name/bin/pip install --quiet --disable-pip-version-check \
	        -c constraints.txt -e ".[test]" && \
	    build/venv-$$name/bin/python -m pytest -m "not slow" || exit 1; \
	done

bench: .venv/installed
	for bench in scripts/bench_*.py; do echo "$$bench"; $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf $(DEMO) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
