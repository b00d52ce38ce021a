package ipam_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
)

// errCut is what a request gets that does not reach the API server.
var errCut = errors.New("cut off from the API server")

// link is one node's way to the API server, which can be cut. What is under way then has no answer, watches end, and whether
// a write was carried out nobody here knows.
type link struct {
	news bool // it is only what watches and lists tell that is cut
	mu   sync.Mutex
	cut  bool
	doom int // the link is cut at the doom-th write from now; 0: at none
	open map[*pipe]context.CancelFunc
}

// over returns how to reach the API server by l.
func (l *link) over(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &wire{next, l} })
	return config
}

// set cuts or mends the link.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.doom = cut, 0
	if cut {
		for _, end := range l.open {
			end()
		}
	}
}

// cutAt cuts the link at the nth write from now.
func (l *link) cutAt(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doom = n
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// admit says whether a request may go, and whether it is the last one.
func (l *link) admit(p *pipe, r *http.Request, end context.CancelFunc) (last bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut && (!l.news || r.URL.Query().Has("watch") || r.URL.Query().Has("resourceVersion")) {
		return false, errCut
	}
	if l.open == nil {
		l.open = map[*pipe]context.CancelFunc{}
	}
	l.open[p] = end
	if r.Method != http.MethodGet && l.doom > 0 {
		l.doom--
		last = l.doom == 0
	}
	return last, nil
}

// wire carries the requests of a link.
type wire struct {
	next http.RoundTripper
	l    *link
}

// pipe is the body of an answer; its end is the request's.
type pipe struct {
	io.ReadCloser
	l   *link
	end context.CancelFunc
}

func (p *pipe) done() {
	p.end()
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	delete(p.l.open, p)
}

func (p *pipe) Close() error {
	defer p.done()
	return p.ReadCloser.Close()
}

// RoundTrip carries a request. The last write before a cut is carried out, and has no answer.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, end := context.WithCancel(r.Context())
	p := &pipe{l: w.l, end: end}
	last, err := w.l.admit(p, r, end)
	if err != nil {
		end()
		return nil, err
	}
	answer, err := w.next.RoundTrip(r.WithContext(ctx))
	if last {
		w.l.set(true)
	}
	if err == nil && last {
		answer.Body.Close()
		err = errCut
	}
	if err != nil {
		p.done()
		return nil, err
	}
	p.ReadCloser = answer.Body
	answer.Body = p
	return answer, nil
}
