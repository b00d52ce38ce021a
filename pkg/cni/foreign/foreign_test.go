package foreign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// other is IPAM with one pod; the server's tests have the real one.
type other struct {
	ep   model.Endpoint
	kept map[netip.Addr]bool
}

func (o *other) Keep(ep model.Endpoint) {
	for _, a := range ep.Addrs {
		o.kept[a] = true
	}
}

func (o *other) Unkeep(ep model.Endpoint) {
	for _, a := range ep.Addrs {
		delete(o.kept, a)
	}
}

func (o *other) Assign(context.Context, ipam.Request) (model.Endpoint, error) { return o.ep, nil }
func (o *other) Activate(key string) error {
	if key != o.ep.Key() {
		return ipam.ErrUnknown
	}
	return nil
}

func (o *other) Release(key string) ipam.Released {
	return ipam.Released{Endpoint: o.ep, Found: key == o.ep.Key()}
}
func (o *other) Lookup(key string) (model.Endpoint, bool) { return o.ep, key == o.ep.Key() }
func (o *other) Endpoints() []model.Endpoint              { return []model.Endpoint{o.ep} }

func endpoint(id string, addrs ...string) model.Endpoint {
	ep := model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "default", Pod: "pod-" + id, HostVeth: "cali" + id}
	for _, a := range addrs {
		ep.Addrs = append(ep.Addrs, netip.MustParseAddr(a))
	}
	return ep
}

// book opens a folder as an agent of this boot does; told gets what it says of endpoints.
func book(t *testing.T, dir, boot string, told *[]string) *Book {
	t.Helper()
	of := &other{endpoint("ipam", "10.1.0.1"), map[netip.Addr]bool{}}
	b, err := Open(of, dir, boot, func(ep model.Endpoint, foreign bool) {
		*told = append(*told, ep.ContainerID)
		if foreign != (ep.ContainerID != "ipam") {
			t.Errorf("%s is foreign: %t", ep.ContainerID, foreign)
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ids(b *Book) (out []string) {
	for _, ep := range b.Endpoints() {
		out = append(out, ep.ContainerID)
	}
	slices.Sort(out)
	return out
}

func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range list {
		out = append(out, f.Name())
	}
	return out
}

func TestLife(t *testing.T) {
	var told []string
	dir := filepath.Join(t.TempDir(), "foreign")
	b := book(t, dir, "1", &told)
	c1 := endpoint("c1", "192.168.7.7", "fd00:7::7")
	if _, err := b.Take(c1); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.Lookup(c1.Key()); !ok || got.Pod != "pod-c1" || fmt.Sprint(ids(b)) != "[ipam]" {
		t.Errorf("before it is active: %v, %t, %v", got, ok, ids(b))
	}
	for name, c := range map[string]struct {
		ep   model.Endpoint
		want error
	}{
		"again":            {c1, ipam.ErrBusy},
		"IPAM's":           {endpoint("ipam"), ipam.ErrExists},
		"the same address": {endpoint("c2", "fd00:7::7"), ipam.ErrInUse},
		"that of another":  {endpoint("c2", "10.1.0.1"), ipam.ErrInUse},
	} {
		if _, err := b.Take(c.ep); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := errors.Join(b.Activate(c1.Key()), b.Activate("ipam/eth0")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Take(c1); !errors.Is(err, ipam.ErrExists) {
		t.Errorf("active and taken again: %v", err)
	}
	if b.Activate("c9/eth0") == nil {
		t.Error("an unknown one was activated")
	}

	b = book(t, dir, "1", &told) // a restart
	got, ok := b.Lookup(c1.Key())
	if !ok || fmt.Sprint(got) != fmt.Sprint(c1) || fmt.Sprint(ids(b)) != "[c1 ipam]" {
		t.Errorf("after a restart: %v, %v", got, ids(b))
	}
	if r := b.Release(c1.Key()); !r.Found || r.Pod != "pod-c1" || len(files(t, dir)) != 0 {
		t.Errorf("release: %+v, files %v", r, files(t, dir))
	}
	if r := b.Release(c1.Key()); r.Found {
		t.Error("released twice")
	}
	if r := b.Release("ipam/eth0"); !r.Found {
		t.Error("IPAM's is not released")
	}
	if _, err := b.Take(endpoint("c2", "192.168.7.7")); err != nil {
		t.Errorf("a free address: %v", err)
	}
	if fmt.Sprint(told) != "[c1 ipam c1 ipam]" {
		t.Errorf("told of %v", told)
	}
}

// TestInPools: what lies in a pool is kept from IPAM's other pods while its own is there, also after a restart, and is told.
func TestInPools(t *testing.T) {
	var told []string
	dir, addr := t.TempDir(), netip.MustParseAddr("10.1.0.9")
	pools := []model.Pool{{Name: "one", CIDR: netip.MustParsePrefix("10.1.0.0/24")}}
	b := book(t, dir, "1", &told)
	if _, err := b.Take(endpoint("c1", "10.1.0.9", "fd00:7::7")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if kept := b.IPAM.(*other).kept; !kept[addr] || len(kept) != 2 {
			t.Errorf("kept %v", kept)
		}
		want := "[pod default/pod-c1 brought address 10.1.0.9 along (annotation ipAddrsNoIpam), which lies in IPPool one: another node may give it to another pod; make an IPReservation for it, or use annotation ipAddrs]"
		if got := fmt.Sprint(b.InPools(pools)); got != want {
			t.Error(got)
		}
		b = book(t, dir, "1", &told) // a restart
	}
	b.Release("c1/eth0")
	if kept := b.IPAM.(*other).kept; len(kept)+len(b.InPools(pools)) != 0 {
		t.Errorf("released: kept %v, told %v", kept, b.InPools(pools))
	}
}

func TestOpen(t *testing.T) {
	var told []string
	dir := t.TempDir()
	b := book(t, dir, "1", &told)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := b.Take(endpoint(id, "192.168.7."+fmt.Sprint(id[0]))); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "a+eth0.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{"b+eth0.json": string(text[:20]), "c+eth0.json": string(text), "d+eth0.json.new": "half", "note": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b = book(t, dir, "1", &told)
	if _, ok := b.Lookup("a/eth0"); !ok {
		t.Error("a is lost")
	}
	if got := fmt.Sprint(files(t, dir)); got != "[a+eth0.json b+eth0.json.damaged c+eth0.json.damaged d+eth0.json.new note]" {
		t.Errorf("files %s", got)
	}
	book(t, dir, "2", &told) // another boot
	if got := fmt.Sprint(files(t, dir)); got != "[b+eth0.json.damaged c+eth0.json.damaged d+eth0.json.new note]" {
		t.Errorf("after a reboot: files %s", got)
	}
}

// A folder that cannot be written to: ADD fails, and nothing is held.
func TestDiskFull(t *testing.T) {
	var told []string
	b := book(t, "/proc/foreign", "1", &told)
	if _, err := b.Take(endpoint("c1", "192.168.7.7")); err == nil {
		t.Fatal("taken")
	}
	if _, ok := b.Lookup("c1/eth0"); ok {
		t.Error("held")
	}
}

func TestAudit(t *testing.T) {
	var told []string
	dir := t.TempDir()
	b := book(t, dir, "1", &told)
	for _, id := range []string{"stays", "goes", "blinks"} {
		if _, err := b.Take(endpoint(id, "192.168.7."+fmt.Sprint(id[0]))); err != nil {
			t.Fatal(err)
		}
	}
	for look, want := range []string{"[]", "[goes]", "[]"} {
		ended := []string{}
		for _, ep := range b.Audit(func(dev string) bool { return dev == "calistays" || dev == "caliblinks" && look != 0 }) {
			ended = append(ended, ep.ContainerID)
		}
		if fmt.Sprint(ended) != want {
			t.Errorf("look %d: ended %v, want %s", look, ended, want)
		}
	}
	if got := fmt.Sprint(files(t, dir)); got != "[blinks+eth0.json stays+eth0.json]" {
		t.Errorf("files %s", got)
	}
}
