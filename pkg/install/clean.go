package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/margay-net/margay/pkg/netlink"
)

// Cleaner takes away from the node what the agent and its Installer put there.
type Cleaner struct {
	Config
	Socket  string // of the CNI server
	Spool   string // folder of releases that wait for an agent
	Journal string // folder of the journal
	Conn    *netlink.Conn
	Steps   []Step        // what other packages clean
	Force   bool          // also interfaces of pods that live, and what they need
	Wait    time.Duration // for the end of an agent that still runs
	Out     io.Writer     // a line for each thing that was done

	again time.Duration // 0: defaultAgain
	said  int           // lines
	told  int           // pods that were said to be left
}

// Step is the clean-up of one subsystem. Do returns when nothing of it is left; it may be called again.
type Step struct {
	What string // such as "nftables table margay"
	Do   func(context.Context) error
}

// ErrRunning means that an agent of this node holds the journal.
var ErrRunning = errors.New("margay-agent still runs on this node: delete its DaemonSet first")

// defaultAgain is how often Command looks whether the last pods have gone.
const defaultAgain = 10 * time.Second

// Command is "margay-agent cleanup": it cleans as args say (--force, --stay) and returns when it has; with --stay it goes
// on until the last pod's interface is gone, and then until ctx ends, which is what a DaemonSet wants.
func Command(ctx context.Context, args []string, c *Cleaner) error {
	stay := false
	for _, a := range args {
		switch a {
		case "--force":
			c.Force = true
		case "--stay":
			stay = true
		default:
			return fmt.Errorf("clean up: unknown argument %q: want --force or --stay", a)
		}
	}
	pods, err := c.Clean(ctx)
	if !stay {
		return err
	}
	for err == nil && pods > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(cmp.Or(c.again, defaultAgain)):
			pods, err = c.finish(ctx)
		}
	}
	if err == nil && pods == 0 {
		c.say("done; this stays until it is stopped")
		<-ctx.Done()
	}
	return err
}

// Clean removes everything and returns how many pods' interfaces are left: with them stays what they need, see the
// package's doc. It may be called again. What fails does not keep it from the rest.
func (c *Cleaner) Clean(ctx context.Context) (pods int, err error) {
	unlock, err := c.lock(ctx, c.Wait)
	if err != nil {
		return 0, err
	}
	defer unlock()
	calico := c.calico() // before its configuration is put back: then nothing of it runs
	// The kernel first: a pass that is cut short between must not take a configuration that it put back for one in use.
	errs := []error{c.kernel(calico), c.conflist()}
	for _, s := range c.Steps {
		if err := s.Do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", s.What, err))
			continue
		}
		_, _ = fmt.Fprintf(c.Out, "no %s is left\n", s.What)
	}
	pods, err = c.rest(ctx, calico)
	if c.said == 0 {
		c.say("nothing is left to remove")
	}
	return pods, errors.Join(append(errs, err)...)
}

// finish removes what had to stay for pods, once these are gone.
func (c *Cleaner) finish(ctx context.Context) (pods int, err error) {
	unlock, err := c.lock(ctx, 0)
	if errors.Is(err, ErrRunning) {
		c.say("margay-agent runs on this node again; the rest is left to it")
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer unlock()
	return c.rest(ctx, c.calico())
}

// rest removes what pods need, unless there are any.
func (c *Cleaner) rest(ctx context.Context, calico bool) (pods int, err error) {
	if pods, err = c.pods(calico); err != nil || pods > 0 {
		return pods, err
	}
	err = errors.Join(c.plugins(), c.managers(ctx), c.state())
	return 0, err
}

// lock takes the journal's lock, so that no agent starts meanwhile. Without a journal nobody ran here.
func (c *Cleaner) lock(ctx context.Context, patience time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.Journal, "lock"), os.O_RDWR|syscall.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open journal's lock: %w", err)
	}
	for end := time.Now().Add(patience); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock journal: %w", err)
		}
		if time.Now().After(end) || ctx.Err() != nil {
			f.Close()
			return nil, ErrRunning
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Cleaner) say(line string) {
	c.said++
	_, _ = fmt.Fprintln(c.Out, line)
}
