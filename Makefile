.PHONY: test lint bench
test:
	.venv/bin/python -m pytest -n 2
lint:
	.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy
bench:
	for each in features input step overhead sweep; do .venv/bin/python bench/$$each.py || exit 1; done
