# The two commands: `make demo` and `make test`. Both create .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types unit test-slow clean

demo: .venv/ready
	$(BIN)/softaug compare demo --preset demo --run runs/demo

test: lint types unit

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

unit: .venv/ready
	$(BIN)/pytest

test-slow: .venv/ready
	$(BIN)/pytest -m slow

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist
