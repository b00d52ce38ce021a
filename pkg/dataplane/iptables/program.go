package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	ipt "github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/netlink"
)

// lockWait is how long iptables waits for the lock that all its users share, in seconds.
const lockWait = 5

// kind is one of the four iptables.
type kind struct{ legacy, six bool }

// kinds are all of them.
var kinds = [...]kind{{}, {six: true}, {legacy: true}, {legacy: true, six: true}}

func (k kind) String() string {
	if k.legacy {
		return k.base() + "-legacy"
	}
	return k.base() + "-nft"
}

// base is the program's name without its backend.
func (k kind) base() string {
	if k.six {
		return "ip6tables"
	}
	return "iptables"
}

func (k kind) family() byte {
	if k.six {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// program is what speaks one kind.
type program struct {
	kind
	*ipt.IPTables
	conn *netlink.Conn
	path string // without the ending of its siblings, such as -restore
}

// errMissing means that there is no program of that kind.
var errMissing = errors.New("no program")

// find looks for the program of a kind: by its own name, or the plain one if that is of this kind.
func find(c *netlink.Conn, k kind) (*program, error) {
	for _, name := range []string{k.String(), k.base()} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, err := exec.Command(path, "--version").Output(); err != nil || name == k.base() && strings.Contains(string(out), "nf_tables") == k.legacy {
			continue
		}
		protocol := ipt.ProtocolIPv4
		if k.six {
			protocol = ipt.ProtocolIPv6
		}
		p := &program{kind: k, conn: c, path: path}
		if p.IPTables, err = ipt.New(ipt.IPFamily(protocol), ipt.Path(path), ipt.Timeout(lockWait)); err != nil {
			return nil, fmt.Errorf("ask %s for its version: %w", path, err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%w %s", errMissing, k)
}

// chain lists a chain, which is nothing when there is none.
func (p *program) chain(table, chain string) (lines []string, err error) {
	err = p.conn.Do(func() (err error) {
		lines, err = p.List(table, chain)
		return err
	})
	var failed *ipt.Error
	if errors.As(err, &failed) && failed.ExitStatus() == 1 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list chain %s: %w", chain, err)
	}
	return lines, nil
}

// save lists everything.
func (p *program) save() ([]byte, error) { return p.run("", p.path+"-save") }

// restore carries out a script, the whole of it or nothing.
func (p *program) restore(script string) error {
	_, err := p.run(script, p.path+"-restore", "--noflush", "--wait", fmt.Sprint(lockWait))
	return err
}

// runLimit ends a program that hangs. It is longer than any waits for the lock.
const runLimit = 30 * time.Second

func (p *program) run(input, name string, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := p.conn.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
		defer limit.Stop()
		return cmd.Wait()
	})
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// host is what is known of a node's tables without executing anything.
type host struct {
	conn   *netlink.Conn
	legacy [2]map[string]bool // tables of IPv4 and IPv6
}

// has tells whether it can be that a kind has a chain; of legacy ones only tables are known.
func (h host) has(k kind, table, chain string) (bool, error) {
	if !k.legacy {
		return nft.HasChain(h.conn, k.family(), table, chain)
	}
	if k.six {
		return h.legacy[1][table], nil
	}
	return h.legacy[0][table], nil
}

// look lists a section of a kind. The hook's rules are only listed when there are chains of ours that they may lead to, or
// when it matters what others have there: with many rules of others in the table, listing is dear.
func (p *program) look(h host, s section, others bool) (out listing, err error) {
	list := func(chain string) ([]string, error) {
		if there, err := h.has(p.kind, s.table, chain); err != nil || !there {
			return nil, err
		}
		return p.chain(s.table, chain)
	}
	for _, chain := range s.chains {
		lines, err := list(chain)
		if err != nil {
			return out, err
		}
		out.chains = append(out.chains, lines)
		others = others || len(lines) > 0
	}
	if others {
		out.hook, err = list(s.hook)
	}
	return out, err
}
