# Two commands do everything on a fresh machine: `make demo` and `make test`.
.PHONY: setup demo test check bench stack-down

V := .venv/bin

setup:            ## what the machine lacks (apt when root on Debian), .venv, the package
	@sh scripts/setup.sh

demo: setup       ## a district's attendance year through the whole system, watched and proven
	@$(V)/skillcore demo

test: setup       ## all tests, on real Kafka, Postgres and Redis
	@$(V)/python scripts/run_tests.py

check: setup      ## everything that needs no servers: format, lint, types, import contracts, schemas
	$(V)/ruff check .
	$(V)/mypy
	$(V)/lint-imports
	$(V)/skillcore schemas check

bench: setup      ## side by side in one run: ratios and CPU per event
	@$(V)/python -m benchmarks

stack-down:       ## stop the servers of the demo and of `skillcore stack up`
	@$(V)/skillcore stack down
