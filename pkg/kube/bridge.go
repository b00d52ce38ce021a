package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bridge is the way to the API server. Where the cluster keeps our resources in crd.projectcalico.org/v1, requests for
// projectcalico.org/v3 go there, and both requests and answers are turned from the one form into the other, so that
// nobody else in this package sees more than one. Everything else passes untouched.
type bridge struct {
	next http.RoundTripper
	v1   *atomic.Bool // the cluster's group is v1
}

// RoundTrip makes one request.
func (b *bridge) RoundTrip(r *http.Request) (*http.Response, error) {
	before, path, ours := strings.Cut(r.URL.Path, "/apis/"+GroupV3+"/")
	if !ours || !b.v1.Load() {
		return b.next.RoundTrip(r)
	}
	k, name, path, err := pathInV1(path)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = before+"/apis/"+GroupV1+"/"+path, ""
	r.Header.Set("Accept", "application/json")
	if err := bodyInV1(r, k, name); err != nil {
		return nil, err
	}
	resp, err := b.next.RoundTrip(r)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		return resp, err
	}
	if watching, _ := strconv.ParseBool(r.URL.Query().Get("watch")); watching {
		resp.Body = &events{from: resp.Body, in: json.NewDecoder(resp.Body)}
		return resp, nil
	}
	return resp, bodyInV3(resp)
}

// pathInV1 reads what follows the group in a path: [namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]].
func pathInV1(path string) (k Kind, name, v1 string, err error) {
	parts := strings.Split(path, "/")
	at := 0
	if parts[0] == "namespaces" && len(parts) > 2 {
		at = 2
	}
	k, ok := KindOf(parts[at])
	if !ok {
		return k, "", "", fmt.Errorf("no resource %q in %s", parts[at], GroupV1)
	}
	_, parts[at] = k.inV1()
	if len(parts) > at+1 {
		name = parts[at+1]
	}
	return k, name, strings.Join(parts, "/"), nil
}

// bodyInV1 turns what a request says.
func bodyInV1(r *http.Request, k Kind, name string) error {
	if r.Body == nil || r.Method == http.MethodGet {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodPatch:
		err = errors.New("a patch of " + k.Plural + " is not possible in " + GroupV1 + ": update the object")
	case http.MethodDelete:
		body, err = preconditions(body)
	default:
		body, err = toV1(body, k, name)
	}
	if err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return nil
}

// preconditions turns the UID that an object to delete must have.
func preconditions(body []byte) ([]byte, error) {
	if len(body) == 0 {
		return body, nil
	}
	var o metav1.DeleteOptions
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	if p := o.Preconditions; p != nil && p.UID != nil {
		uid := types.UID(turned(string(*p.UID)))
		p.UID = &uid
	}
	return json.Marshal(&o)
}

// bodyInV3 turns what the API server answers.
func bodyInV3(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	if len(body) > 0 {
		if body, err = toV3(body); err != nil {
			return err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return nil
}

// events is the stream of a watch, turned event by event.
type events struct {
	from io.Closer
	in   *json.Decoder
	out  []byte // what is left of the event that is being read
}

// Read reads on in the event, or waits for the next one.
func (e *events) Read(p []byte) (int, error) {
	if len(e.out) == 0 {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := e.in.Decode(&event)
		if err != nil {
			return 0, err
		}
		if event.Object, err = toV3(event.Object); err != nil {
			return 0, err
		}
		if e.out, err = json.Marshal(event); err != nil {
			return 0, err
		}
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	return n, nil
}

// Close ends the watch.
func (e *events) Close() error { return e.from.Close() }
