// Package ctl is margayctl: its commands read as calicoctl's do, with the same names, flags, outputs and exit codes.
//
// The commands here are those of resources; packages below have the others. What is written is checked first, all of
// it: when one document of many files is wrong, nothing is written (package check). The same program is kubectl's plugin
// under the name kubectl-margay.
package ctl
