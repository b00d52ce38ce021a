# The image of margay-agent, for those who have Docker: make image makes the same one without.
#   docker build --build-arg VERSION=$(git describe --tags --always) -t ghcr.io/margay-net/margay:v0.1.0 .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH
ARG VERSION=unknown
RUN GOARCH=$TARGETARCH make rootfs VERSION=$VERSION

FROM scratch
COPY --from=build /src/bin/rootfs /
ENTRYPOINT ["/margay-agent"]
