package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// note is the last that went wrong with a session.
type note struct {
	text string
	at   time.Time
	rank int // a more telling one is not replaced within a moment
}

// moment is how long after a telling note less telling ones of the same failure follow.
const moment = 2 * time.Second

// logger reads GoBGP's log, the only place where it says why a session is not up, and passes on what a person should see.
type logger struct {
	log  *slog.Logger
	down atomic.Int32 // sessions that are not up
	mu   sync.Mutex
	last map[netip.Addr]note
}

// GetLevel makes GoBGP tell more while a session is down: why it can't connect is there only.
func (l *logger) GetLevel() log.LogLevel {
	if l.down.Load() > 0 {
		return log.DebugLevel
	}
	return log.InfoLevel
}

// SetLevel does nothing: the level follows from the sessions.
func (l *logger) SetLevel(log.LogLevel) {}

// Panic reports a broken invariant of GoBGP.
func (l *logger) Panic(msg string, f log.Fields) {
	l.log.Error("bgp is broken", "what", msg, "fields", fmt.Sprint(f))
	panic("gobgp: " + msg)
}

// Fatal and Error report what GoBGP could not do.
func (l *logger) Fatal(msg string, f log.Fields) { l.Error(msg, f) }

// Error reports what GoBGP could not do.
func (l *logger) Error(msg string, f log.Fields) {
	l.log.Error("bgp failed", "what", msg, "fields", fmt.Sprint(f))
}

// Warn takes in what goes wrong with sessions.
func (l *logger) Warn(msg string, f log.Fields) { l.read(msg, f) }

// Info takes in that sessions end.
func (l *logger) Info(msg string, f log.Fields) { l.read(msg, f) }

// Debug takes in failed connections.
func (l *logger) Debug(msg string, f log.Fields) { l.read(msg, f) }

func (l *logger) read(msg string, f log.Fields) {
	key, _ := f["Key"].(string)
	peer, err := netip.ParseAddr(key)
	if err != nil {
		return
	}
	text, rank := explain(msg, f)
	if rank == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.last[peer]; rank >= old.rank || time.Since(old.at) > moment {
		l.last[peer] = note{text: text, at: time.Now(), rank: rank}
	}
}

// explain turns one of GoBGP's log messages into what a person needs to know; rank 0: it is of no interest.
func explain(msg string, f log.Fields) (text string, rank int) {
	switch msg {
	case "failed to connect":
		return unreachable(f["Error"]), 2
	case "hold timer expired":
		return "hold timer expired", 3
	case "received notification":
		text := "peer closed: " + notification(f["Code"], f["Subcode"])
		if c, _ := f["Communicated-Reason"].(string); c != "" {
			text += ": " + c
		}
		return text, 3
	case "sent notification":
		if e, ok := f["Data"].(*bgp.MessageError); ok {
			return "closed: " + e.Error(), 3
		}
		return "closed: " + notification(f["Code"], f["Subcode"]), 3
	case "Mismatched local address":
		return fmt.Sprintf("peer connected to %v, want %v", f["Addr"], f["Configured addr"]), 2
	case "Peer Down":
		return fmt.Sprintf("session ended: %v", f["Reason"]), 1
	case "state changed":
		if old := f["old"]; f["new"] == "BGP_FSM_IDLE" && (old == "BGP_FSM_OPENSENT" || old == "BGP_FSM_OPENCONFIRM") {
			return "peer closed while opening: it does not know us, or by another AS number", 1
		}
	}
	return "", 0
}

// unreachable tells the bare cause of a failed connection.
func unreachable(v any) string {
	err, _ := v.(error)
	var op *net.OpError
	var call *os.SyscallError
	switch {
	case errors.As(err, &call):
		return "connect: " + call.Err.Error()
	case errors.As(err, &op) && op.Timeout():
		return "connect: timeout"
	}
	return fmt.Sprint("connect: ", v)
}

func notification(code, sub any) string {
	c, _ := code.(uint8)
	s, _ := sub.(uint8)
	return bgp.NewNotificationErrorCode(c, s).String()
}

// note returns the last that went wrong with a peer.
func (l *logger) note(peer netip.Addr) note {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[peer]
}
