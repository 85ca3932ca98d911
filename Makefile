# The two commands of a new user are `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
export OMP_WAIT_POLICY := PASSIVE
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: demo test lint docs bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# Phantoms stand in for patients; the same stages run on your own data (README, "Your own data").
demo: .venv/installed
	$(BIN)/python scripts/demo.py $(DEMO)

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, without the network: build/site/index.html. A warning is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

bench: .venv/installed
	for bench in scripts/bench_*.py; do echo "$$bench"; $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf $(DEMO) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
