# Two commands matter: `make demo` and `make test`. Both install what they miss (as root, on Debian).

TARGET := x86_64-unknown-linux-gnu
OUT := $(abspath $(or $(CARGO_TARGET_DIR),target))/$(TARGET)
INSULA := $(OUT)/release/insula
PREFIX ?= /usr/local
# Programs that are measured beside ours, and that tests compare with.
PEERS := runc crun bubblewrap runsc lxc
# Programs that only tests need.
TOOLS := strace procps qemu-system-x86 busybox-static git perl python3 sqlite3 xz-utils nftables iproute2 uidmap debootstrap btrfs-progs
# Programs that tests have our runtime driven by.
CLIENTS := docker.io containerd podman buildah conmon catatonit iptables

.PHONY: build demo test check unit weakened lab lab-systemd install clean peers tools clients
.DEFAULT_GOAL := build

build:
	cargo build --release --package insula

demo: peers build
	$(INSULA) doctor || true
	$(INSULA) bench --quick --html insula-bench.html
	@echo "The report with plots: $(CURDIR)/insula-bench.html"

test: peers tools clients check unit lab

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

unit:
	cargo test --workspace

# Shows that the tests of defences fail against a program without them (docs/decisions/0098).
weakened:
	cargo xtask weakened

# What needs a host with cgroup v2 alone runs in a machine of its own, under software emulation. One test at a time: two guests at once in an
# emulated machine take each other's processors away, and need many times as long.
lab:
	cargo build --package xtask --package insula
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(OUT)/debug/xtask lab --silence 600 --" cargo test --package insula --test cgroup_v2 --test vm --test vm_life --test vm_network --test confinement -- --test-threads=1
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(OUT)/debug/xtask lab --silence 600 --" cargo test --package insula --test system -- --test-threads=1 busybox debian_boots when_whoever

# The same under systemd, as process 1 of the machine: it takes long to come up.
lab-systemd:
	cargo build --package xtask --package insula
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(OUT)/debug/xtask lab --systemd --" cargo test --package insula --test systemd

install: build
	install -D -m 755 $(INSULA) $(DESTDIR)$(PREFIX)/bin/insula
	$(INSULA) man $(DESTDIR)$(PREFIX)/share/man/man1
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	$(INSULA) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/insula
	$(INSULA) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_insula

clean:
	cargo clean

peers:
	@./.ci/packages $(PEERS)

tools:
	@./.ci/packages $(TOOLS)

clients:
	@./.ci/packages $(CLIENTS)
