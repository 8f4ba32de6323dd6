.PHONY: test lint bench
test:
	.venv/bin/python -m pytest
lint:
	.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy
bench:
	.venv/bin/python bench/features.py && .venv/bin/python bench/input.py && .venv/bin/python bench/sweep.py
