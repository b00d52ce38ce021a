package lab

import (
	"net"
	"sync"
)

// forwarder passes connections from a node's loopback on to the machine's.
type forwarder struct {
	ns   *NS
	addr string
	gate sync.RWMutex // held for writing while nothing passes

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]struct{}
}

// open begins to listen.
func (f *forwarder) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.l != nil {
		return nil
	}
	err := f.ns.Do(func() (err error) {
		f.l, err = net.Listen("tcp", f.addr)
		return err
	})
	if err != nil {
		return err
	}
	f.conns = map[net.Conn]struct{}{}
	go f.accept(f.l)
	return nil
}

// cut ends all connections; new ones are refused.
func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.l == nil {
		return
	}
	f.l.Close()
	f.l = nil
	for c := range f.conns {
		c.Close()
	}
}

func (f *forwarder) accept(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", f.addr)
		if err != nil {
			in.Close()
			continue
		}
		f.mu.Lock()
		if f.l != l {
			f.mu.Unlock()
			in.Close()
			out.Close()
			return
		}
		f.conns[in], f.conns[out] = struct{}{}, struct{}{}
		f.mu.Unlock()
		go f.pass(in, out)
		go f.pass(out, in)
	}
}

func (f *forwarder) pass(from, to net.Conn) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		f.gate.RLock()
		_, werr := to.Write(b[:n])
		f.gate.RUnlock()
		if err != nil || werr != nil {
			break
		}
	}
	from.Close()
	to.Close()
	f.mu.Lock()
	delete(f.conns, from)
	delete(f.conns, to)
	f.mu.Unlock()
}
