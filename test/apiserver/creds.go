package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// creds are what the API server proves itself with, and an administrator to it. They are good for one day.
type creds struct {
	cert                         []byte // PEM, signed by itself
	token                        string // of a member of system:masters
	certFile, keyFile, tokenFile string
}

// newCreds makes them and writes the files into dir. The key also signs service accounts' tokens.
func newCreds(dir string) (creds, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return creds{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "margay test API server"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return creds{}, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return creds{}, err
	}
	c := creds{
		cert:      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		token:     rand.Text(),
		certFile:  filepath.Join(dir, "tls.crt"),
		keyFile:   filepath.Join(dir, "tls.key"),
		tokenFile: filepath.Join(dir, "tokens.csv"),
	}
	for path, content := range map[string][]byte{
		c.certFile:  c.cert,
		c.keyFile:   pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
		c.tokenFile: []byte(c.token + ",admin,admin,system:masters\n"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return creds{}, err
		}
	}
	return c, nil
}
