// Package apiserver runs a real etcd and kube-apiserver on loopback, for tests that need the API's own behaviour: schema
// validation, compare-and-swap, watches, RBAC.
//
// It owns the two processes and a temporary directory, and promises that neither outlives the test program, however
// that ends: the kernel kills the processes when the thread that started them is gone. Ports are held from before the
// processes start until after they ended, so that packages tested side by side never meet on one. It never builds
// anything: the programs come from the cache that "test/kube/build kube etcd" fills, or from the directory
// MARGAY_KUBE_BIN.
//
// There is no controller manager: nothing makes service accounts, collects garbage or finishes namespaces. Pods may be
// created without a service account.
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// readyTimeout is how long both processes together may take; two to four seconds are usual.
const readyTimeout = 90 * time.Second

// Server is a running API server. Its methods are for one goroutine at a time.
type Server struct {
	dir     string
	bin     string
	api     *port
	client  *port // etcd's
	peer    *port // etcd's
	creds   creds
	etcd    *process
	apiproc *process
}

// Start runs an API server for the length of the test and returns an administrator's access to it. It is a fatal error
// when the programs are missing; under -short the test is skipped.
func Start(t testing.TB) *rest.Config {
	t.Helper()
	return StartServer(t).Config()
}

// StartServer is Start for tests that also stop the API server for a while: see Down and Up.
func StartServer(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop API server: %v", err)
		}
	})
	return s
}

// New runs an API server that TestMain shares between the tests of a package; Stop ends it.
func New() (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "margay-apiserver-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, bin: bin}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) start() error {
	for _, p := range []**port{&s.api, &s.client, &s.peer} {
		var err error
		if *p, err = holdPort(); err != nil {
			return err
		}
	}
	var err error
	if s.creds, err = newCreds(s.dir); err != nil {
		return err
	}
	if s.etcd, err = run(s.dir, filepath.Join(s.bin, "etcd"), s.etcdArgs()...); err != nil {
		return err
	}
	return s.Up()
}

// Config is an administrator's access. The caller owns the copy; no rate limit is set on the client's side.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host:            s.api.url("https"),
		BearerToken:     s.creds.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.creds.cert},
		QPS:             -1,
	}
}

// ConfigAs is the access of a service account, for tests of RBAC. Neither account nor namespace needs to exist.
func (s *Server) ConfigAs(namespace, account string) *rest.Config {
	c := s.Config()
	c.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return c
}

// Down kills the API server, as a crash would; etcd goes on. Connections are refused until Up.
func (s *Server) Down() error { return s.apiproc.stop() }

// Up starts the API server on the same port with the same data and returns when it is ready.
func (s *Server) Up() error {
	var err error
	s.apiproc, err = run(s.dir, filepath.Join(s.bin, "kube-apiserver"), s.apiArgs()...)
	if err != nil {
		return err
	}
	return s.waitReady()
}

// Stop ends both processes and removes what they wrote. It may be called more than once.
func (s *Server) Stop() error {
	err := errors.Join(s.apiproc.stop(), s.etcd.stop())
	for _, p := range []*port{s.api, s.client, s.peer} {
		p.release()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Server) etcdArgs() []string {
	client, peer := s.client.url("http"), s.peer.url("http")
	return []string{
		"--name=test", "--data-dir=" + filepath.Join(s.dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=test=" + peer,
		"--socket-reuse-port", "--unsafe-no-fsync", "--log-level=warn",
	}
}

func (s *Server) apiArgs() []string {
	return []string{
		"--etcd-servers=" + s.client.url("http"),
		"--bind-address=127.0.0.1", "--secure-port=" + s.api.String(), "--permit-port-sharing",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--tls-cert-file=" + s.creds.certFile, "--tls-private-key-file=" + s.creds.keyFile,
		"--token-auth-file=" + s.creds.tokenFile, "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + s.creds.keyFile, "--service-account-signing-key-file=" + s.creds.keyFile,
		"--disable-admission-plugins=ServiceAccount", "--allow-privileged",
	}
}

// waitReady asks /readyz until it says yes, or a process has ended, or readyTimeout has passed.
func (s *Server) waitReady() error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.creds.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !s.ready(ctx, client) {
		select {
		case <-tick.C:
		case <-s.etcd.done:
			return fmt.Errorf("etcd ended: %s", s.etcd.lastLines())
		case <-s.apiproc.done:
			return fmt.Errorf("kube-apiserver ended: %s", s.apiproc.lastLines())
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver not ready after %s: %s", readyTimeout, s.apiproc.lastLines())
		}
	}
	return nil
}

func (s *Server) ready(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api.url("https")+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+s.creds.token)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
