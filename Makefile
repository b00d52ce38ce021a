# Each target says itself what it does: make help.
IMAGE   ?= ghcr.io/margay-net/margay:v0.1.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The cluster of test/kube: what test/kube/up takes, see there; it has the defaults, too.
export NODES SUBNETS FAMILY CNI POOL_ENV

# Which upstream tests: those of pod networking and of Services; on a dual-stack cluster all of networking, and those
# of both families together.
FOCUS_4    := \[sig-network\] (Networking Granular Checks: Pods|Services.*\[Conformance\])
FOCUS_dual := \[sig-network\] (Networking |\[Feature:IPv6DualStack\]|Services.*\[Conformance\])
FOCUS      ?= $(or $(FOCUS_$(FAMILY)),$(FOCUS_4))
# SCTP: many kernels have none. Networking-*: the internet, and its DNS, that a cluster of namespaces does not reach.
# Networking-Performance: wants another image, and measures only.
SKIP       ?= \[Feature:SCTPConnectivity\]|\[Feature:Networking-(IPv4|IPv6|DNS|Performance)\]

COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X github.com/margay-net/margay/pkg/agent.Version=$(VERSION) -X github.com/margay-net/margay/pkg/controller.Version=$(VERSION)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
# Built the same way, so that nothing is compiled twice.
GO_TEST  := CGO_ENABLED=0 go test -trimpath
PLUGINS  := $(addprefix github.com/containernetworking/plugins/plugins/,meta/portmap meta/bandwidth main/loopback)
ROOTFS   := bin/rootfs

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## bin/margay (CNI plugin), bin/margay-agent, bin/margay-controller, bin/margayctl (kubectl-margay)
	$(GO_BUILD) -o bin/ ./cmd/margay ./cmd/margay-agent ./cmd/margay-controller ./cmd/margayctl
	ln -sf margayctl bin/kubectl-margay

# What we build ourselves of the image, which agent and controller share.
.PHONY: rootfs
rootfs: build
	rm -rf $(ROOTFS)
	mkdir -p $(ROOTFS)/opt/margay/bin
	cp bin/margay-agent bin/margay-controller $(ROOTFS)/
	cp bin/margay $(ROOTFS)/opt/margay/bin/
	$(GO_BUILD) -o $(ROOTFS)/opt/margay/bin/ $(PLUGINS)

# The agent executes iptables, of either kind, for what must live in iptables' own chains: this machine's programs.
IPTABLES := $(foreach p,iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy,$(p) $(p)-save $(p)-restore)

.PHONY: image
image: rootfs ## bin/margay.tar, the agent's image, without a container engine
	test/kube/rootfs bin/iptables $(IPTABLES)
	cp -a bin/iptables/usr bin/iptables/lib bin/iptables/lib64 $(ROOTFS)/
	mkdir -p $(ROOTFS)/etc $(ROOTFS)/run
	printf 'root:x:0:0:root:/:/sbin/nologin\n' >$(ROOTFS)/etc/passwd
	go -C test/kube run ./mkimg -o $(CURDIR)/bin/margay.tar -t $(IMAGE) -entrypoint /margay-agent $(CURDIR)/$(ROOTFS)

.PHONY: deps
deps: ## Install what building and testing need from the distribution (root)
	hack/deps

.PHONY: clean
clean: ## Remove what was built here (not the caches of test/kube)
	rm -rf bin

##@ Check

.PHONY: generate
generate: ## Write deepcopy functions and manifests/margay.yaml anew
	hack/generate

.PHONY: verify
verify: ## tidy, generate, format, vet, lint, import direction; fails on any difference
	hack/verify

.PHONY: lint
lint: ## Run the linters
	hack/lint

##@ Test

.PHONY: test
test: ## All tests; installs and builds what they need, leaves no cluster behind (root)
	hack/deps
	go -C test/kube test ./mkimg
	$(MAKE) test-kernel # test-unit's tests and more
	$(MAKE) test-guest
	$(MAKE) test-e2e

.PHONY: test-unit
test-unit: ## Tests that need neither root nor a cluster
	go test -short ./...
	go -C test/kube test -short ./mkimg

.PHONY: test-kernel
test-kernel: ## Tests on the real kernel and API server, in network namespaces (root)
	test/kube/build tools kube etcd calicoctl
	@# Two packages at a time, since most of it is waiting; the one that takes half of the time is first.
	MARGAY_REQUIRE_ROOT=1 $(GO_TEST) -count=1 -p 2 -timeout 25m ./test/fault $$(go list ./... | grep -v -e /test/e2e -e /test/guest -e /test/fault)

.PHONY: test-guest
test-guest: ## Tests that want a kernel with IPIP, in one that QEMU runs
	test/kube/build tools kube etcd
	$(GO_TEST) -count=1 -v ./test/guest

.PHONY: test-e2e
test-e2e: ## Tests on clusters of IPv4, of both families, of IPv6; FAMILY=, SUBNETS=: on one, KEEP=1 leaves it (root)
	hack/test-e2e $(E2E_FLAGS)

.PHONY: e2e-upstream
e2e-upstream: cluster ## Kubernetes' own tests of Services and networking, or those of FOCUS less SKIP; see FAMILY (root)
	test/kube/build e2e
	test/kube/e2e '$(FOCUS)' '$(SKIP)'

.PHONY: e2e-kind
e2e-kind: ## The same tests on a kind cluster (Docker)
	hack/e2e-kind

.PHONY: soak
soak: ## Churn for MINUTES=30 minutes, then look for leaks and growth (root)
	hack/soak $(MINUTES)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=60s
	hack/fuzz

.PHONY: bench
bench: ## Measure
	hack/bench

##@ Cluster

.PHONY: cluster
cluster: image ## Bring up NODES nodes in SUBNETS subnets with FAMILY (4, 6, dual), CNI, POOL_ENV="K=V K=V" (root)
	test/kube/build
	test/kube/up

.PHONY: cluster-down
cluster-down: ## Take the cluster away
	test/kube/down

.PHONY: kubeconfig
kubeconfig: ## Print the path of the cluster's kubeconfig
	@test/kube/kubeconfig

.PHONY: demo
demo: ## Show it on a cluster, step by step
	hack/demo
