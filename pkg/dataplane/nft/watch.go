package nft

import (
	"context"
	"errors"
	"fmt"
	"time"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
)

// Event names something that was made, changed or removed. Programs that speak iptables with the nftables backend cause
// them, too.
type Event struct {
	Family byte   // unix.NFPROTO_*
	Table  string // its name; what is no table, such as a rule, has that of its table
	Chain  string // its name, and that of a rule's chain; "" for all else
	Port   uint32 // of the socket that it was asked for on
}

// Watcher is a subscription to nftables' events.
type Watcher struct{ conn *nl.Conn }

// Watch asks for the events from now on, in the Conn's network namespace.
func Watch(c *netlink.Conn) (*Watcher, error) {
	w := &Watcher{}
	err := c.Do(func() (err error) {
		w.conn, err = nl.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	if err := errors.Join(w.conn.SetReadBuffer(eventBuffer), w.conn.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		return nil, errors.Join(fmt.Errorf("watch nftables: %w", err), w.conn.Close())
	}
	return w, nil
}

// eventBuffer is asked for as the receive buffer, in bytes: some 10,000 rules of other programs may change at once. The
// kernel takes the memory only while events wait.
const eventBuffer = 8 << 20

// Run calls changed once for each transaction with an event that matches, and when events were lost; whatever somebody
// does again and again, ten times a second at most. It ends with ctx, and closes the subscription then.
func (w *Watcher) Run(ctx context.Context, match func(Event) bool, changed func()) error {
	defer w.conn.Close()
	stop := context.AfterFunc(ctx, func() { w.conn.Close() })
	defer stop()
	matched := false
	for {
		messages, err := w.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			matched = false
			changed()
			continue
		case err != nil:
			return fmt.Errorf("watch nftables: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
				continue
			}
			if m.Header.Type&0xff != unix.NFT_MSG_NEWGEN {
				e, ok := parseEvent(m)
				matched = matched || ok && match(e)
				continue
			}
			if matched { // this was the transaction's last event
				matched = false
				changed()
				rest(ctx)
			}
		}
	}
}

// restTime is between two calls of changed.
const restTime = 100 * time.Millisecond

// rest keeps two programs that undo each other's work from taking the whole processor. Events wait in the socket.
func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(restTime):
	}
}

// parseEvent reads what all kinds of events have in common (linux/netfilter/nf_tables.h): the table's name is the first
// attribute of each.
func parseEvent(m nl.Message) (Event, bool) {
	if len(m.Data) < 4 { // struct nfgenmsg
		return Event{}, false
	}
	e := Event{Family: m.Data[0], Port: m.Header.PID}
	chain := uint16(0)
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		chain = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		chain = unix.NFTA_RULE_CHAIN
	}
	attrs, err := nl.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return Event{}, false
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.NFTA_TABLE_NAME:
			e.Table = attrs.String()
			if chain == 0 {
				return e, true
			}
		case chain:
			e.Chain = attrs.String()
			return e, true
		}
	}
	return e, attrs.Err() == nil
}
