// Package table prints tables as calicoctl's users and their scripts know them: plain for resources, boxed for IPAM and
// for a node's peers.
//
// It knows no resource and colours nothing. Widths count characters, so that a table stays straight in a terminal.
package table
