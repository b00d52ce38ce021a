package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/test/lab"
)

// agentPID finds a node's agent: a process whose environment has the node's socket.
func agentPID(t *testing.T, n *lab.Node) int {
	t.Helper()
	mark := []byte("MARGAY_CNI_SOCKET=" + n.Socket)
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, mark) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			return pid
		}
	}
	t.Fatalf("%s: no agent runs", n.Name)
	return 0
}

// cpuTime is the CPU time that a process has used, by its own clock (clock_getcpuclockid(3)), to the nanosecond, and that
// of its children that have ended, to the hundredth of a second.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	const sched = 2 // CPUCLOCK_SCHED in the kernel's posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		t.Fatalf("read CPU clock of process %d: %v", pid, err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	sum := time.Duration(ts.Nano())
	for _, f := range strings.Fields(after)[13:15] { // cutime, cstime: see proc_pid_stat(5)
		ticks, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("read CPU time of process %d: %v", pid, err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}

// memory is a process's resident and, of that, anonymous memory in MB.
func memory(t *testing.T, pid int) (rss, anon float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) float64 {
		_, after, _ := strings.Cut(string(b), name+":")
		kb, err := strconv.Atoi(strings.Fields(after)[0])
		if err != nil {
			t.Fatalf("read %s of process %d: %v", name, pid, err)
		}
		return float64(kb) * 1024 / 1e6
	}
	return field("VmRSS"), field("RssAnon")
}

// daemon runs a program in a namespace until stop or the end of the test; the kernel kills it when this program ends.
// Its words are shown when it fails before that, and when the test does.
func daemon(t *testing.T, ns *lab.NS, env []string, args ...string) (pid int, stop func()) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"PATH=" + os.Getenv("PATH")}, env...), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended, stopping := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		// The signal comes when the thread ends that started the child, so that thread stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := ns.Do(cmd.Start)
		started <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err == nil {
			return
		}
		select {
		case <-stopping:
		default:
			fmt.Fprintf(os.Stderr, "%s ended: %s\n%s", args[0], cmd.ProcessState, out.String())
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", args[0], err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			close(stopping)
			_ = cmd.Process.Kill() // it may have ended
			<-ended
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], out.String())
		}
	})
	return cmd.Process.Pid, stop
}

// eventually waits until ok, looking often at first, and returns the time it took.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		took := time.Since(begin)
		if took > d {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(min(took/50+200*time.Microsecond, 20*time.Millisecond))
	}
	return time.Since(begin)
}
