# CI runs `make check` and nothing else (.ci/run). Tools are built from source into
# bin/ at the versions named here.
GOLANGCI_LINT_VERSION := v2.15.0
NFPM_VERSION          := v2.45.2
GOTESTSUM_VERSION     := v1.13.0

# Debian packages that the tests need and the system may lack: none at present. What single
# targets need, they install themselves.
APT_PACKAGES :=
# For the way from Keepalived, step by step (docs/from-keepalived.md); for agents in containers and in the
# unit (systemd-analyze).
SCENARIO_PACKAGES := keepalived nftables iputils-arping runc systemd

# $(call install,PACKAGE...): quietly, if absent.
install = @for p in $(1); do \
	  dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 $$missing >/dev/null; }

GO           ?= go
FUZZTIME     ?= 10s
FUZZJOBS     ?= 2
TEST_TIMEOUT ?= 25m
# Whole clusters.
SCENARIO_TIMEOUT ?= 50m
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

BIN := bin
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOTESTSUM     := $(BIN)/gotestsum-$(GOTESTSUM_VERSION)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/havip-cluster, static, with its version
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/havip-cluster ./cmd/havip-cluster

# What a package holds, below DESTDIR. The binary is that of `make build`.
ARCH ?= $(shell $(GO) env GOARCH)
.PHONY: install
install: build ## put program, unit, manual and completions below DESTDIR (default: /)
	install -D -m 0755 $(BIN)/havip-cluster $(DESTDIR)/usr/bin/havip-cluster
	install -d $(DESTDIR)/usr/lib/systemd/system $(DESTDIR)/usr/share/man/man8 $(DESTDIR)/usr/share/doc/havip-cluster
	sed 's|/usr/local/bin/havip-cluster agent$$|/usr/bin/havip-cluster agent --config /etc/havip-cluster/agent.yaml|; s|/usr/local/bin/|/usr/bin/|' docs/havip-cluster.service > $(DESTDIR)/usr/lib/systemd/system/havip-cluster.service
	[ -e $(DESTDIR)/etc/havip-cluster/agent.yaml ] || install -D -m 0644 packaging/agent.yaml $(DESTDIR)/etc/havip-cluster/agent.yaml
	$(BIN)/havip-cluster man $(DESTDIR)/usr/share/man/man8
	gzip -9nf $(DESTDIR)/usr/share/man/man8/havip-cluster*.8
	install -d $(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)/usr/share/zsh/vendor-completions $(DESTDIR)/usr/share/fish/vendor_completions.d
	$(BIN)/havip-cluster completion bash > $(DESTDIR)/usr/share/bash-completion/completions/havip-cluster
	$(BIN)/havip-cluster completion zsh > $(DESTDIR)/usr/share/zsh/vendor-completions/_havip-cluster
	$(BIN)/havip-cluster completion fish > $(DESTDIR)/usr/share/fish/vendor_completions.d/havip-cluster.fish
	install -m 0644 README.md CHANGELOG.md docs/*.md $(DESTDIR)/usr/share/doc/havip-cluster/
	install -m 0644 packaging/copyright $(DESTDIR)/usr/share/doc/havip-cluster/copyright
	install -D -m 0644 LICENSE $(DESTDIR)/usr/share/licenses/havip-cluster/LICENSE
	cp -r docs/monitoring docs/runbooks $(DESTDIR)/usr/share/doc/havip-cluster/

# deb and rpm have no time but that of the commit, so the same commit gives the same bytes. A version
# that is no number, as without a tag, sorts before every release.
PACKAGE_VERSION ?= $(if $(filter v%,$(VERSION)),$(patsubst v%,%,$(subst -,+,$(VERSION))),0.0.0~$(subst -,.,$(VERSION)))
PACKAGE_TIME    ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
.PHONY: packages
packages: ## deb and rpm in bin/packages
	@rm -rf $(BIN)/stage $(BIN)/packages && mkdir -p $(BIN)/stage $(BIN)/packages
	umask 022 && $(MAKE) install DESTDIR=$(BIN)/stage >/dev/null
	@install -D -m 0644 packaging/lintian-overrides $(BIN)/stage/usr/share/lintian/overrides/havip-cluster
	@printf 'havip-cluster (%s) unstable; urgency=medium\n\n  * What changed is in CHANGELOG.md beside this file.\n\n -- havip-cluster <havip-cluster@localhost>  %s\n' '$(PACKAGE_VERSION)' "$$(LC_ALL=C date -u -R -d $(PACKAGE_TIME))" | gzip -9n > $(BIN)/stage/usr/share/doc/havip-cluster/changelog.gz && chmod 0644 $(BIN)/stage/usr/share/doc/havip-cluster/changelog.gz
	@sed 's|$${STAGE}|$(BIN)/stage|; s|$${ARCH}|$(ARCH)|; s|$${PACKAGE_VERSION}|$(PACKAGE_VERSION)|; s|$${PACKAGE_TIME}|$(PACKAGE_TIME)|' packaging/nfpm.yaml > $(BIN)/nfpm.yaml
	@find $(BIN)/stage -exec touch -h -d $(PACKAGE_TIME) {} +
	@for kind in deb rpm; do \
	  SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION) package -f $(BIN)/nfpm.yaml -p $$kind -t $(BIN)/packages/ || exit 1; \
	done
	@ls -l $(BIN)/packages

.PHONY: packages-test
packages-test: ## packages twice the same; installed, upgraded, removed and purged in a clean root, and in three as a cluster (root, debootstrap)
	$(call install,debootstrap lintian rpm rpmlint systemd)
	packaging/test.sh

.PHONY: image
image: build ## an OCI image of the program alone, as a tar in bin (no daemon)
	$(GO) run ./packaging/oci -binary $(BIN)/havip-cluster -arch $(ARCH) -version '$(VERSION)' -out $(BIN)/havip-cluster.oci.tar
	@ls -l $(BIN)/havip-cluster.oci.tar

# A module of its own: the product needs none of what knows these schemas.
.PHONY: deploy-test
deploy-test: ## the examples of docs/deploy against the schemas of Kubernetes, compose, cloud-init and Ansible; installs cloud-init, switched off (root)
	@mkdir -p /etc/cloud && { dpkg -s cloud-init >/dev/null 2>&1 || touch /etc/cloud/cloud-init.disabled; } # it must not take the next boot of this host for a first one
	$(call install,cloud-init ansible-core)
	cd packaging/deploytest && $(GO) test -count=1 -v .

.PHONY: demo
demo: build ## three nodes on this machine, a crash, the measured gap (root)
	$(BIN)/havip-cluster demo

.PHONY: setup
setup:
	$(call install,$(APT_PACKAGES))

# RERUNS=1, as in CI, asks again once for up to three tests that failed, and names them at the end: a machine that stands
# still for seconds fails a test now and then, and each such test is to be mended. A data race, a panic, or a fourth
# failure is final. A person gets the first answer.
RERUNS ?=
# $(call tests,FLAGS,PACKAGES,TIMEOUT)
tests = $(if $(RERUNS),rm -f $(BIN)/failed-first && $(GOTESTSUM) --format standard-quiet --hide-summary=skipped --rerun-fails=$(RERUNS) --rerun-fails-max-failures=3 --rerun-fails-abort-on-data-race --rerun-fails-report=$(BIN)/failed-first --packages="$(2)" -- $(1) -timeout $(or $(3),$(TEST_TIMEOUT)) && { [ ! -e $(BIN)/failed-first ] || { echo "failed once and are to be mended:" && cat $(BIN)/failed-first; }; },$(GO) test $(1) -timeout $(or $(3),$(TEST_TIMEOUT)) $(2))

# What is computed and never runs beside itself: the race detector finds nothing there, and takes five times as long.
PURE := ./fsm ./fsm/placement ./manifest/... ./havip ./failover/lease ./internal/form ./internal/jsonpath ./internal/plain
.PHONY: test
test: setup $(if $(RERUNS),$(GOTESTSUM)) ## all tests, with the race detector but for pure functions; not whole clusters (root)
	@# The slowest packages first: two run at a time, and none is to be left over for the end.
	@# Those of membership wait more than they work, so four go side by side.
	$(call tests,-race -parallel 4,./membership ./api $$($(GO) list ./... | grep -v -x -F -e havip-cluster/membership -e havip-cluster/api $$($(GO) list $(PURE) | sed 's/^/-e /') | grep -v -e /jepsen/scenario -e /jepsen/trial))
	$(call tests,,$(PURE))
	$(call tests,-run 'Limits|Much|Many|Proportion',./api)

.PHONY: test-short
test-short: setup ## the tests that take seconds
	$(GO) test -short -timeout 5m ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## go vet, and golangci-lint, which has staticcheck in it
	$(GO) vet ./...
	$(GOLANGCI_LINT) run

$(GOLANGCI_LINT):
	GOBIN=$(abspath $(BIN)/tmp) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/tmp/golangci-lint $@ && rmdir $(BIN)/tmp

$(GOTESTSUM):
	GOBIN=$(abspath $(BIN)/tmp) $(GO) install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	mv $(BIN)/tmp/gotestsum $@ && rmdir $(BIN)/tmp

.PHONY: tidy
tidy: ## go.mod, formatting and the rules of the house
	$(GO) mod tidy -diff
	@unformatted=$$(find . -name '*.go' -not -path './bin/*' -exec gofmt -l {} +); \
	  [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	@for m in api/console/browsertest packaging/deploytest; do (cd $$m && $(GO) mod tidy -diff && $(GO) vet ./...) || exit 1; done
	$(GO) test -run Tidy ./jepsen

.PHONY: mutants
mutants: ## each safety rule broken on purpose must be noticed: the table of who did (root)
	$(GO) run ./jepsen/cmd mutants $(MUTANTS)

# SEEDS seeds from SEED0 on, each with SIMTIME of virtual time with faults, in SIMJOBS
# processes; what fails is kept in bin/sim.
SEEDS   ?= 24
SEED0   ?= 1
SIMTIME ?= 5m
SIMJOBS ?= 2
SIMWAIT ?= 24h

.PHONY: sim
sim: ## search for two owners in virtual time: whole clusters (SEEDS, SEED0), and the lease alone
	$(GO) test -timeout $(TEST_TIMEOUT) -run Search ./failover/lease/
	@mkdir -p $(BIN)/sim && $(GO) test -c -o $(BIN)/sim/sim.test ./jepsen/sim
	@cd jepsen/sim && $(abspath $(BIN))/sim/sim.test -test.run 'Scenarios'
	@$(GO) run ./jepsen/cmd search -binary $(BIN)/sim/sim.test -out $(BIN)/sim -seed $(SEED0) -seeds $(SEEDS) -duration $(SIMTIME) -jobs $(SIMJOBS) -limit $(SIMWAIT)

.PHONY: model
model: ## the lease protocol and each of its rules left out, explored with spin (gcc, 4 GB, 10 min)
	$(call install,spin gcc libc6-dev)
	jepsen/model/run.sh

.PHONY: kernels
kernels: ## the fence's and the lease's tests, and preflight, on Debian's kernels 5.10, 6.1, 6.12 under qemu without KVM; KERNELS="6.1" for some (root, an hour)
	$(call install,qemu-system-x86 busybox-static kmod cpio)
	jepsen/kernels/run.sh $(KERNELS)

.PHONY: bench
bench: ## Keepalived and havip-cluster in one run: gaps, cost, plots, and gates on ratios; SET=quick|load|standard|rest|full, RUNS=5 (root, a quiet machine)
	$(call install,keepalived)
	$(GO) run ./jepsen/cmd bench -set $(or $(SET),standard) -runs $(or $(RUNS),5) -out $(or $(OUT),$(BIN)/bench) -only '$(ONLY)'

.PHONY: jepsen-short
jepsen-short: $(if $(RERUNS),$(GOTESTSUM)) ## whole clusters of the real binary through each fault on the real kernel, four at a time (root)
	$(call install,$(SCENARIO_PACKAGES))
	$(call tests,-short -parallel 4 -count=1 -p 1,./jepsen/scenario ./jepsen/trial,$(SCENARIO_TIMEOUT))

.PHONY: scenarios
scenarios: ## the same one after another, with attacks and planted bugs that take long (root, 25 min)
	$(call install,$(SCENARIO_PACKAGES))
	$(GO) test -parallel 1 -count=1 -p 1 -timeout $(SCENARIO_TIMEOUT) ./jepsen/scenario ./jepsen/trial

.PHONY: jepsen
jepsen: build ## DURATION (30m) of all faults from one SEED at one LEASE (500ms), judged, with bin/jepsen/report.html (root)
	$(GO) build -o $(BIN)/jepsen/jepsen ./jepsen/cmd
	$(BIN)/jepsen/jepsen run -binary $(BIN)/havip-cluster -out $(BIN)/jepsen -duration $(or $(DURATION),30m) -seed $(or $(SEED),0) -lease $(or $(LEASE),500ms) -kinds '$(KINDS)'

.PHONY: jepsen-race
jepsen-race: ## some of these with agents that have the race detector (root, gcc)
	HAVIP_RACE=1 $(GO) test -count=1 -timeout $(TEST_TIMEOUT) -run 'Killed|HostLoss|Agent|Repair' ./jepsen/scenario

# axe-core looks for what a person who sees, hears or moves less could not use. It is fetched for this test
# alone (MPL-2.0), and no part of the product.
AXE_VERSION := 4.14.1
.PHONY: console-test
console-test: $(BIN)/axe-$(AXE_VERSION).min.js ## the console in Chromium on a real cluster: each page and change, a failover seen live, docs/console/*.png (root)
	$(call install,chromium)
	@cd api/console/browsertest && HAVIP_AXE=$(abspath $<) HAVIP_SHOTS=$(abspath docs/console) HAVIP_RUNS=$${HAVIP_RUNS:-10} $(GO) test -count=1 -timeout 20m -v . >$(abspath $(BIN))/console-test.log 2>&1; \
	  ended=$$?; grep -v 'level=' $(abspath $(BIN))/console-test.log; exit $$ended

$(BIN)/axe-$(AXE_VERSION).min.js:
	@command -v npm >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends npm >/dev/null; }
	@mkdir -p $(BIN)/axe && cd $(BIN)/axe && npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && tar -xzf axe-core-$(AXE_VERSION).tgz package/axe.min.js
	@mv $(BIN)/axe/package/axe.min.js $@ && rm -rf $(BIN)/axe

# A fabric that nobody here wrote. The packages are unpacked, not installed: no service starts. Its datapath is in user
# space, so the kernel needs no module.
OVN_PACKAGES := openvswitch-common openvswitch-switch ovn-common ovn-central ovn-host
.PHONY: ovn
ovn: $(BIN)/ovn/usr/bin/ovn-nbctl ## failovers through Open Virtual Network with a HAVIP as a port of type virtual: gaps, and whom OVN names; RUNS=5 (root, /dev/net/tun, 5 min)
	$(call install,ethtool libcap-ng0 libnuma1 libunbound8 libxdp1)
	HAVIP_OVN=$(abspath $(BIN))/ovn HAVIP_RUNS=$(or $(RUNS),5) $(GO) test -count=1 -timeout 30m -v -run '^TestOVN' ./jepsen/scenario >$(BIN)/ovn.log 2>&1; \
	  ended=$$?; grep -v level= $(BIN)/ovn.log; exit $$ended

$(BIN)/ovn/usr/bin/ovn-nbctl:
	@mkdir -p $(BIN)/ovn/deb && cd $(BIN)/ovn/deb && { apt-get download -qq $(OVN_PACKAGES) 2>/dev/null || { apt-get update -qq && apt-get download -qq $(OVN_PACKAGES); }; } && for p in *.deb; do dpkg -x $$p ..; done

# Amazon's own stand-in of the metadata service; it is no part of the product.
METADATA_MOCK_VERSION := v1.13.0
.PHONY: aws-mock
aws-mock: $(BIN)/ec2-metadata-mock-$(METADATA_MOCK_VERSION) ## provider/aws against amazon-ec2-metadata-mock
	HAVIP_METADATA_MOCK=$(abspath $<) $(GO) test -count=1 -v -run AmazonsMetadataMock ./provider/aws

$(BIN)/ec2-metadata-mock-$(METADATA_MOCK_VERSION):
	GOBIN=$(abspath $(BIN)/tmp) $(GO) install github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock@$(METADATA_MOCK_VERSION)
	mv $(BIN)/tmp/ec2-metadata-mock $@ && rmdir $(BIN)/tmp

.PHONY: measure-sizes
measure-sizes: ## 1, 1,000, 5,000 and 10,000 HAVIPs, and Keepalived beside them (root, a quiet machine, 20 min)
	@mkdir -p $(BIN)
	for n in 1 1000 10000; do HAVIP_MEASURE=1 HAVIP_SIZE=$$n $(GO) test -count=1 -timeout 30m -v -run 'TestSizeIdle$$' ./jepsen/scenario >$(BIN)/sizes.log 2>&1; ended=$$?; grep -E 'size_.*test.go|^(---|FAIL|ok)' $(BIN)/sizes.log; [ $$ended = 0 ] || exit $$ended; done
	for n in 1000 5000 10000; do HAVIP_MEASURE=1 HAVIP_SIZE=$$n HAVIP_RUNS=$${HAVIP_RUNS:-3} $(GO) test -count=1 -timeout 60m -v -run 'TestSize$$|TestSizeOfKeepalived$$' ./jepsen/scenario >$(BIN)/sizes.log 2>&1; ended=$$?; grep -E 'size_.*test.go|^(---|FAIL|ok)' $(BIN)/sizes.log; [ $$ended = 0 ] || exit $$ended; done

# The faults of docs/measured.md, one series each.
MEASURED := HostLossOfAnOrdinaryOwner|HostLossOfALeadingOwner|LeaderKilledWhileAnotherNodeOwns|PlannedMove|CleanStopHandsOver|NodeDrain|DeathOfTheAgentAlone|DeathOfAgentAndGuard|DeathOfTheGuardAlone|FreezeAndReturn|DeathAndFreezeUnderLoad|PartitionOfTheOwner|StalledDisk|UnplugAndReplug|RollingUpgrade
.PHONY: measure
measure: ## the first table of docs/measured.md: each fault HAVIP_RUNS (20) times, held to its budget (root, a quiet machine, 30 min)
	$(call install,$(SCENARIO_PACKAGES))
	@mkdir -p $(BIN)
	HAVIP_MEASURE=1 HAVIP_RUNS=$${HAVIP_RUNS:-20} $(GO) test -count=1 -timeout 2h -v -run '^Test($(MEASURED))$$' ./jepsen/scenario >$(BIN)/measure.log 2>&1; \
	  ended=$$?; echo '| fault | runs | gap p50 | gap max | two owners | steal |'; echo '|---|---:|---:|---:|---:|---:|'; \
	  sed -n 's/^ *[a-z_]*test.go:[0-9]*: *\(.*[^ ]\)  *runs  *\([0-9]*\)  *gap min .* p50  *\([^ ]*\)  *max  *\([^ ]*\)  *dual-owner \(.*[^ ]\)  *steal \(.*\)$$/| \1 | \2 | \3 | \4 | \5 | \6 |/p' $(BIN)/measure.log; \
	  grep -E '^ *(--- FAIL|FAIL|ok)' $(BIN)/measure.log; exit $$ended

# Debian's Prometheus is unpacked, not installed: no service starts.
.PHONY: monitoring
monitoring: $(BIN)/prometheus/usr/bin/prometheus ## alerts, dashboard and metrics against a real Prometheus and a live node; each runbook walked on a cluster (root, 15 min)
	@$(GO) test -count=1 -timeout 20m -v -run 'Monitoring|LiveMetrics|Runbook' ./agent ./cmd/havip-cluster ./jepsen/scenario >$(BIN)/monitoring.log 2>&1; \
	  ended=$$?; grep -E '^(---|FAIL|ok)|test.go' $(BIN)/monitoring.log; exit $$ended

$(BIN)/prometheus/usr/bin/prometheus:
	@mkdir -p $(BIN)/prometheus && cd $(BIN)/prometheus && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; } && dpkg -x prometheus_*.deb .

.PHONY: benchmarks
benchmarks: ## the benchmarks of single functions
	$(GO) test -run '^$$' -bench . -benchmem ./...

EBPF := netdev/fence netdev/acceptor

.PHONY: generate
generate: ## compile the eBPF programs of fence and acceptor again (clang 14, llvm-strip, libbpf headers)
	$(GO) generate $(addprefix ./,$(EBPF))

.PHONY: check-generate
check-generate: ## the committed eBPF objects are what the source gives, where clang 14 is present
	@if clang --version 2>/dev/null | grep -q 'version 14\.'; then \
	  for d in $(EBPF); do \
	    cp -r $$d $(BIN)/ebpf.before && $(GO) generate ./$$d && diff -r $$d $(BIN)/ebpf.before || bad="$$bad $$d"; rm -rf $(BIN)/ebpf.before; \
	  done; \
	  if [ -n "$$bad" ]; then echo "the committed objects differ from the source:$$bad"; exit 1; fi; \
	else echo "clang 14 is not here: the eBPF objects are taken as committed"; fi

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "$$file $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
	  done; \
	done

.PHONY: fuzz-doors
fuzz-doors: ## what a stranger's bytes reach before anybody knows who he is, one after another, FUZZTIME each
	@set -e; grep -v '^#' jepsen/testdata/strangers.txt | while read -r dir target _; do \
	  echo "$$dir $$target"; \
	  $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -parallel $(FUZZJOBS) $$dir; \
	done

.PHONY: check
check: tidy lint check-generate test mutants sim jepsen-short ## what CI runs

.PHONY: clean
clean: ## remove what make built
	rm -rf $(BIN) coverage.*
	$(GO) clean -testcache
