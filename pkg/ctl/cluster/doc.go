// Package cluster holds margayctl's commands about the whole cluster: "cluster check" looks whether its network is well and
// says what to do where it is not, "cluster diags" writes an archive of what helps to find a fault.
//
// Both read the API server alone, and change nothing. Secrets are never read, and what looks like one is blanked.
package cluster
