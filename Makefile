# Two commands for newcomers: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long check format docs clean

$(VENV)/.demo: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[example]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/turntrace demo

# Three at once, since tests mostly wait for servers; those that measure time, or kill under load, come after, alone.
TEST_PROCESSES ?= 3

# What fails in company, or on a machine that others use, is tried once more by itself (tests/again.py).
AGAIN := || $(BIN)/python tests/again.py $$? 3

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not alone" -n $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS) $(AGAIN)
	$(BIN)/python -m pytest -m alone $(PYTEST_ARGS) $(AGAIN)

test-long: $(VENV)/.dev
	TURNTRACE_TEST_LONG=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/check.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
