package bench

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/margay-net/margay/test/lab"
)

// door stands between an agent and the API server, with TLS and HTTP/2 on both sides: it notes each request as it comes
// in, and can hold all of them back.
type door struct {
	server *httptest.Server
	proxy  *httputil.ReverseProxy

	mu   sync.Mutex
	seen []request
	held chan struct{} // closed when requests may pass; nil: they may
}

type request struct {
	at           time.Time
	method, what string // what: resource and, if any, subresource
}

// newDoor opens a door on the loopback of a namespace.
func newDoor(t *testing.T, ns *lab.NS, to *rest.Config) *door {
	t.Helper()
	target, err := url.Parse(to.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(&rest.Config{TLSClientConfig: to.TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{}
	d.proxy = &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = target.Host
	}}
	d.server = httptest.NewUnstartedServer(d)
	d.server.Listener.Close()
	if err := ns.Do(func() (err error) { d.server.Listener, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	d.server.EnableHTTP2 = true
	d.server.StartTLS()
	t.Cleanup(func() { d.server.CloseClientConnections() })
	return d
}

// ServeHTTP notes a request and passes it on.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.seen = append(d.seen, request{time.Now(), r.Method, resource(r.URL.Path)})
	held := d.held
	d.mu.Unlock()
	if held != nil {
		<-held
	}
	d.proxy.ServeHTTP(w, r)
}

// resource cuts /api/v1/nodes/node1/status down to nodes/status.
func resource(path string) string {
	p := strings.Split(strings.Trim(path, "/"), "/")
	if len(p) > 2 && p[0] == "api" {
		p = p[2:]
	} else if len(p) > 3 && p[0] == "apis" {
		p = p[3:]
	}
	if len(p) > 2 {
		return p[0] + "/" + p[2]
	}
	return p[0]
}

// kubeconfig writes a file that leads through the door.
func (d *door) kubeconfig(t *testing.T, as *rest.Config) string {
	t.Helper()
	as = rest.CopyConfig(as)
	as.Host = d.server.URL
	as.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.server.Certificate().Raw})
	return kubeconfig(t, as)
}

// kubeconfig writes a file for an access.
func kubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	file := clientcmdapi.NewConfig()
	file.Clusters["bench"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	file.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: c.BearerToken, Impersonate: c.Impersonate.UserName, ImpersonateGroups: c.Impersonate.Groups}
	file.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	file.CurrentContext = "bench"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// since returns the requests that came in since then.
func (d *door) since(then time.Time) []request {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, _ := slices.BinarySearchFunc(d.seen, then, func(r request, t time.Time) int { return r.at.Compare(t) })
	return slices.Clone(d.seen[i:])
}

// settle waits until no request has come in for a while.
func (d *door) settle(t *testing.T) {
	t.Helper()
	const quiet = 450 * time.Millisecond // changes gather for 300 ms before they are written
	time.Sleep(quiet)
	eventually(t, 30*time.Second, "agent has settled", func() bool { return len(d.since(time.Now().Add(-quiet))) == 0 })
}

func (d *door) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = make(chan struct{})
}

func (d *door) pass() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.held)
	d.held = nil
}

// split counts writes and reads, and says which they were.
func split(list []request) (writes, reads float64, text string) {
	kinds := map[string]int{}
	for _, r := range list {
		if r.method == http.MethodGet {
			reads++
		} else {
			writes++
		}
		kinds[r.method+" "+r.what]++
	}
	var parts []string
	for k, n := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", n, k))
	}
	slices.Sort(parts)
	return writes, reads, strings.Join(parts, ", ")
}

// apiRequests counts what the agent asks of the API server.
func apiRequests(t *testing.T, b *bench, r *report) {
	n := count("N", 60)
	node := b.lab(t).New(t, lab.Options{Stopped: true}).Nodes[0]
	d := newDoor(t, node.NS, b.cluster.Server.Config())
	node.Env = map[string]string{"KUBECONFIG": d.kubeconfig(t, b.cluster.Server.ConfigAs("kube-system", "margay-node"))}
	node.Start()
	node.WaitReady(30 * time.Second)
	rig := b.margay(t, node)

	waited := withoutAPI(t, rig, d)
	// What comes in between the start of an ADD and its end, when all that went before has settled, is its own doing. It
	// need not wait for it: the settle loop runs beside it, and at once when a block is nearly full.
	alone := rig.pods(n)
	during := map[string]sample{}
	for _, verb := range []string{"ADD", "DEL"} {
		var met []request
		for _, p := range alone {
			d.settle(t)
			begin := time.Now()
			rig.call(verb, p)
			seen := d.since(begin)
			met = append(met, seen...)
			during[verb] = append(during[verb], float64(len(seen)))
		}
		if _, _, text := split(met); text != "" {
			r.note("while %d lone %ss ran, the settle loop sent %s", n, verb, text)
		}
	}
	closeAll(alone)
	r.add(
		row{what: "requests that an ADD waits for", unit: "1", ours: waited, aim: never()},
		row{what: "requests while a lone ADD runs", unit: "1", ours: during["ADD"]},
		row{what: "requests while a lone DEL runs", unit: "1", ours: during["DEL"]})

	all := rig.pods(n)
	for _, verb := range []string{"ADD", "DEL"} {
		d.settle(t)
		begin := time.Now()
		for _, p := range all {
			rig.call(verb, p)
		}
		d.settle(t)
		writes, reads, text := split(d.since(begin))
		r.add(
			row{what: "writes per " + verb + ", settled", unit: "1", n: n, ours: sample{writes / float64(n)}},
			row{what: "reads per " + verb + ", settled", unit: "1", n: n, ours: sample{reads / float64(n)}})
		r.note("%d %ss in a row: %s", n, verb, text)
	}
	r.note("counted by a proxy at the API server's door; ptp asks nothing")
}

// withoutAPI adds pods while the API server answers nothing, as many as the owner's part of a block has room for; a pod
// whose ADD fails then has waited for a request.
func withoutAPI(t *testing.T, rig *rig, d *door) (waited sample) {
	t.Helper()
	const room = 28
	pods := rig.pods(room)
	d.settle(t)
	d.hold()
	for _, p := range pods {
		_, _, err := rig.try("ADD", p)
		if err != nil {
			waited = append(waited, 1)
			t.Logf("ADD while the API server answers nothing: %v", err)
		} else {
			waited = append(waited, 0)
		}
	}
	d.pass()
	rig.together("DEL", pods)
	closeAll(pods)
	return waited
}
