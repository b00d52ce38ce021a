package resource

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/kube"
)

// APIVersion is that of all objects.
const APIVersion = "projectcalico.org/v3"

// Kind is one kind of resources.
type Kind struct {
	kube.Kind
	Names  []string // what people type, in lower case
	Narrow []string // headings of the table
	Wide   []string // headings of the table of -o wide

	columns []column
	open    func(Cluster, *Kind) Store
}

// Store keeps the objects of one kind. A namespace is empty for kinds without, and for all namespaces when listing.
type Store interface {
	Get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error)
	List(ctx context.Context, namespace string) (*unstructured.UnstructuredList, error)
	// Create and Update return the object as it is stored then, or as it would be with dryRun. An object to update has
	// the resource version that it was read with.
	Create(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error)
	Update(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error)
	// Delete deletes the object, provided that it has the resource version if one is given.
	Delete(ctx context.Context, namespace, name, version string) error
}

// Open returns where the kind's objects are.
func (k *Kind) Open(c Cluster) Store { return k.open(c, k) }

// Find returns the kind that somebody typed: any of its names, in any case.
func Find(name string) (*Kind, error) {
	for _, k := range Kinds() {
		if slices.Contains(k.Names, strings.ToLower(name)) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("resource type '%s' is not supported: %s", name, suggest(name))
}

// Of returns the kind of a document.
func Of(apiVersion, kind string) (*Kind, error) {
	for _, k := range Kinds() {
		if k.Kind.Kind != kind {
			continue
		}
		if apiVersion == APIVersion {
			return k, nil
		}
		return nil, fmt.Errorf("apiVersion %q: kind %s is of %s: write that, or use kubectl for a kind of another group", apiVersion, kind, APIVersion)
	}
	if group, _, _ := strings.Cut(apiVersion, "/"); !strings.Contains(group, "projectcalico") && strings.Contains(apiVersion, "/") {
		return nil, fmt.Errorf("kind %q is of apiVersion %q, not %s: use kubectl for it", kind, apiVersion, APIVersion)
	}
	return nil, fmt.Errorf("kind %q of apiVersion %q is unknown: %s", kind, apiVersion, suggest(kind))
}

// suggest names the kind whose name is nearest, or else all.
func suggest(name string) string {
	best, distance := "", len(name)/3+1
	var all []string
	for _, k := range Kinds() {
		all = append(all, k.Kind.Kind)
		for _, n := range k.Names {
			if d := edits(strings.ToLower(name), n); d < distance && len(n) > 3 {
				best, distance = k.Kind.Kind, d
			}
		}
	}
	if best != "" {
		return "do you mean " + best + "?"
	}
	slices.Sort(all)
	return "known are " + strings.Join(all, ", ") + "; use kubectl for others"
}

// edits is how many letters must be changed, added or left out to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j], row[j+1]) + 1
			if a[i] == b[j] {
				next = min(next, corner)
			} else {
				next = min(next, corner+1)
			}
			corner, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// ID is KIND(NAME) or KIND(NAMESPACE/NAME), as calicoctl's messages have it.
func (k *Kind) ID(namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return k.Kind.Kind + "(" + name + ")"
}

// newList returns a list of the kind around objects.
func (k *Kind) newList(version string, items []unstructured.Unstructured) *unstructured.UnstructuredList {
	l := &unstructured.UnstructuredList{Items: items}
	l.SetAPIVersion(APIVersion)
	l.SetKind(k.Kind.Kind + "List")
	l.SetResourceVersion(version)
	return l
}
