package fault

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/test/lab"
)

// client is somebody on the agent's socket.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, n *lab.Node) *client {
	t.Helper()
	c, err := net.Dial("unix", n.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, wire.Reader(c)}
}

// say sends text and returns the answer.
func (c *client) say(text string) (*wire.Response, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() { // the agent need not read all before it answers
		_, err := io.WriteString(c, text)
		sent <- err
	}()
	var r wire.Response
	err := wire.Read(c.r, &r)
	return &r, err
}

// TestBadSocketTraffic: nothing that is said on the socket harms the agent or leaks an address.
func TestBadSocketTraffic(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	if info, err := os.Stat(n.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, mode %v, want 0600", err, info.Mode())
	}
	files := n.Agent().Files()
	half := dial(t, n)
	halfSince := time.Now()
	if _, err := io.WriteString(half, `{"op":"assign","containerID":`); err != nil {
		t.Fatal(err)
	}
	const id = `"network":"k8s-pod-network","containerID":"c1","ifName":"eth0","namespace":"default"`
	for _, c := range []struct {
		name, line string
		code       wire.Code
		says       string
	}{
		{"no JSON", "hello\n", wire.Invalid, "invalid character"},
		{"empty line", "\n", wire.Invalid, "EOF"},
		{"cut JSON", `{"op":` + "\n", wire.Invalid, "unexpected EOF"},
		{"array", "[]\n", wire.Invalid, "array"},
		{"null bytes", "\x00\x00\x00\n", wire.Invalid, "invalid character"},
		{"two objects", `{"op":"status"} {}` + "\n", wire.Invalid, "more than one object"},
		{"unknown field", `{"op":"status","color":"red"}` + "\n", wire.Invalid, `"color"`},
		{"wrong type", `{"op":"assign","containerID":7}` + "\n", wire.Invalid, "containerID"},
		{"wrong list", `{"op":"gc","network":"x","valid":{}}` + "\n", wire.Invalid, "valid"},
		{"bad address", `{"op":"check","containerID":"c1","ifName":"eth0","addrs":["1.2.3"]}` + "\n", wire.Invalid, "1.2.3"},
		{"unknown op", `{"op":"reboot"}` + "\n", wire.Invalid, `"reboot"`},
		{"no op", "{}\n", wire.Invalid, "field op"},
		{"no pod", `{"op":"assign",` + id + "}\n", wire.Invalid, "field pod"},
		{"no container", `{"op":"release","ifName":"eth0"}` + "\n", wire.Invalid, "field containerID"},
		{"bad interface", `{"op":"release","containerID":"c1","ifName":"eth0/../../x"}` + "\n", wire.Invalid, "field ifName"},
		{"path as container", `{"op":"assign","network":"n","containerID":"../../etc","ifName":"eth0","namespace":"d","pod":"p"}` + "\n", wire.Invalid, "field containerID"},
		{"gc without network", `{"op":"gc"}` + "\n", wire.Invalid, "field network"},
		{"activate without assign", `{"op":"activate",` + id + `,"pod":"p"}` + "\n", wire.Unknown, "no such endpoint"},
		{"check of nothing", `{"op":"check",` + id + `,"pod":"p"}` + "\n", wire.Unknown, "no such endpoint"},
		{"release of nothing", `{"op":"release",` + id + `,"pod":"p","hostVeth":"eth0"}` + "\n", wire.OK, ""},
		{"oversized line", strings.Repeat("x", wire.MaxLine+10) + "\n", wire.Invalid, "longer than"},
	} {
		r, err := dial(t, n).say(c.line)
		if err != nil {
			t.Errorf("%s: no answer: %v", c.name, err)
			continue
		}
		if r.Code != c.code || !strings.Contains(r.Msg, c.says) {
			t.Errorf("%s: %+v, want code %d and words %q", c.name, r, c.code, c.says)
		}
	}
	// After a malformed line the connection is good for the next one.
	c := dial(t, n)
	if r, err := c.say("hello\n"); err != nil || r.Code != wire.Invalid {
		t.Errorf("malformed: %+v, %v", r, err)
	}
	if r, err := c.say(`{"op":"status"}` + "\n"); err != nil || r.Code != wire.OK {
		t.Errorf("status after it: %+v, %v", r, err)
	}
	hangUp(t, n)
	manyConnections(t, n)
	p := n.Pod("after")
	l.Agrees(30 * time.Second)
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
	// Half a request and silence: the agent hangs up.
	_ = half.SetReadDeadline(halfSince.Add(60 * time.Second))
	_, err := half.Read(make([]byte, 1))
	if err == nil || os.IsTimeout(err) {
		t.Errorf("half a request keeps its connection: %v", err)
	}
	t.Logf("half a request is cut off after %s", time.Since(halfSince).Round(time.Second))
	l.Within(30*time.Second, "the agent has no more files open than before", func() error {
		if now := n.Agent().Files(); now > files+2 { // the API client's may have come
			return fmt.Errorf("%d, before %d", now, files)
		}
		return nil
	})
}

// hangUp takes addresses and hangs up before activate: they come back.
func hangUp(t *testing.T, n *lab.Node) {
	t.Helper()
	for i := range 200 {
		c := dial(t, n)
		r, err := c.say(fmt.Sprintf(`{"op":"assign","network":"k8s-pod-network","containerID":"hang%d","ifName":"eth0","namespace":"default","pod":"hang%d"}`+"\n", i, i))
		if err != nil || r.Code != wire.OK || len(r.Assigned.Addrs) != 2 {
			t.Fatalf("assign %d: %+v, %v", i, r, err) // with a leak the block would be full by now, and another one claimed
		}
		c.Close()
	}
	t.Log("200 assignments were given up")
}

// manyConnections: 600 clients at once are all served; idle ones keep others waiting, but the agent goes on after them.
func manyConnections(t *testing.T, n *lab.Node) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	start := time.Now()
	for range 600 {
		c := dial(t, n)
		all.Go(func() {
			r, err := c.say(`{"op":"status"}` + "\n")
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				mu.Lock()
				failed[err.Error()]++
				mu.Unlock()
			}
			c.Close()
		})
	}
	all.Wait()
	t.Logf("600 connections at once: all answered in %s, failures %v", time.Since(start).Round(time.Millisecond), failed)
	if len(failed) > 0 {
		t.Errorf("of 600 connections at once these failed: %v", failed)
	}
	var idle []*client
	for range 600 {
		idle = append(idle, dial(t, n))
	}
	time.Sleep(100 * time.Millisecond)
	p := n.NewPod("crowded")
	start = time.Now()
	err := p.Add()
	t.Logf("ADD behind 600 idle connections: %v after %s", err, time.Since(start).Round(time.Millisecond))
	for _, c := range idle {
		c.Close()
	}
	if err := p.Remove(); err != nil {
		t.Errorf("DEL after the crowd: %v", err)
	}
	p = n.NewPod("free")
	if err := p.Add(); err != nil {
		t.Errorf("ADD after the crowd: %v", err)
	}
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
}
