//go:build tools

// Package kube names the upstream tests, which are no program and so can not be
// a "tool" in go.mod, for "go mod tidy" to see.
package kube

import _ "k8s.io/kubernetes/test/e2e"
