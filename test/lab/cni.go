package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/margay-net/margay/pkg/model"
)

// callLimit is how long the runtime waits for a plugin; kubelet has two minutes.
const callLimit = 30 * time.Second

// nsExec runs plugins in a node's namespace.
type nsExec struct {
	ns *NS
	*version.PluginDecoder
}

// ExecPlugin runs a plugin once.
func (e nsExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) (out []byte, err error) {
	raw := &invoke.RawExec{}
	err = e.ns.Do(func() error {
		out, err = raw.ExecPlugin(ctx, path, stdin, environ)
		return err
	})
	return out, err
}

// FindInPath finds a plugin.
func (e nsExec) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// Pod is one sandbox of a pod: a network namespace that ADD may have put an interface into.
type Pod struct {
	Node  *Node
	Name  string // in namespace default
	ID    string // of the sandbox
	UID   string // as the runtime tells it; NewPod makes one that kubelet would not
	NS    *NS
	Addrs []netip.Addr  // after a successful Add: IPv4 first
	Took  time.Duration // of the last call
}

// NewPod makes a sandbox without a network. Its namespace ends with Remove or with the test.
func (n *Node) NewPod(name string) *Pod {
	n.lab.t.Helper()
	ns, err := NewNS()
	if err != nil {
		n.lab.t.Fatal(err)
	}
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	n.lab.next++
	p := &Pod{Node: n, Name: name, ID: fmt.Sprintf("%08x%016x", n.lab.next, time.Now().UnixNano()), NS: ns}
	p.UID = "uid-" + p.ID
	n.lab.t.Cleanup(ns.Close)
	// Descriptors' numbers are used again, this name is not: it is gone when the namespace is.
	link := filepath.Join(n.dir, "netns-"+p.ID)
	if err := os.Symlink(ns.path, link); err != nil {
		n.lab.t.Error(err)
	}
	ns.path, ns.link = link, link
	return p
}

// Pod makes a sandbox and adds it; a failure is fatal.
func (n *Node) Pod(name string) *Pod {
	n.lab.t.Helper()
	p := n.NewPod(name)
	if err := p.Add(); err != nil {
		n.lab.t.Fatalf("%s: add pod %s: %v", n.Name, name, err)
	}
	return p
}

// HostVeth is the name of the host side.
func (p *Pod) HostVeth() string { return model.HostVeth("default", p.Name) }

// Handle is the handle of the pod's addresses.
func (p *Pod) Handle() string { return "k8s-pod-network." + p.ID }

func (p *Pod) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.ID, NetNS: p.NS.Path(), IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", p.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", p.ID}, {"K8S_POD_UID", p.UID},
	}}
}

// conf reads the configuration that the agent has installed.
func (n *Node) conf() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.netDir, []string{".conflist"})
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%s has %d CNI configurations, want 1", filepath.Base(n.netDir), len(files))
	}
	return libcni.ConfListFromFile(files[0])
}

// Conflist is the CNI configuration that the agent has installed, as it is on disk.
func (n *Node) Conflist() (string, error) {
	list, err := n.conf()
	if err != nil {
		return "", err
	}
	return string(list.Bytes), nil
}

// call runs one verb as the runtime does.
func (n *Node) call(f func(ctx context.Context, list *libcni.NetworkConfigList) error) (time.Duration, error) {
	list, err := n.conf()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	start := time.Now()
	err = f(ctx, list)
	return time.Since(start), err
}

// Add is the verb ADD.
func (p *Pod) Add() error { return p.AddWithin(callLimit) }

// AddWithin is Add with a plugin that is killed after a while.
func (p *Pod) AddWithin(limit time.Duration) error {
	p.Node.lab.mu.Lock()
	p.Node.lab.pods[p] = struct{}{}
	p.Node.lab.mu.Unlock()
	var addrs []netip.Addr
	took, err := p.Node.call(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		res, err := p.Node.cni.AddNetworkList(ctx, list, p.runtimeConf())
		if err != nil {
			return err
		}
		r, err := current.NewResultFromResult(res)
		if err != nil {
			return err
		}
		for _, ip := range r.IPs {
			a, ok := netip.AddrFromSlice(ip.Address.IP)
			if !ok {
				return fmt.Errorf("result has address %v", ip.Address)
			}
			addrs = append(addrs, a.Unmap())
		}
		return nil
	})
	p.Took, p.Addrs = took, addrs
	return err
}

// Del is the verb DEL.
func (p *Pod) Del() error {
	took, err := p.Node.call(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return p.Node.cni.DelNetworkList(ctx, list, p.runtimeConf())
	})
	p.Took = took
	if err == nil {
		p.Node.lab.mu.Lock()
		delete(p.Node.lab.pods, p)
		p.Node.lab.mu.Unlock()
	}
	return err
}

// Remove is Del, then the end of the sandbox's namespace.
func (p *Pod) Remove() error {
	err := p.Del()
	p.NS.Close()
	return err
}

// Check is the verb CHECK.
func (p *Pod) Check() error {
	_, err := p.Node.call(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return p.Node.cni.CheckNetworkList(ctx, list, p.runtimeConf())
	})
	return err
}

// Status is the verb STATUS.
func (n *Node) Status() error {
	_, err := n.call(n.cni.GetStatusNetworkList)
	return err
}

// GC is the verb GC: all sandboxes but these are gone.
func (n *Node) GC(valid ...*Pod) error {
	args := &libcni.GCArgs{}
	for _, p := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: p.ID, IfName: "eth0"})
	}
	_, err := n.call(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return n.cni.GCNetworkList(ctx, list, args)
	})
	return err
}

// Code returns the code and the words of a CNI error; 0 when it is none.
func Code(err error) (code uint, text string) {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Code, e.Msg + ": " + e.Details
	}
	return 0, fmt.Sprint(err)
}

// V4 is the pod's IPv4 address.
func (p *Pod) V4() netip.Addr { return p.addr(false) }

// V6 is the pod's IPv6 address.
func (p *Pod) V6() netip.Addr { return p.addr(true) }

func (p *Pod) addr(six bool) netip.Addr {
	for _, a := range p.Addrs {
		if a.Is6() == six {
			return a
		}
	}
	return netip.Addr{}
}
