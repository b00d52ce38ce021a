// Package guest tests what needs a kernel that has IPIP, which not every machine's has: it boots one (see the script
// "run") and runs itself there.
//
//	here:  API server, programs, test binaries  ──►  test/guest/run  ──►  this package's tests, run by root
//	                  ▲                                                        │ nodes are namespaces (package lab)
//	                  └──────────────── 127.0.0.1, by way of QEMU ◄────────────┘
//
// The API server stays here, where it is quick. It neither needs root nor leaves anything behind.
package guest

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/margay-net/margay/test/apiserver"
	"github.com/margay-net/margay/test/lab"
)

// folder is where the guest has what it is given.
const folder = "/guest"

// packages are those of which some tests run in the guest: those of IPIP, and of what older kernels tell of forwarding entries.
var packages = map[string]string{"link": "IPIP|Tunl", "route": "IPIP|Tunl", "neigh": "FromEmptyAndRestart"}

// cluster is what the tests' labs share.
var cluster *lab.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	var code int
	var err error
	switch {
	case testing.Short():
		fmt.Println("SKIPPED under -short: needs a real kernel with IPIP")
	case os.Getenv("MARGAY_GUEST") == "":
		code, err = outside()
	default:
		if cluster, err = lab.Attach(folder, forward); err == nil {
			code = m.Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	os.Exit(code)
}

// outside runs this program in a guest and returns its status there.
func outside() (code int, err error) {
	c, err := lab.Start()
	if err != nil {
		return 0, fmt.Errorf("start cluster: %w", err)
	}
	defer c.Stop()
	root, err := os.MkdirTemp("", "margay-guest-files-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(root)
	if err := fill(filepath.Join(root, folder), c); err != nil {
		return 0, err
	}
	args := []string{"-d", root, "-t", "540", "env", "MARGAY_GUEST=1", "MARGAY_REQUIRE_ROOT=1", folder + "/guest.test"}
	for _, arg := range os.Args[1:] {
		if !strings.Contains(arg, "/") { // files of "go test"
			args = append(args, arg)
		}
	}
	cmd := exec.Command("./run", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// fill puts into a folder what is wanted in the guest.
func fill(dir string, c *lab.Cluster) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	top, err := apiserver.Root()
	if err != nil {
		return err
	}
	for p := range packages {
		build := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, p+".test"), "./pkg/dataplane/"+p)
		build.Dir, build.Env = top, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build tests of %s: %w: %s", p, err, out)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "guest.test"), self, 0o755); err != nil {
		return err
	}
	return c.Handover(dir)
}

// forward has a port of the guest's loopback lead to that of the machine outside.
func forward(port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go pass(in, fmt.Sprintf("10.0.2.2:%d", port))
		}
	}()
	return nil
}

// pass connects a connection to an address, until either side ends.
func pass(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
}
