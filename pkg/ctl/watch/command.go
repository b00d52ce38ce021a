package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
	"github.com/margay-net/margay/pkg/kube"
)

// Command is "watch".
func Command(o *connect.Options) *cobra.Command {
	var namespace string
	var wide bool
	cmd := &cobra.Command{
		Use:   "watch KIND | ipam",
		Short: "Show objects, or addresses, as they change",
		Args:  cobra.ExactArgs(1),
		Example: "  margayctl watch ippools\n" +
			"  margayctl watch ipam",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		name := args[0]
		var to sink
		if name == "ipam" {
			name, to = "IPAMBlock", &addresses{out: cmd.OutOrStdout(), now: time.Now}
		}
		watched, ok := kube.KindOf(name)
		if !ok {
			return fmt.Errorf("kind %q cannot be watched: use a resource of projectcalico.org, such as ippools; or kubectl get -w", name)
		}
		if to == nil {
			kind, err := resource.Find(name)
			if err != nil {
				return err
			}
			to = newRows(cmd.OutOrStdout(), kind, wide)
		}
		return follow(cmd.Context(), c.Kube, watched, namespace, to)
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace to look at; all when not set.")
	cmd.Flags().BoolVarP(&wide, "wide", "w", false, "Show more columns.")
	return cmd
}

// sink is shown all objects at first, and then each change; gone objects as they last were. The first error ends it.
type sink interface {
	start(all []unstructured.Unstructured) error
	change(o *unstructured.Unstructured, gone bool) error
}

// again is how long a follower waits before it reads anew.
const again = time.Second

// follow shows a kind's objects until ctx ends.
func follow(ctx context.Context, c *kube.Client, kind kube.Kind, namespace string, to sink) error {
	known := map[string]*unstructured.Unstructured{}
	for first := true; ; first = false {
		err := round(ctx, c, kind, namespace, to, known, first)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the user has seen enough
		}
		var failed *sinkError
		if first && err != nil || errors.As(err, &failed) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// sinkError is what the sink refuses: nobody reads any more.
type sinkError struct{ error }

// round reads all objects and follows them until the API server ends the watch.
func round(ctx context.Context, c *kube.Client, kind kube.Kind, namespace string, to sink, known map[string]*unstructured.Unstructured, first bool) error {
	list, err := c.ListResources(ctx, kind, namespace, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", kind.Plural, err)
	}
	if first {
		if err := to.start(list.Items); err != nil {
			return &sinkError{err}
		}
	}
	if err := catchUp(list, to, known, first); err != nil {
		return err
	}
	w, err := c.WatchResources(ctx, kind, namespace, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind.Plural, err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok || e.Type != apiwatch.Added && e.Type != apiwatch.Modified && e.Type != apiwatch.Deleted {
			continue
		}
		gone := e.Type == apiwatch.Deleted
		if gone {
			delete(known, key(o))
		} else {
			known[key(o)] = o
		}
		if err := to.change(o, gone); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

// catchUp tells what has changed since the last round.
func catchUp(list *unstructured.UnstructuredList, to sink, known map[string]*unstructured.Unstructured, first bool) error {
	there := map[string]bool{}
	for i := range list.Items {
		o := &list.Items[i]
		k := key(o)
		there[k] = true
		old := known[k]
		known[k] = o
		if !first && (old == nil || old.GetResourceVersion() != o.GetResourceVersion()) {
			if err := to.change(o, false); err != nil {
				return &sinkError{err}
			}
		}
	}
	for k, o := range known {
		if there[k] {
			continue
		}
		delete(known, k)
		if err := to.change(o, true); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

func key(o *unstructured.Unstructured) string { return o.GetNamespace() + "/" + o.GetName() }

// printRow prints cells, padded to widths that grow as longer ones come.
func printRow(out io.Writer, widths []int, cells []string) error {
	line := ""
	for i, c := range cells {
		widths[i] = max(widths[i], len([]rune(c)))
		line += fmt.Sprintf("%-*s   ", widths[i], c)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
