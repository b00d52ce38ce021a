// Package output prints what get found, in the forms of -o: tables, YAML, JSON, names, columns of one's own, Go templates.
//
// YAML and JSON can be fed back to apply. Tables and texts are calicoctl's. It talks to nobody but through the function
// that tells the cluster's AS number, which a table of nodes asks for.
package output
