package node

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// feature is something that the kernel has to be able to do, or should be.
type feature struct {
	name string
	need string // what goes without it, "" for nothing
	try  func() error
}

func checksystemCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checksystem",
		Short: "Try whether this node's kernel can do what the agent needs",
		Long: "Tries each feature in a network namespace of its own, which is gone afterwards: no list of modules, no kernel configuration\n" +
			"file. Those marked WARNING are needed by some settings alone.",
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := NeedRoot(); err != nil {
			return err
		}
		return checkSystem(cmd.OutOrStdout(), features())
	}
	return cmd
}

func checkSystem(out io.Writer, list []feature) error {
	p := func(format string, args ...any) error { _, err := fmt.Fprintf(out, format, args...); return err }
	result := func(what, verdict string) error { return p("\t\t%-20s\t\t\t\t\t%s\n", what, verdict) }
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	failed := 0
	verdict := "OK"
	if old(release) {
		verdict, failed = "FAIL (want 4.19 or later)", 1
	}
	err := errors.Join(p("Checking kernel version...\n"), result(release, verdict), p("Checking kernel features...\n"))
	for _, f := range list {
		switch missing := inNamespace(f.try); {
		case missing == nil:
			err = errors.Join(err, result(f.name, "OK"))
		case f.need != "":
			err = errors.Join(err, result(f.name, "WARNING ("+f.need+" needs it: "+missing.Error()+")"))
		default:
			failed++
			err = errors.Join(err, result(f.name, "FAIL ("+missing.Error()+")"))
		}
	}
	if err != nil {
		return err
	}
	if failed > 0 {
		return errors.New("system doesn't meet one or more minimum systems requirements to run Calico")
	}
	return p("System meets minimum system requirements to run Calico!\n")
}

// old says whether a kernel is older than 4.19, the oldest with all of nftables that is needed.
func old(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major < 4 || major == 4 && minor < 19)
}

// inNamespace calls f on a thread in a network namespace of its own.
func inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with it
		ns, err := netns.New()
		if err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		defer ns.Close()
		done <- f()
	}()
	return <-done
}
