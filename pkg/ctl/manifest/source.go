package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source says where resources come from.
type Source struct {
	Names     []string  // files and folders; - for the standard input
	Recursive bool      // folders within folders, too
	SkipEmpty bool      // a file without resources is no error
	Stdin     io.Reader // what - stands for
}

var extensions = []string{".yaml", ".yml", ".json"}

// Read returns all resources, those of a folder's files in the order of the files' names, and as an error of Problems
// all that is wrong with any of them.
func (s Source) Read() ([]*Document, error) {
	var docs []*Document
	var errs []error
	for _, name := range s.Names {
		found, err := s.read(name)
		docs = append(docs, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}

func (s Source) read(name string) ([]*Document, error) {
	if name == "-" {
		text, err := io.ReadAll(io.LimitReader(s.Stdin, maxSize+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return s.parse("standard input", text)
	}
	files, err := s.files(name)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	if len(files) == 0 && !s.SkipEmpty {
		return nil, &Problem{File: name, Message: "no resources specified: the folder has no file that ends with .yaml, .yml or .json" + deeper(s.Recursive)}
	}
	var docs []*Document
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read resources: %w", err))
			continue
		}
		found, err := s.parse(file, text)
		docs = append(docs, found...)
		errs = append(errs, err)
	}
	return docs, errors.Join(errs...)
}

func deeper(recursive bool) string {
	if recursive {
		return ""
	}
	return "; --recursive looks into its folders, too"
}

func (s Source) parse(name string, text []byte) ([]*Document, error) {
	docs, err := Parse(name, text)
	if err == nil && len(docs) == 0 && !s.SkipEmpty {
		return nil, &Problem{File: name, Message: "no resources specified: --skip-empty passes over files without any"}
	}
	return docs, err
}

// files is a file itself, or a folder's files.
func (s Source) files(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var files []string
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != name && !s.Recursive:
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}
