package keybroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
)

// authority signs certificates for a test.
type authority struct {
	t           *testing.T
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	made := &authority{t: t, folder: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	made.certificate, made.key, made.file, _ = made.sign("ca", template, nil)
	return made
}

func (a *authority) sign(name string, template *x509.Certificate, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(suffix, kind string, bytes []byte) string {
		file := filepath.Join(a.folder, name+suffix)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return file
	}
	return certificate, key, write(".pem", "CERTIFICATE", der), write("-key.pem", "PRIVATE KEY", private)
}

// issue gives the files of a certificate for this name.
func (a *authority) issue(name string) (certFile, keyFile string) {
	a.t.Helper()
	_, _, certFile, keyFile = a.sign(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	authority := newAuthority(t)
	certFile, keyFile := authority.issue("broker.test")
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.certificate)
	address, stop := serve(&server{token: "fake-token"}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	})))
	defer stop()
	own, ownKey := authority.issue("worker.test")

	all := []keybroker.Option{
		keybroker.WithCAFile(authority.file), keybroker.WithServerName("broker.test"),
		keybroker.WithClientCertificate(own, ownKey), keybroker.WithToken("fake-token"),
	}
	free(t, connect(t, address, all...))
	free(t, connect(t, "https://"+address, all...))

	for word, options := range map[string][]keybroker.Option{
		"certificate": {keybroker.WithServerName("broker.test")},
		"elsewhere":   {keybroker.WithCAFile(authority.file), keybroker.WithServerName("elsewhere.test"), keybroker.WithClientCertificate(own, ownKey)},
	} {
		_, err := connect(t, address, options...).Acquire(t.Context(), keybroker.Request{Model: model})
		if !errors.Is(err, keybroker.ErrUnavailable) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", word, err)
		}
	}
	// A token may go to any address where it is encrypted.
	if client, err := keybroker.New("broker.example:50051", keybroker.WithToken("fake-token"), keybroker.WithCAFile(authority.file)); err != nil {
		t.Error(err)
	} else {
		client.Close()
	}
	if _, err := keybroker.New("broker.example:50051", keybroker.WithCAFile(keyFile)); !errors.Is(err, keybroker.ErrInvalidArgument) {
		t.Errorf("a file without a certificate gave %v", err)
	}
	// What is not encrypted is not understood.
	if _, err := connect(t, address).Acquire(t.Context(), keybroker.Request{Model: model}); !errors.Is(err, keybroker.ErrUnavailable) {
		t.Errorf("plain text gave %v", err)
	}
}

func TestAWaitForAnAddressEndsWithItsContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := connect(t, listener.Addr().String(), keybroker.WithServerName("broker.test"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = client.Acquire(ctx, keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrDeadlineExceeded) {
		t.Errorf("it gave %v", err)
	}
}
