package plugin

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// How long the agent is waited for.
const (
	addPatience  = 4500 * time.Millisecond // for the socket, by ADD: a restarting agent is back by then
	delPatience  = time.Second             // for room in the socket's queue, by all others; an absent agent ends the wait at once
	delTimeout   = 2 * time.Second         // for the answer to release
	firstPause   = 10 * time.Millisecond   // between two attempts; doubled each time
	longestPause = 250 * time.Millisecond
)

// agent is a connection to the node's agent. After a failed exchange it must not be used again: a late answer would be
// taken for the next request's.
type agent struct {
	conn   net.Conn
	r      *bufio.Reader
	broken bool
}

// dial connects to the agent. With wait, an agent that is not running is waited for; a full queue always is.
// The error is an *agentError.
func dial(path string, patience time.Duration, wait bool) (*agent, error) {
	deadline := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			return &agent{conn: conn, r: wire.Reader(conn)}, nil
		}
		absent := errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
		again := errors.Is(err, syscall.EAGAIN) || wait && absent
		if !again || time.Until(deadline) < pause {
			if absent {
				err = fmt.Errorf("the agent is not running on this node: nothing listens on %s", path)
			}
			return nil, &agentError{"dial agent", err}
		}
		time.Sleep(pause)
	}
}

// ask sends a request and waits for its answer. The error is an *agentError when there is none, and the answer's own
// when that is not OK; the answer is nil only in the first case.
func (a *agent) ask(req *wire.Request, timeout time.Duration) (*wire.Response, error) {
	resp, err := a.exchange(req, timeout)
	if err != nil {
		a.broken = true
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", timeout)
		}
		return nil, &agentError{"ask agent to " + string(req.Op), err}
	}
	return resp, resp.Err()
}

func (a *agent) exchange(req *wire.Request, timeout time.Duration) (*wire.Response, error) {
	if err := a.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if err := wire.Write(a.conn, req); err != nil {
		return nil, err
	}
	var resp wire.Response
	if err := wire.Read(a.r, &resp); err != nil {
		return nil, err
	}
	return &resp, nil
}

func (a *agent) close() { a.conn.Close() }

// askOnce dials, asks one thing and hangs up. It does not wait for an agent that is not running.
func askOnce(path string, req *wire.Request, timeout time.Duration) (*wire.Response, error) {
	a, err := dial(path, delPatience, false)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.ask(req, timeout)
}
