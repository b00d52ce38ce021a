// Package check finds what is wrong with documents before any of them is written.
//
// It checks what needs no cluster (types, names, namespaces, selectors, the same object twice), then what the cluster
// knows (pools that overlap, names that nobody has), and lets the API server try each document without keeping it: that
// finds unknown fields, wrong types, and what the schema and its rules refuse. Each problem names file, line, object and
// field, and says the way out. It writes nothing.
package check
