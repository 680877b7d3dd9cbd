# Every target sets up what it needs: Python 3.11+, gcc, make and git are all it asks of the machine; `test` asks for
# Node.js and npm too, and for curl.
PYTHON ?= python3
UV     := 0.13.9
TEST_PROCESSES ?= 2
BIN    := .venv/bin
READY  := .venv/.ready
CLIENTS := tests/clients/node_modules/.ready

# A machine behind a proxy has that proxy's certificate among the system's, not among uv's own.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= 1
endif

.PHONY: setup clients demo dev image test test-market fuzz test-image test-reproducible lint bench bench-image populations lock clean
setup: $(READY)           ## the virtual environment, from locked and hashed packages

$(BIN)/python:
	$(PYTHON) scripts/bootstrap.py --venv .venv --uv $(UV)
$(READY): $(BIN)/python pyproject.toml requirements/dev.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --require-hashes -r requirements/dev.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --no-deps --no-build-isolation -e .
	@touch $@

clients: $(CLIENTS)       ## the JavaScript clients that tests use, from locked and hashed packages
$(CLIENTS): tests/clients/package.json tests/clients/package-lock.json
	cd tests/clients && npm ci --no-audit --no-fund --ignore-scripts --silent
	@touch $@

demo: $(READY)            ## one request, one receipt, one refusal
	$(BIN)/pinaivu demo
dev: $(READY)             ## a whole network on this machine, until Ctrl-C
	$(BIN)/pinaivu dev
test: lint $(CLIENTS)     ## everything that needs no root, in TEST_PROCESSES at once
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --max-worker-restart 0
test-market: $(READY)     ## 100,000 jobs among nodes that cheat and a host that lies, every balance recomputed
	$(BIN)/python -m tests.enclave.long_run
fuzz: $(READY)            ## 100,000 requests that nobody would write; FUZZ="--requests N --seed N" changes that
	$(BIN)/python -m tests.fuzz $(FUZZ)
lint: $(READY)            ## format, style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
image: $(READY)           ## the enclave image, out of locked inputs; minutes at the first time
	mkdir -p build
	$(BIN)/pinaivu image build --output build/pinaivu.eif
test-image: $(READY)      ## builds the enclave image, boots it under QEMU and serves a request through it
	$(BIN)/pytest -o faulthandler_timeout=1200 tests/boot
test-reproducible: $(READY) ## compiles the kernel again, elsewhere, and compares the images; minutes
	$(BIN)/pytest -o faulthandler_timeout=1200 tests/reproducible
bench-image: $(READY)     ## size, boot time and memory of the image
	$(BIN)/python -m tests.bench.image
bench: $(READY)           ## figures, as ratios measured side by side; BENCH=gateway prints one part
	$(BIN)/python -m tests.bench $(BENCH)
populations: $(READY)     ## simulated bidders: prints their figures, writes docs/populations.svg and docs/auction.md's table
	$(BIN)/python scripts/draw_populations.py
lock: $(BIN)/python       ## resolve the dependencies again; UPGRADE=--upgrade takes newer versions
	for extra in enclave host node dev; do \
	  $(BIN)/uv pip compile pyproject.toml --extra $$extra --generate-hashes --universal --no-header --quiet $(UPGRADE) \
	    --no-emit-package pinaivu -o requirements/$$extra.lock || exit 1; done
	$(BIN)/uv pip compile requirements/litellm.in --generate-hashes --universal --python-version 3.11 --no-header --quiet $(UPGRADE) \
	  -o requirements/litellm.lock
clean:                    ## forget the virtual environment and all caches
	rm -rf .venv tests/clients/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
