package keybroker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
)

// Option is a setting of [New].
type Option func(*settings)

type settings struct {
	callTimeout    time.Duration
	connectTimeout time.Duration
	closeTimeout   time.Duration
	reportPatience time.Duration
	reportQueue    int
	token          string
	plaintextToken bool
	tls            *tls.Config
	caFile         string
	certFile       string
	keyFile        string
	serverName     string
	propagator     propagation.TextMapPropagator
	logger         *slog.Logger
	dial           []grpc.DialOption
}

func defaults() settings {
	return settings{
		callTimeout:    5 * time.Second,
		connectTimeout: 3 * time.Second,
		closeTimeout:   10 * time.Second,
		reportPatience: 60 * time.Second,
		reportQueue:    10_000,
		propagator:     propagation.TraceContext{},
		logger:         slog.Default(),
	}
}

// WithCallTimeout sets the deadline of each call to the broker; Acquire has its Wait on top. Default: 5 s.
func WithCallTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.callTimeout = timeout }
}

// WithConnectTimeout sets how long a connection may take to be made, for each address. Default: 3 s.
func WithConnectTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.connectTimeout = timeout }
}

// WithCloseTimeout sets how long [Client.Close] waits for reports. Default: 10 s.
func WithCloseTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.closeTimeout = timeout }
}

// WithReportPatience sets how long the delivery of a report is tried while no broker answers. Default: 60 s.
func WithReportPatience(patience time.Duration) Option {
	return func(s *settings) { s.reportPatience = patience }
}

// WithReportQueue sets how many reports may wait to be delivered; more are given up. Default: 10,000.
func WithReportQueue(reports int) Option {
	return func(s *settings) { s.reportQueue = max(reports, 1) }
}

// WithToken sends a bearer token with each call, in the metadata "authorization". Without TLS it is sent to
// loopback addresses only, unless [WithPlaintextToken] allows more.
func WithToken(token string) Option {
	return func(s *settings) { s.token = token }
}

// WithPlaintextToken allows the token to be sent without TLS to any address, where others may read it.
func WithPlaintextToken() Option {
	return func(s *settings) { s.plaintextToken = true }
}

// WithTLS encrypts with this configuration.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = config }
}

// WithCAFile encrypts, and trusts the certificate authorities in this file of PEM form alone.
func WithCAFile(file string) Option {
	return func(s *settings) { s.caFile = file }
}

// WithClientCertificate encrypts, and shows the broker this certificate: files of PEM form.
func WithClientCertificate(certFile, keyFile string) Option {
	return func(s *settings) { s.certFile, s.keyFile = certFile, keyFile }
}

// WithServerName encrypts, and expects this name in the broker's certificate.
func WithServerName(name string) Option {
	return func(s *settings) { s.serverName = name }
}

// WithPropagator passes the OpenTelemetry context on by this propagator. Default: W3C traceparent.
func WithPropagator(propagator propagation.TextMapPropagator) Option {
	return func(s *settings) { s.propagator = propagator }
}

// WithLogger sets where lost reports and failed renewals are told. Default: [slog.Default].
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) { s.logger = logger }
}

// WithDialOptions adds options to each gRPC connection, after those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// encryption gives the TLS configuration that the options ask for; nil if they ask for none.
func (s *settings) encryption(wanted bool) (*tls.Config, error) {
	if s.tls == nil && s.caFile == "" && s.certFile == "" && s.serverName == "" && !wanted {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.tls != nil {
		config = s.tls.Clone()
	}
	if s.caFile != "" {
		pem, err := os.ReadFile(s.caFile)
		if err != nil {
			return nil, invalid("WithCAFile", err.Error())
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("WithCAFile", s.caFile+" holds no certificate in PEM form")
		}
	}
	if s.certFile != "" || s.keyFile != "" {
		certificate, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
		if err != nil {
			return nil, invalid("WithClientCertificate", err.Error())
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	if s.serverName != "" {
		config.ServerName = s.serverName
	}
	return config, nil
}

// address is one of a broker's addresses, understood.
type address struct {
	target    string // For gRPC.
	shown     string // For people.
	encrypted bool
	loopback  bool
}

func parseAddresses(list string) ([]address, error) {
	var parsed []address
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		one, err := parseAddress(part)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, one)
	}
	if len(parsed) == 0 {
		return nil, invalid("address", "it is empty: give the broker's as host:port, several with commas between")
	}
	return parsed, nil
}

func parseAddress(text string) (address, error) {
	if strings.HasPrefix(text, "unix:") {
		return address{target: text, shown: text, loopback: true}, nil
	}
	wrong := func(why string) (address, error) {
		return address{}, invalid("address", fmt.Sprintf("%q cannot be used, give host:port: %s", text, why))
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "http", text
	}
	if scheme != "http" && scheme != "https" {
		return wrong("the scheme must be http, or https for TLS")
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	if err != nil {
		return wrong(err.Error())
	}
	if host == "" || strings.ContainsAny(host, " /@?#") {
		return wrong("it has no host")
	}
	if number, err := net.LookupPort("tcp", port); err != nil || number == 0 {
		return wrong("the port must be a number from 1 to 65535")
	}
	joined := net.JoinHostPort(host, port)
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	return address{target: "dns:///" + joined, shown: joined, encrypted: scheme == "https", loopback: loopback}, nil
}
