package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is an agent that runs, or ran.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; to be read after done
}

// Start starts the node's agent. It does not wait for anything.
func (n *Node) Start() { n.agent = n.Spawn(nil) }

// Spawn starts an agent beside the one that Start started, with these variables above the node's own. It ends with the
// test.
func (n *Node) Spawn(env map[string]string) *Process {
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		n.lab.t.Error(err)
		return nil
	}
	cmd := exec.Command(n.Programs.Agent())
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = n.lab.env(n), log, log, n.dir
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	p, err := n.lab.start(n.NS, cmd, log)
	if err != nil {
		n.lab.t.Errorf("%s: start agent: %v", n.Name, err)
	}
	return p
}

// RunRouter starts a program in the fabric's namespace: a router beside the kernel's own routing, such as BIRD. What it
// prints goes to a file; it ends with the test.
func (l *Lab) RunRouter(output string, args ...string) (*Process, error) {
	return l.RunIn(l.Fabric, output, args...)
}

// RunIn is RunRouter in another namespace, such as a pod's.
func (l *Lab) RunIn(ns *NS, output string, args ...string) (*Process, error) {
	out, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	return l.start(ns, cmd, out)
}

// start starts a program in a namespace. The kernel kills it when this one ends.
func (l *Lab) start(ns *NS, cmd *exec.Cmd, output io.Closer) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that started the child, so that thread stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer output.Close()
		err := ns.Do(cmd.Start)
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	l.t.Cleanup(p.Kill)
	return p, <-started
}

// Kill kills the process and waits for its end.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Stop asks the process to end, as kubelet does, and waits.
func (p *Process) Stop() { p.signal(syscall.SIGTERM) }

func (p *Process) signal(s os.Signal) {
	if p != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s)
		<-p.done
	}
}

// Files is how many files and sockets the process has open.
func (p *Process) Files() int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(files)
}

// Ended reports whether the process has ended by itself or otherwise.
func (p *Process) Ended() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

// Kill kills the node's agent, as a crash or the kernel's OOM killer would.
func (n *Node) Kill() { n.agent.Kill() }

// Stop ends the node's agent by SIGTERM.
func (n *Node) Stop() { n.agent.Stop() }

// Agent is the node's agent.
func (n *Node) Agent() *Process { return n.agent }

func (n *Node) log() string { return filepath.Join(n.dir, "agent.log") }

// Log is what the node's agents have written.
func (n *Node) Log() string {
	b, err := os.ReadFile(n.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LastLog is the end of Log.
func (n *Node) LastLog(lines int) string {
	all := strings.Split(strings.TrimSpace(n.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Probe asks the agent as kubelet does: path is readiness or liveness. The error has the agent's words.
func (n *Node) Probe(path string) error {
	_, err := n.get("http://localhost:9099/"+path, 204)
	return err
}

// Metrics returns the agent's metrics in text form.
func (n *Node) Metrics() (string, error) { return n.get("http://localhost:9091/metrics", 200) }

func (n *Node) get(url string, want int) (string, error) {
	resp, err := n.http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return string(b), err
}

// WaitReady waits until the agent says that pods can be added. It returns the time it took.
func (n *Node) WaitReady(d time.Duration) time.Duration {
	n.lab.t.Helper()
	return n.lab.Within(d, n.Name+" is ready", func() error {
		if ended, err := n.agent.Ended(); ended {
			n.lab.t.Fatalf("%s: agent ended: %v", n.Name, err)
		}
		return n.Probe("readiness")
	})
}
