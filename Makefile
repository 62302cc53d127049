# Everything needs only `make`, Python 3.11 or newer and, for nats-server, one of: PATH, Debian's package, Homebrew.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(wildcard proto/lamplight/v1/*.proto)
# One test more than two cores have room for, since many only wait; networks get one thread each. tests/conftest.py says
# what each worker begins with. On a large machine: make test WORKERS=8
# In CI a test that fails is tried once more, and named as RERUN at the end: it has a fault that comes and goes, or what
# it tests.
WORKERS ?= 3
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(if $(CI),--reruns 1)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.PHONY: demo
demo: install ## dark street at night, a cloud node, an edge node: pictures and figures in demo-output/
	$(BIN)/python deploy/demo/run.py

.PHONY: test
test: install gstreamer chromium ## run every test
	$(PYTEST)

.PHONY: thorough
thorough: install gstreamer chromium ## run every test, and try each property three times as often
	THOROUGH=1 $(PYTEST)

.PHONY: check
check: install gstreamer chromium ## format, lint, types, import rules, freshness of the generated code, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy common cloud_node edge_node
	$(BIN)/lint-imports
	$(BIN)/python deploy/check_proto.py
	$(PYTEST)

.PHONY: format
format: install ## format and tidy the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: proto
proto: install ## generate the code beside the .proto files
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto --grpc_python_out=proto $(PROTOS)

.PHONY: docs
docs: install ## the documentation as a site, in site/
	PYTHONPATH=.:proto $(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: docs-commands
docs-commands: install ## run the commands on the pages, those that take minutes too
	$(BIN)/python -m pytest tests/docs -m "slow or not slow"

.PHONY: locks
locks: .release/.installed ## pin what is deployed, with hashes, in deploy/locks/; then licences and sbom
	PYTHONPATH=. .release/bin/python deploy/locks/write.py $(if $(UPGRADE),--upgrade)
	$(MAKE) licences sbom

.PHONY: licences
licences: .release/.installed ## the licences of what is pinned, into docs/licences.md
	PYTHONPATH=. .release/bin/python docs/write_licences.py

.PHONY: sbom
sbom: .release/.installed ## software bills of materials, into deploy/sbom/
	PYTHONPATH=. .release/bin/python deploy/sbom/write.py

.PHONY: audit
audit: .release/.installed ## known vulnerabilities of what is pinned: asks PyPI, now (AUDIT=osv: osv.dev)
	.release/bin/pip-audit --strict --disable-pip --progress-spinner off -s $(or $(AUDIT),pypi) \
		$(addprefix -r deploy/locks/,edge.txt cloud.txt build.txt release.txt)

.PHONY: release
release: install .release/.installed ## wheel, source archive and notes, checked, into dist/
	.release/bin/python deploy/release.py --python $(BIN)/python

.release/.installed: deploy/locks/release.txt
	$(PYTHON) -m venv --clear .release
	.release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/locks/release.txt
	touch $@

.PHONY: install
install: .venv/.installed .nats/path ## .venv with everything, and a nats-server

# Modules are compiled as they are imported: most of 18,000 never are.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	touch $@

.nats/path: deploy/get-nats-server.sh
	mkdir -p .nats
	sh deploy/get-nats-server.sh > $@.new && mv $@.new $@

.PHONY: gstreamer
gstreamer: # an RTSP server for tests, which are skipped where it cannot be had
	@sh deploy/get-gstreamer.sh >/dev/null || true

.PHONY: chromium
chromium: # a browser for tests, which are skipped where it cannot be had
	@sh deploy/get-chromium.sh >/dev/null || true

.PHONY: screenshots
screenshots: install chromium ## pictures of the live page, into docs/images/
	$(BIN)/python docs/draw_live.py

.PHONY: images-local
images-local: install ## build the images by podman and run compose.yaml with them, without a registry: docs/deployment.md
	[ -x .images/venv/bin/podman-compose ] || $(PYTHON) -m venv --clear .images/venv
	.images/venv/bin/python -m pip install --quiet --disable-pip-version-check podman-compose==1.6.0
	PYTHONPATH=.:proto $(BIN)/python -m deploy.images.local $(IMAGES)

.PHONY: clean
clean: ## remove what was made, the environment included
	rm -rf .venv .release .images .nats .gstreamer .chromium demo-output runs dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
