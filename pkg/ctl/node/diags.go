package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/archive"
	"github.com/margay-net/margay/pkg/status"
)

func diagsCommand() *cobra.Command {
	var logs, dir string
	cmd := &cobra.Command{
		Use:   "diags",
		Short: "Write an archive of what helps to find a fault on this node",
		Long: "Collects the agent's state and logs, devices, addresses, routes, neighbours, packet filters and settings into one archive.\n" +
			"Kubeconfig files and keys are left out, and values of fields that look like a secret are blanked.",
		Args: cobra.NoArgs,
	}
	socket := SocketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := NeedRoot(); err != nil {
			return err
		}
		d := &diagnosis{socket: *socket, logs: []string{logs, "/var/log/pods"}, journal: "/var/run/margay/ipam/journal", net: "/etc/cni/net.d", out: cmd.OutOrStdout()}
		return d.collect(cmd.Context(), dir)
	}
	cmd.Flags().StringVar(&logs, "log-dir", "/var/log/calico", "Folder of logs beside those of pods.")
	cmd.Flags().StringVar(&dir, "dir", os.TempDir(), "Folder to write the archive to.")
	return cmd
}

// commands are run for what they print; one that is not installed is noted as such.
var commands = []struct{ what, line, file string }{
	{"", "date", "date"},
	{"", "uname -a", "uname"},
	{"Dumping devices", "ip -d -s link", "link"},
	{"Dumping addresses", "ip addr", "addr"},
	{"Dumping routes (IPv4)", "ip -4 route show table all", "ipv4_route"},
	{"Dumping routes (IPv6)", "ip -6 route show table all", "ipv6_route"},
	{"Dumping rules", "ip rule", "rule"},
	{"Dumping neighbours", "ip neigh", "neigh"},
	{"Dumping forwarding entries", "bridge fdb", "fdb"},
	{"Dumping nftables", "nft -n -a list ruleset", "nft_ruleset"},
	{"Dumping iptables (IPv4)", "iptables-save -c", "ipv4_tables"},
	{"Dumping iptables (IPv6)", "ip6tables-save -c", "ipv6_tables"},
	{"Dumping ipsets", "ipset list", "ipsets"},
	{"Dumping sockets", "ss -a -n", "ss"},
	{"Dumping settings", "sysctl -a -r ^net\\.(ipv4|ipv6)\\.(conf|ip_forward|neigh)", "sysctl"},
}

// maxFile is how much of each file is taken: its end.
const maxFile = 8 << 20

// diagnosis collects.
type diagnosis struct {
	socket  string
	logs    []string // folders
	journal string
	net     string // folder of CNI configurations
	out     io.Writer
	tar     *archive.Archive
}

// say tells how far it is; that nobody can be told is no reason not to go on.
func (d *diagnosis) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) }

// collect writes the archive to a folder. What cannot be had is noted inside, and stops nothing.
func (d *diagnosis) collect(ctx context.Context, dir string) error {
	d.say("Collecting diagnostics")
	name := filepath.Join(dir, "margay-diags-"+time.Now().UTC().Format("20060102_150405")+".tar.gz")
	var err error
	if d.tar, err = archive.Create(name); err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	d.agent(ctx)
	for _, c := range commands {
		if c.what != "" {
			d.say("%s", c.what)
		}
		d.tar.Add(c.file, d.run(ctx, c.line))
	}
	d.say("Copying logs")
	for _, folder := range d.logs {
		d.files(folder, "logs")
	}
	d.files(d.net, "cni")
	d.tar.Add("journal_stats", journalStats(d.journal))
	if err := d.tar.Close(); err != nil {
		return fmt.Errorf("write archive %s: %w", name, err)
	}
	d.say("\nDiags saved to %s", name)
	return nil
}

// agent asks the agent, and its metrics.
func (d *diagnosis) agent(ctx context.Context) {
	st, err := status.Ask(ctx, d.socket)
	d.tar.Add("status.json", asJSON(st, err))
	routes, err := status.AskRoutes(ctx, d.socket)
	d.tar.Add("routes.json", asJSON(routes, err))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:9091/metrics", nil)
	if err != nil {
		return
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		d.tar.Add("metrics", archive.Note(err))
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	d.tar.Add("metrics", append(b, archive.Note(err)...))
}

func asJSON(v any, err error) []byte {
	if err != nil {
		return archive.Note(err)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, archive.Note(err)...)
}

func (d *diagnosis) run(ctx context.Context, line string) []byte {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := strings.Fields(line)
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return append(out, archive.Note(err)...)
}

// files takes the files of a folder and of those below it: of pods' logs our own alone, and nothing that holds a secret.
func (d *diagnosis) files(folder, as string) {
	err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(folder, path)
		if folder == "/var/log/pods" && rel != "." && !ours(rel) {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if e.IsDir() || archive.Secret(path) {
			return nil
		}
		b, err := tail(path)
		d.tar.Add(filepath.Join(as, rel), append(b, archive.Note(err)...))
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.tar.Add(as+"_"+filepath.Base(folder), archive.Note(err))
	}
}

// ours says whether a path below /var/log/pods is of our own pods: NAMESPACE_POD_UID/CONTAINER/N.log.
func ours(rel string) bool {
	pod := strings.Split(filepath.ToSlash(rel), "/")[0]
	return strings.Contains(pod, "_margay-") || strings.Contains(pod, "_calico-")
}

// tail returns the end of a file.
func tail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	if info.Size() > maxFile {
		if _, err := f.Seek(-maxFile, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
