// Package manifest reads files of resources: YAML and JSON, several documents in one file, lists of several kinds,
// folders and the standard input.
//
// It keeps the line of everything it reads, so that whoever finds fault with a field can say where it stands. Reading
// goes on behind a document that is broken: all that is wrong with all files is told at once. It knows no kinds, writes
// nothing, and talks to nobody.
package manifest
