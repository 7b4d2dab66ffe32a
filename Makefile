# The verbs of this project. Each is a thin line over a script, so that a machine without make can run the script.
# Everything goes to .venv; nothing is fetched again while the lock files stay the same.

.DEFAULT_GOAL := help
.PHONY: help install serve check test e2e bench lock clean

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

install: ## make .venv with the server and the developer's tools
	@scripts/bootstrap dev

serve: ## start the server; ARGS="--port 9000" and the like are passed on
	@scripts/serve $(ARGS)

check: ## format, lint, types, room borders
	@scripts/check

test: ## every test; ARGS="-k name" chooses
	@scripts/test $(ARGS)

e2e: ## only the tests that start the real server
	@scripts/test -m e2e $(ARGS)

bench: ## measure the claims; ARGS="--help" tells which
	@scripts/bench $(ARGS)

lock: ## choose versions anew for the lock files
	@scripts/lock

clean: ## remove what the other verbs made, except data/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
