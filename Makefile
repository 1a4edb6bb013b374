# What a developer does with this repository.  `make` alone lists the words.

VENV := .venv
PYTHON := $(VENV)/bin/python
IMAGES := build/images

# Programs that Fairlead runs, what its images are made of, and what the demo and the scripts use besides.
PACKAGES := crun conmon skopeo nftables libnftables1 iproute2 iptables procps
PACKAGES += busybox-static nginx-light
PACKAGES += python3 python3-venv curl iputils-ping util-linux
# Lays out the pictures of `fairlead topology --format svg`.
PACKAGES += graphviz
# What it is tested with.
TEST_PACKAGES := docker-registry conntrack attr bind9-dnsutils dnsperf
# The containment test runs beside a Docker of its own.  Where there is one already it stays: docker.io would replace
# Docker's own packages.  scripts/install-packages sees to it that no daemon is started.
TEST_PACKAGES += $(if $(shell command -v dockerd),,docker.io)
# The same for trace, topology and doctor beside podman, and beside the firewalls ufw and firewalld.
TEST_PACKAGES += podman netavark ufw firewalld
# For the project of examples/compose.
TEST_PACKAGES += $(if $(shell command -v docker-compose),,docker-compose)
# Clients that are tested: Ansible (270 MB), and Prometheus, which finds containers by the API.
TEST_PACKAGES += ansible prometheus
# The page of `fairlead ui` is tested in a real browser; scripts/measure-page measures with iperf3.
TEST_PACKAGES += chromium iperf3
# What the virtual machine of `make test-vm` needs besides: 200 MB that nobody else does.
VM_PACKAGES := qemu-system-x86 busybox-static

.PHONY: help setup packages test-packages images lint test test-vm vm-packages bench demo demo-clean clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: packages $(VENV)/made  ## install the system packages that are missing, and make .venv with .venv/bin/fairlead

packages:
	@scripts/install-packages $(PACKAGES)

test-packages:
	@scripts/install-packages $(PACKAGES) $(TEST_PACKAGES)
	@scripts/fetch-node-clients build/node

$(VENV)/made: requirements.lock pyproject.toml scripts/make-venv | packages
	@scripts/make-venv $(VENV)
	@touch $@

images: setup  ## build the nginx and alpine images from Debian packages, in build/images
	@scripts/build-images $(IMAGES)

lint: setup  ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy src bench

# The virtual machine comes first, so that what pytest says of a failure is the last that is printed.
test: test-packages lint  ## setup, linters, type checker and all tests (needs root; touches nothing of the machine's network)
	@status=0; echo "== Debian's stock kernel, in a virtual machine =="; \
	if command -v qemu-system-x86_64 >/dev/null; then scripts/test-vm || status=1; \
	else echo "left out, as qemu is not installed; \`make test-vm\` installs it"; fi; \
	echo; echo "== This machine's kernel =="; \
	$(PYTHON) -m pytest tests -n 2 --dist worksteal || status=$$?; \
	if [ $$status -ne 0 ]; then echo "make test: something failed, here or in the virtual machine above"; fi; exit $$status

test-vm: setup test-packages vm-packages  ## the tests marked vm on Debian's stock kernel in qemu; VM_TIME_LIMIT=900 seconds
	scripts/test-vm $(ARGS)

vm-packages:
	@scripts/install-packages $(VM_PACKAGES)

bench: setup test-packages  ## compare with Docker, Podman and CNI, side by side; ARGS="--quick" for a short look
	$(PYTHON) -m bench $(ARGS)

demo: images  ## run the container walk-through for real; `make demo-clean` takes it all away
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/demo run $(IMAGES)

demo-clean:  ## remove everything that `make demo` made on this machine
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/demo clean

clean:  ## remove what was built in this directory
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
