package check

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// Item is a document and its kind.
type Item struct {
	*manifest.Document
	Kind *resource.Kind
}

// Options say what the documents are for.
type Options struct {
	Verb       resource.Verb // how they would be written
	Namespace  string        // of those that name none
	SkipExists bool          // what exists already is no problem
}

// Documents checks documents against the cluster. Warnings are of things that may be meant so: a name that nobody has
// yet. The items are those that have no problem, in the order of the documents.
func Documents(ctx context.Context, c resource.Cluster, docs []*manifest.Document, o Options) (items []Item, problems, warnings []*manifest.Problem) {
	items, problems = Identify(docs, o.Namespace)
	for _, item := range items {
		problems = append(problems, selectors(item)...)
	}
	known := &inventory{ctx: ctx, cluster: c, items: items}
	problems = append(problems, overlaps(known)...)
	problems = append(problems, blockSizes(known)...)
	warnings = references(known)
	for _, err := range known.errs {
		problems = append(problems, &manifest.Problem{Message: err.Error()})
	}

	var good []Item
	for _, item := range items {
		_, err := item.Kind.Write(ctx, item.Kind.Open(c), o.Verb, item.Object, true)
		switch {
		case err == nil, o.SkipExists && apierrors.IsAlreadyExists(err):
			good = append(good, item)
		default:
			problems = append(problems, refusals(item, err)...)
		}
	}
	return good, problems, warnings
}

// Identify finds the kind of each document, and puts it into the namespace.
func Identify(docs []*manifest.Document, namespace string) (items []Item, problems []*manifest.Problem) {
	seen := map[string]*manifest.Document{}
	for _, d := range docs {
		kind, p := identify(d)
		if p == nil {
			p = setNamespace(d, kind, namespace)
		}
		if p != nil {
			problems = append(problems, p)
			continue
		}
		id := kind.ID(d.Object.GetNamespace(), d.Object.GetName())
		if first := seen[id]; first != nil {
			problems = append(problems, d.Problem("metadata.name", fmt.Sprintf("stands in %s:%d, too: leave one of the two out", first.File, first.Line)))
			continue
		}
		seen[id] = d
		items = append(items, Item{d, kind})
	}
	return items, problems
}

// setNamespace gives a document the namespace that was asked for.
func setNamespace(d *manifest.Document, kind *resource.Kind, namespace string) *manifest.Problem {
	have := d.Object.GetNamespace()
	switch {
	case !kind.Namespaced && have != "":
		return d.Problem("metadata.namespace", fmt.Sprintf("namespace should not be specified for a non-namespaced resource. %s is not a namespaced resource: leave it out", kind.Kind.Kind))
	case !kind.Namespaced && namespace != "":
		return d.Problem("kind", fmt.Sprintf("%s is not namespaced: leave --namespace out", kind.Kind.Kind))
	case !kind.Namespaced:
	case have == "" && namespace == "":
		d.Object.SetNamespace("default")
	case have == "":
		d.Object.SetNamespace(namespace)
	case namespace != "" && have != namespace:
		return d.Problem("metadata.namespace", fmt.Sprintf("resource namespace does not match client namespace. %s != %s: leave one of the two out", have, namespace))
	}
	return nil
}
