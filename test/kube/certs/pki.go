package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki is a directory of NAME.crt, NAME.key and NAME.conf files. Each method
// makes what its name says unless it is there.
type pki struct{ dir string }

func (p pki) path(file string) string { return filepath.Join(p.dir, file) }

func (p pki) has(file string) bool {
	_, err := os.Stat(p.path(file))
	return err == nil
}

func (p pki) write(file, kind string, der []byte) error {
	return os.WriteFile(p.path(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (p pki) read(file string) ([]byte, error) {
	b, err := os.ReadFile(p.path(file))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New(file + " holds no PEM block")
	}
	return block.Bytes, nil
}

// authority makes a certificate authority.
func (p pki) authority(name string) error {
	if p.has(name + ".crt") {
		return nil
	}
	t := template(name, "", 10)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return p.issue(name, t, t, nil)
}

// leaf makes a certificate for clients, and for servers too if it has names.
func (p pki) leaf(authority, name, user, group string, names []string) error {
	if p.has(name + ".crt") {
		return nil
	}
	der, err := p.read(authority + ".crt")
	if err != nil {
		return err
	}
	parent, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if der, err = p.read(authority + ".key"); err != nil {
		return err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return err
	}
	t := template(user, group, 5)
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if n != "" {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	if len(names) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return p.issue(name, t, parent, key)
}

// issue makes a key and its certificate, signed by signer or by itself. The
// certificate is written last: it stands for both.
func (p pki) issue(name string, t, parent *x509.Certificate, signer crypto.Signer) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := p.write(name+".key", "EC PRIVATE KEY", keyDER); err != nil {
		return err
	}
	return p.write(name+".crt", "CERTIFICATE", der)
}

// serviceAccountKey makes the key that signs service account tokens.
func (p pki) serviceAccountKey(name string) error {
	if p.has(name + ".pub") {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := p.write(name+".key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)); err != nil {
		return err
	}
	return p.write(name+".pub", "PUBLIC KEY", pub)
}

// user makes a client certificate and the kubeconfig that carries it.
func (p pki) user(name, user, group, server string) error {
	if err := p.leaf("ca", name, user, group, nil); err != nil {
		return err
	}
	var data [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		b, err := os.ReadFile(p.path(file))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(b)
	}
	conf := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: kube
  cluster: {server: "%s", certificate-authority-data: %s}
users:
- name: %s
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: kube
  context: {cluster: kube, user: %s}
current-context: kube
`, server, data[0], name, data[1], data[2], name)
	return os.WriteFile(p.path(name+".conf"), []byte(conf), 0o600)
}

func template(commonName, organization string, years int) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the kernel's random source does not fail
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(years, 0, 0),
	}
	if organization != "" {
		t.Subject.Organization = []string{organization}
	}
	return t
}
