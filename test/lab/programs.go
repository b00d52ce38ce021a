package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/margay-net/margay/test/apiserver"
)

// Programs are an agent and a plugin of one version.
type Programs struct {
	Version string // for people to read
	dir     string // with margay-agent and plugins/margay
}

// Agent is the agent's path.
func (p *Programs) Agent() string { return filepath.Join(p.dir, "margay-agent") }

// Plugin is the plugin's path, in a folder that has nothing else.
func (p *Programs) Plugin() string { return filepath.Join(p.dir, "plugins", "margay") }

// compile builds both from a source tree.
func (p *Programs) compile(source string, race bool, flags ...string) error {
	for to, pkg := range map[string]string{p.Agent(): "./cmd/margay-agent", p.Plugin(): "./cmd/margay"} {
		args, cgo := append([]string{"build", "-trimpath", "-o", to}, flags...), "CGO_ENABLED=0"
		if race && to == p.Agent() {
			args, cgo = append(args, "-race"), "CGO_ENABLED=1"
		}
		cmd := exec.Command("go", append(args, pkg)...)
		cmd.Dir, cmd.Env = source, append(os.Environ(), cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	return nil
}

// ErrNoHistory means that this checkout does not have the commit that was asked for.
var ErrNoHistory = errors.New("this checkout has no such commit")

// Old builds the programs of an earlier commit or tag from the checkout's history.
func (c *Cluster) Old(ref string) (*Programs, error) {
	root, err := apiserver.Root()
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", ref+"^{commit}").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrNoHistory, ref, bytes.TrimSpace(out))
	}
	p := &Programs{Version: ref, dir: filepath.Join(c.dir, "old-"+ref)}
	if _, err := os.Stat(p.Agent()); err == nil {
		return p, nil // built before
	}
	source := filepath.Join(p.dir, "source")
	if err := os.MkdirAll(source, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(source)
	tree, err := exec.Command("git", "-C", root, "archive", ref).Output()
	if err != nil {
		return nil, fmt.Errorf("get source of %s: %w", ref, err)
	}
	untar := exec.Command("tar", "-x", "-C", source)
	untar.Stdin = bytes.NewReader(tree)
	if out, err := untar.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpack source of %s: %w: %s", ref, err, out)
	}
	return p, p.compile(source, false)
}

// Next builds the programs under test as a version of another name: an upgrade that changes nothing else.
func (c *Cluster) Next(version string) (*Programs, error) {
	root, err := apiserver.Root()
	if err != nil {
		return nil, err
	}
	p := &Programs{Version: version, dir: filepath.Join(c.dir, version)}
	return p, p.compile(root, false, "-ldflags", "-X github.com/margay-net/margay/pkg/agent.Version="+version)
}

// Install puts a plugin, and the configuration that has kubelet call it, where the node's agent would, until an agent starts.
func (n *Node) Install(p *Programs) error {
	b, err := os.ReadFile(p.Plugin())
	if err != nil {
		return err
	}
	to := filepath.Join(n.binDir, "margay")
	if err := os.WriteFile(to+".new", b, 0o755); err != nil {
		return err
	}
	if err := os.Rename(to+".new", to); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.netDir, "10-margay.conflist"), []byte(n.conflist()), 0o600)
}
