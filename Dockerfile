# The image of margay-agent and margay-controller, for those who have Docker: make image makes one without, and with less in it.
#   docker build --build-arg VERSION=$(git describe --tags --always) -t ghcr.io/margay-net/margay:v0.1.0 .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH
ARG VERSION=unknown
RUN GOARCH=$TARGETARCH make rootfs VERSION=$VERSION

# The agent executes iptables, of either kind, for what must live in iptables' own chains.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends iptables && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/rootfs /
ENTRYPOINT ["/margay-agent"]
