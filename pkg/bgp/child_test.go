package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// A speaker under test is a process of its own, in a namespace of its own, so that it can be killed: this test program,
// run again with childEnv set. It reads commands from its standard input, one a line, and answers each with a line.
const childEnv = "MARGAY_TEST_SPEAKER"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
	case "mesh":
		meshChild()
		return
	default:
		child()
		return
	}
	_ = flag.Set("test.parallel", "6") // the tests mostly wait
	os.Exit(m.Run())
}

// view is what a speaker says of itself.
type view struct {
	Paths  []Path
	Peers  []PeerState
	Synced bool
}

func child() {
	ctx, cancel := context.WithCancel(context.Background())
	s := New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Fresh: os.Getenv(childEnv) == "fresh"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "run:", err)
		}
	}()
	go func() {
		for range s.Changed() { // as the agent does
		}
	}()
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			os.Exit(0)
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "set":
			var c Config
			if err := json.Unmarshal([]byte(rest), &c); err != nil {
				fmt.Fprintln(os.Stderr, "set:", err)
				os.Exit(1)
			}
			s.Set(c)
			_ = out.Encode(view{})
		case "get":
			_ = out.Encode(view{Paths: s.Paths(), Peers: s.Peers(ctx), Synced: s.Synced()})
		case "end":
			cancel()
			<-done
			os.Exit(0)
		case "stop":
			cancel()
			<-done
			s.Stop(context.Background())
			time.Sleep(200 * time.Millisecond)
			os.Exit(0)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss() int { return statusKB("/proc/self/status", "VmRSS:") }

func statusKB(path, field string) (kb int) {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field); ok {
			_, _ = fmt.Sscan(v, &kb)
		}
	}
	return kb
}

// process is a running speaker.
type process struct {
	tb  testing.TB
	cmd *exec.Cmd
	mu  sync.Mutex
	in  io.WriteCloser
	out *json.Decoder
	log *os.File
}

// speaker starts one in a namespace; nil: in the test's own.
func speaker(tb testing.TB, ns *nstest.NS, c Config, env ...string) *process {
	tb.Helper()
	p := &process{tb: tb}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = append(append(os.Environ(), childEnv+"=1"), env...)
	in, err := p.cmd.StdinPipe()
	must(tb, err)
	out, err := p.cmd.StdoutPipe()
	must(tb, err)
	p.in, p.out = in, json.NewDecoder(out)
	p.log, err = os.CreateTemp(tb.TempDir(), "log")
	must(tb, err)
	p.cmd.Stderr = p.log
	startIn(tb, ns, p.cmd)
	tb.Cleanup(func() {
		p.kill()
		b, _ := os.ReadFile(p.log.Name())
		if strings.Contains(string(b), "DATA RACE") || strings.Contains(string(b), "panic:") {
			tb.Error("the speaker is broken")
		}
		if tb.Failed() && len(b) > 0 {
			tb.Logf("speaker's log:\n%s", b)
		}
		p.log.Close()
	})
	p.set(c)
	return p
}

func startIn(tb testing.TB, ns *nstest.NS, cmd *exec.Cmd) {
	tb.Helper()
	start := cmd.Start
	if ns != nil {
		start = func() error { return ns.Conn(tb).Do(cmd.Start) }
	}
	must(tb, start())
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// tell has the process end by itself, by "end" or "stop".
func (p *process) tell(how string) {
	fmt.Fprintln(p.in, how)
	_ = p.cmd.Wait()
}

func (p *process) ask(line string) (v view) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintln(p.in, line)
	if err == nil {
		err = p.out.Decode(&v)
	}
	if err != nil {
		p.tb.Fatalf("ask speaker: %v", err)
	}
	return v
}

func (p *process) set(c Config) {
	p.tb.Helper()
	b, err := json.Marshal(c)
	must(p.tb, err)
	p.ask("set " + string(b))
}

func (p *process) get() view { return p.ask("get") }

// peer returns a session's state.
func (p *process) peer(addr string) PeerState {
	p.tb.Helper()
	for _, s := range p.get().Peers {
		if s.Address == netip.MustParseAddr(addr) {
			return s
		}
	}
	return PeerState{}
}

// sessions waits until all sessions are up, and returns since when each is.
func (p *process) sessions() string {
	p.tb.Helper()
	var out string
	within(p.tb, "all sessions up", func() bool {
		out = ""
		for _, s := range p.get().Peers {
			if s.State != Established {
				return false
			}
			out += fmt.Sprintln(s.Address, s.Since)
		}
		return true
	})
	return out
}

// routes returns what was learned, as lines "prefix via next hop", each once.
func (p *process) routes() string {
	p.tb.Helper()
	var lines []string
	for _, x := range p.get().Paths {
		line := x.Prefix.String() + " via " + x.NextHop.String()
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// path returns the first path to a prefix.
func (p *process) path(prefix string) Path {
	p.tb.Helper()
	for _, x := range p.get().Paths {
		if x.Prefix.String() == prefix {
			return x
		}
	}
	return Path{}
}
