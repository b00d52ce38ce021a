package ctl

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/cluster"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/datastore"
	"github.com/margay-net/margay/pkg/ctl/explain"
	"github.com/margay-net/margay/pkg/ctl/node"
	"github.com/margay-net/margay/pkg/ctl/watch"
)

// Build says what this program was built from.
type Build struct {
	Version string // v1.2.3
	Commit  string
}

// New returns the command of a program that was called by the name argv0. It prints errors to nobody: who executes it
// does.
func New(argv0 string, b Build) *cobra.Command {
	o := &connect.Options{Version: b.Version}
	root := &cobra.Command{
		Use:   "margayctl",
		Short: "Manage the pods' network",
		Long: `Show and change the resources of projectcalico.org/v3, addresses, and what nodes do.

The cluster is found by --config (/etc/calico/calicoctl.cfg), else by the
environment (KUBECONFIG), else by ~/.kube/config.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	if name := filepath.Base(argv0); strings.HasPrefix(name, "kubectl-") {
		// kubectl finds a plugin "margay" by this name, and people type it so.
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl " + strings.TrimPrefix(name, "kubectl-")}
	}
	o.AddFlags(root.PersistentFlags())
	root.AddGroup(&cobra.Group{ID: "resources", Title: "Resources:"}, &cobra.Group{ID: "network", Title: "Network:"})
	for _, c := range []*cobra.Command{
		get(o), write(o, creating), write(o, applying), write(o, replacing), patch(o), remove(o), label(o), validate(o), convert(o),
	} {
		c.GroupID = "resources"
		root.AddCommand(c)
	}
	for _, c := range network(o) {
		c.GroupID = "network"
		root.AddCommand(c)
	}
	root.AddCommand(version(o, b))
	return root
}

// network are the commands of the packages below.
func network(o *connect.Options) []*cobra.Command {
	return []*cobra.Command{address.Command(o), node.Command(o), explain.Command(o), watch.Command(o), datastore.Command(o), cluster.Command(o)}
}

// say writes to a terminal. One that is gone has nobody to tell.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// failure is an error in calicoctl's words, which begin with a capital letter.
func failure(format string, args ...any) error { return fmt.Errorf(format, args...) }
