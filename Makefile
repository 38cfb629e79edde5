# The two commands: `make demo` and `make test`. Both create .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types unit test-slow bench gpu docs clean

demo: .venv/ready
	$(BIN)/softaug compare demo --run runs/demo --seeds 1 --epochs 12 --jobs 2 --arms \
		auto standard standard-smoothed auto-hard

test: lint types unit

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# A process for each core, each with half of the files in a row; who is done first takes over tests.
unit: .venv/ready
	$(BIN)/pytest -n auto --dist worksteal

test-slow: .venv/ready
	$(BIN)/pytest -m slow

bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

# With the Python that has torch for CUDA: that of .venv where it is made, else the machine's own.
gpu:
	PYTHONPATH=src $(if $(wildcard .venv/ready),$(BIN)/python,$(PYTHON)) scripts/gpu_check.py \
		--page docs/gpu.md --json build/gpu.json

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

docs: .venv/ready
	$(BIN)/python docs/make_cards.py
	$(BIN)/python docs/make_commands.py
	$(BIN)/sphinx-build -W -q -b html docs build/docs

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist
