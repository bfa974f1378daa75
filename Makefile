# Each target does one thing, sets up what it needs and can be repeated.
.DEFAULT_GOAL := help
.PHONY: help setup check test interop hostile vm vm-hostile bench soak demo docs hosts refusals syscalls

# A test process per core, and one more for the time that others wait for a container or a disk. A file stays in
# one process, since it may share a server. They go in the order of their names, so that the short ones of
# tests/unit fill the end; else files with one long test would be last.
JOBS ?= $(shell expr $$(nproc) + 1)
PYTEST = .venv/bin/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Some environments ask Python to keep no bytecode: then each of some hundred processes would compile all anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## .venv/bin/seatrial, from the lock file
	@scripts/python.sh

check: ## format, lint, types, imports, scripts
	@scripts/packages.sh check
	@scripts/python.sh
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	shellcheck scripts/*.sh tests/vm/inside/*.sh .ci/run

test: ## all tests that need nothing but apt and PyPI
	@scripts/packages.sh test
	@scripts/python.sh
	$(PYTEST) tests --ignore tests/interop

interop: ## clients and runtimes built with Go
	@scripts/packages.sh interop
	@scripts/python.sh
	@scripts/tools.sh
	@scripts/debian.sh
	@scripts/truth.sh
	$(PYTEST) tests/interop

hostile: ## evil images, requests and workers, every reader fuzzed; compares with docs/hostile.md (FUZZ=seconds of each reader)
	@scripts/packages.sh test
	@scripts/python.sh
	SEATRIAL_TEST_COMPARE_HOSTILE=1 .venv/bin/pytest tests/hostile
	SEATRIAL_TEST_FUZZ_SECONDS=$(or $(FUZZ),120) .venv/bin/pytest -n $$(nproc) --dist load \
	  tests/hostile/scanners/test_fuzzed.py

vm: ## what this host lacks, in small virtual machines: AppArmor, SELinux, cgroup version 2 (ONLY="MODE...")
	@scripts/packages.sh vm
	@scripts/python.sh
	.venv/bin/python -m tests.vm $(ONLY)

vm-hostile: ## the hostile runs in one more of them, under cgroup version 2 alone; an hour where it is emulated
	@scripts/packages.sh vm
	@scripts/packages.sh test
	@scripts/python.sh
	.venv/bin/python -m tests.vm hostile

bench: ## figures beside other registries, to docs/benchmarks.json (ONLY="GROUP...": print some; KEEP=1: and keep them)
	@scripts/packages.sh bench
	@scripts/python.sh
	@scripts/tools.sh bench
	.venv/bin/python -m tests.bench $(if $(KEEP),--keep) $(ONLY)

soak: ## kill the server a thousand times, run hostile images, to docs/soak.json (KILLS=n RUNS=n)
	@scripts/packages.sh test
	@scripts/python.sh
	.venv/bin/python -m tests.soak --kills $(or $(KILLS),1000)
	.venv/bin/python -m tests.soak --runs $(or $(RUNS),1000)
	SEATRIAL_TEST_EXAMPLES=20 .venv/bin/pytest -s --timeout 0 --hypothesis-profile=default tests/integration/v2/test_model.py

demo: ## push a good and a bad image, see them tried (ONCE=1: and stop)
	@scripts/packages.sh demo
	@scripts/python.sh
	@.venv/bin/python -m scripts.demo

refusals: ## run every client against every refusal, write what they print to docs/reference
	@scripts/packages.sh interop
	@scripts/python.sh
	@scripts/tools.sh
	SEATRIAL_TEST_WRITE_REFUSALS=1 .venv/bin/pytest tests/interop/clients/test_refusals.py
	@.venv/bin/python -m scripts.reference

hosts: ## ask seatrial doctor as root, as plain users and in containers, write what it says to docs/reference
	@scripts/packages.sh interop
	@scripts/python.sh
	@scripts/tools.sh
	@.venv/bin/python -m scripts.hosts
	@.venv/bin/python -m scripts.reference

docs: ## write the generated reference pages
	@scripts/python.sh
	@.venv/bin/python -m scripts.reference

syscalls: ## write the list of system calls that a run may make, from scripts/syscalls.toml
	@scripts/python.sh
	@.venv/bin/python -m scripts.syscalls
