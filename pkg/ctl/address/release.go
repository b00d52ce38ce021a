package address

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/check"
)

func releaseCommand(o *connect.Options) *cobra.Command {
	var ip string
	var reports []string
	var force bool
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Release an address, or all that reports say nobody uses",
		Long: "Releases one address, whoever has it, or those that all given reports of \"ipam check\" call unused, each only in the state in\n" +
			"which the reports saw it. A report counts while the datastore is locked as it was when the report was made.",
		Args: cobra.NoArgs,
		Example: "  margayctl ipam release --ip=172.20.36.129\n" +
			"  margayctl ipam release --from-report=report.json",
	}
	cmd.RunE = run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
		if len(reports) > 0 {
			return releaseReports(ctx, c, out, reports, force, o.Version)
		}
		if ip == "" {
			return errors.New("nothing to release: use --ip=ADDRESS or --from-report=FILE")
		}
		return releaseIP(ctx, c, out, ip)
	})
	cmd.Flags().StringVar(&ip, "ip", "", "Address to release.")
	cmd.Flags().StringArrayVar(&reports, "from-report", nil, "Report of \"ipam check -o\"; several: what all of them call unused.")
	cmd.Flags().BoolVar(&force, "force", false, "Release although the datastore is not locked or a report is another version's.")
	return cmd
}

func releaseIP(ctx context.Context, c *connect.Cluster, out io.Writer, text string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("--ip %q is no address: write it without a length, such as 172.20.36.129", text)
	}
	s := &Snapshot{}
	if err := s.loadIPAM(ctx, c); err != nil {
		return err
	}
	done, err := newReleaser(c, s).release(ctx, addr, nil, "")
	if err != nil {
		return fmt.Errorf("release %s: %w", addr, err)
	}
	if !done {
		return fmt.Errorf("IP address %s is not assigned", addr)
	}
	p := printer{out: out}
	p.line("Successfully released IP address %s", addr)
	return p.err
}

// releaseReports releases what all reports call unused.
func releaseReports(ctx context.Context, c *connect.Cluster, out io.Writer, names []string, force bool, version string) error {
	p := &printer{out: out}
	s := &Snapshot{}
	if err := s.loadIPAM(ctx, c); err != nil {
		return err
	}
	reports, err := readReports(names)
	if err != nil {
		return err
	}
	fresh := false
	for i, r := range reports {
		if r.ClusterGUID != s.Info.Spec.ClusterGUID {
			return fmt.Errorf("report %s is of another cluster: it has GUID %s, this cluster %s", names[i], r.ClusterGUID, s.Info.Spec.ClusterGUID)
		}
		if r.Version != version {
			if !force {
				return fmt.Errorf("report %s was made by version %s, this is %s: make a new one, or use --force", names[i], r.Version, version)
			}
			p.line("WARNING: report %s was made by version %s; used because of --force", names[i], r.Version)
		}
		fresh = fresh || r.ClusterInfoRevision == s.Info.ResourceVersion
	}
	if !fresh {
		return errors.New("no report is of the present: lock the datastore (margayctl datastore migrate lock) and make a new one")
	}
	if !s.Locked() {
		if !force {
			return errors.New("the datastore is not locked: lock it first (margayctl datastore migrate lock), or use --force")
		}
		p.line("WARNING: the datastore is not locked; gone on because of --force")
	}
	if err := newReleaser(c, s).releaseLeaked(ctx, p, reports); err != nil {
		return err
	}
	p.line("You may now unlock the data store.")
	return p.err
}

func readReports(names []string) ([]check.Report, error) {
	out := make([]check.Report, len(names))
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read report: %w", err)
		}
		if err := json.Unmarshal(b, &out[i]); err != nil {
			return nil, fmt.Errorf("read report %s: it is no report of \"ipam check -o\": %w", name, err)
		}
	}
	return out, nil
}

// unused returns the allocations and handles that all reports call unused, in the same state.
func unused(reports []check.Report) (addrs map[string]*check.Allocation, handles map[string]check.Handle) {
	for i, r := range reports {
		nextAddrs, nextHandles := map[string]*check.Allocation{}, map[string]check.Handle{}
		for ip, list := range r.Allocations {
			for _, a := range list {
				old := addrs[ip]
				if !a.InUse && !a.CoolingDown && (i == 0 || old != nil && same(old, a)) {
					nextAddrs[ip] = a
				}
			}
		}
		for _, h := range r.LeakedHandles {
			if old, ok := handles[h.ID]; i == 0 || ok && old.Revision == h.Revision {
				nextHandles[h.ID] = h
			}
		}
		addrs, handles = nextAddrs, nextHandles
	}
	return addrs, handles
}

// same says whether it is one allocation, not a later one of the same address.
func same(x, y *check.Allocation) bool {
	return x.Handle == y.Handle && (x.SequenceNumber == nil || y.SequenceNumber == nil || *x.SequenceNumber == *y.SequenceNumber)
}
